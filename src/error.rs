//! Errors as people read them: in conditions, events, causes of answers and logs.

use std::error::Error;

use kube::core::Status;

/// An error with its causes as one sentence, each said once. Of the API server's answer only its message is kept: the
/// client's own text repeats it together with all fields of the answer. What could not be parsed is never repeated,
/// since it could be a part of a Secret's value.
pub(crate) fn describe(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let (text, cause) = link(error);
        let text = text.trim();
        if !text.is_empty() && parts.last().is_none_or(|it| it != text) {
            parts.push(text.to_owned());
        }
        next = cause;
    }
    parts.join(": ")
}

/// What an error says itself, and the cause that is still to be told.
fn link<'e>(error: &'e (dyn Error + 'static)) -> (String, Option<&'e (dyn Error + 'static)>) {
    if let Some(status) = status(error) {
        return (answer(status), None);
    }
    if let Some(error) = error.downcast_ref::<serde_json::Error>() {
        let text = format!(
            "what was read could not be parsed at line {}, column {}",
            error.line(),
            error.column()
        );
        return (text, None);
    }
    let cause = error.source();
    match error.downcast_ref::<kube::Error>() {
        // The cause says it all.
        Some(kube::Error::Api(_) | kube::Error::SerdeError(_)) => return (String::new(), cause),
        Some(kube::Error::Service(_) | kube::Error::HyperError(_)) => {
            return ("the API server could not be reached".to_owned(), cause);
        }
        _ => {}
    }
    let text = error.to_string();
    // Many errors end with the text of their cause, which follows anyway.
    let own = cause.and_then(|it| text.strip_suffix(&it.to_string()).map(str::to_owned));
    let own = own.map(|it| it.trim_end().trim_end_matches(':').to_owned());
    (own.unwrap_or(text), cause)
}

/// The API server's answer, boxed or not.
fn status<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Status> {
    let boxed = || error.downcast_ref::<Box<Status>>().map(AsRef::as_ref);
    error.downcast_ref::<Status>().or_else(boxed)
}

fn answer(status: &Status) -> String {
    if status.message.is_empty() {
        return format!("the API server answered {} {}", status.code, status.reason);
    }
    status.message.clone()
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher;
    use rstest::rstest;

    use super::*;

    /// What an API server answers to an account without the right.
    const FORBIDDEN: &str = r#"{"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "secrets is forbidden: User \"ann\" cannot list resource \"secrets\" in API group \"\" in the namespace \"agents\"",
        "reason": "Forbidden", "details": {"kind": "secrets"}, "code": 403}"#;

    const SAID: &str = "secrets is forbidden: User \"ann\" cannot list resource \"secrets\" in API group \"\" in the namespace \"agents\"";

    fn forbidden() -> Box<Status> {
        serde_json::from_str(FORBIDDEN).unwrap()
    }

    fn unreadable() -> serde_json::Error {
        serde_json::from_str::<i32>(r#""hunter2""#).unwrap_err()
    }

    fn refused() -> kube::Error {
        kube::Error::Service(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into())
    }

    #[derive(Debug, thiserror::Error)]
    #[error("failed to list NetworkPolicies of namespace `agents`")]
    struct Layer(#[source] kube::Error);

    #[rstest]
    #[case::answer(Box::new(kube::Error::Api(forbidden())), SAID.to_owned())]
    #[case::layer(
        Box::new(Layer(kube::Error::Api(forbidden()))),
        format!("failed to list NetworkPolicies of namespace `agents`: {SAID}")
    )]
    #[case::list(
        Box::new(watcher::Error::InitialListFailed(kube::Error::Api(forbidden()))),
        format!("failed to perform initial object list: {SAID}")
    )]
    #[case::watch(
        Box::new(watcher::Error::WatchError(forbidden())),
        format!("error returned by apiserver during watch: {SAID}")
    )]
    #[case::value(
        Box::new(Layer(kube::Error::SerdeError(unreadable()))),
        "failed to list NetworkPolicies of namespace `agents`: what was read could not be parsed at line 1, column 9".to_owned()
    )]
    #[case::away(
        Box::new(Layer(refused())),
        "failed to list NetworkPolicies of namespace `agents`: the API server could not be reached: connection refused".to_owned()
    )]
    #[case::silent(
        Box::new(kube::Error::Api(Status { code: 503, reason: "ServiceUnavailable".into(), ..Status::default() }.boxed())),
        "the API server answered 503 ServiceUnavailable".to_owned()
    )]
    fn an_error_is_one_sentence(#[case] error: Box<dyn Error>, #[case] expected: String) {
        assert_eq!(describe(error.as_ref()), expected);
    }

    #[test]
    fn an_error_of_several_layers_is_told_through_all_of_them() {
        let error = anyhow::Error::from(kube::Error::Api(forbidden())).context("controller");
        assert_eq!(describe(error.as_ref()), format!("controller: {SAID}"));
    }
}
