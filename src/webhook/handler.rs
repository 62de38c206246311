//! From a request's bytes to an answer's bytes: what is not understood is refused with its reason, what fails or takes
//! too long is an error of ours, and everything is counted.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use futures::FutureExt;
use portcullis_api::{RuleId, SecurityPolicy, Severity};
use portcullis_engine::request::{BadRequest, Operation, Request, parse, parse_as};
use portcullis_engine::{CompiledPolicy, Decision};
use tracing::{debug, error, info};

use super::head::Head;
use super::response::Answer;
use super::{mutate, own_kinds, review};
use crate::context::Context;
use crate::error::describe;

/// Longest that live look-ups of one request take.
const LOOK_UPS: Duration = Duration::from_secs(2);

/// The webhooks, by path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Webhook {
    /// `/validate/TOKEN`
    Validate,
    /// `/mutate/TOKEN`
    Mutate,
    /// `/policies/TOKEN`
    Policies,
}

impl Webhook {
    /// Word for logs and metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Mutate => "mutate",
            Self::Policies => "policies",
        }
    }
}

/// Why a review is answered by its head alone.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Unread {
    /// It has more bytes than this.
    #[error("the body must have at most {0} bytes")]
    TooLarge(usize),
    /// Others take the memory that there is for bodies.
    #[error("too many requests are being answered: try again")]
    NoRoom,
    /// It did not arrive in time.
    #[error("the body did not arrive in time")]
    Slow,
}

impl Unread {
    /// The status of an HTTP answer, where not even the head is known.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
        }
    }

    fn answer(self, what: &str) -> Answer {
        match self {
            Self::TooLarge(limit) => Answer::too_large(what, limit),
            Self::NoRoom => Answer::failed(what, "too many requests are being answered"),
            Self::Slow => Answer::failed(what, "its review did not arrive in time"),
        }
    }
}

/// Answers the AdmissionReview in `body`, which began to arrive at `started`.
///
/// # Errors
/// The status and the text of an HTTP answer, when the body asks nothing that could be answered.
pub async fn answer(
    context: &Context,
    webhook: Webhook,
    body: &[u8],
    started: Instant,
) -> Result<Vec<u8>, (StatusCode, String)> {
    let (uid, what, answer) = match webhook {
        Webhook::Policies => {
            let request: Request<'_, SecurityPolicy> = parse_as(body).map_err(bad_request)?;
            let what = format!("SecurityPolicy {}/{}", request.namespace(), request.name());
            let uid = request.uid().to_owned();
            let review = async { own_kinds::review(context, &request) };
            let answer = guarded(context, &what, started, review).await;
            (uid, what, answer)
        }
        Webhook::Validate | Webhook::Mutate => {
            let request: Request<'_> = parse(body).map_err(bad_request)?;
            let what = review::what(&request);
            let (uid, namespace) = (request.uid().to_owned(), request.namespace().to_owned());
            let review = async {
                if webhook == Webhook::Mutate {
                    return mutate::mutate(context, request);
                }
                let deadline = (Instant::now() + LOOK_UPS).min(started + time_limit(context) * 3 / 4);
                review::validate(context, request, body, deadline.into()).await
            };
            let answer = guarded(context, &what, started, review).await;
            let refuses = || may_refuse(context, webhook, &namespace);
            (uid, what, tolerate(answer, refuses))
        }
    };
    record(context, webhook, &what, &answer, started.elapsed());
    write(answer, &uid)
}

/// Answers a review that was not read, for the reason `why`, and begins with `bytes`. An answer that is none, such as a
/// status of HTTP, would admit the object unjudged wherever the entry's `failurePolicy` is Ignore, and it is the object's
/// author who chooses its size, and how many others are sent beside it: 1.4 MiB of `<` are stored and are 8.4 MiB in a
/// review, which escapes them.
///
/// # Errors
/// The status and the text of an HTTP answer, when the bytes do not say which question to answer.
pub fn answer_unread(
    context: &Context,
    webhook: Webhook,
    bytes: &[u8],
    why: Unread,
    started: Instant,
) -> Result<Vec<u8>, (StatusCode, String)> {
    let head = Head::read(bytes);
    let Some(uid) = &head.uid else {
        return Err((why.status(), why.to_string()));
    };
    let changes = !matches!(head.operation, Some(Operation::Delete | Operation::Connect));
    // Of a namespace that nobody knows, anything could be refused.
    let refuses =
        |namespace: &String| webhook == Webhook::Policies || may_refuse(context, webhook, namespace);
    let what = head.what();
    let answer = match (changes, head.namespace.as_ref().is_none_or(refuses)) {
        (false, _) => Answer::allowed(),
        (true, true) => why.answer(&what),
        (true, false) => why.answer(&what).tolerated(),
    };
    record(context, webhook, &what, &answer, started.elapsed());
    write(answer, uid)
}

fn write(answer: Answer, uid: &str) -> Result<Vec<u8>, (StatusCode, String)> {
    answer.into_json(uid).map_err(|error| {
        error!(error = describe(&error), "Failed to write answer");
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer cannot be written".to_owned(),
        )
    })
}

fn bad_request(error: BadRequest) -> (StatusCode, String) {
    debug!(error = describe(&error), "Refused request");
    (StatusCode::BAD_REQUEST, error.to_string())
}

/// A little less than the API server waits: it is to get our text and not its own.
pub fn time_limit(context: &Context) -> Duration {
    let waits = Duration::from_secs(context.args.webhook_timeout_seconds.into());
    waits - waits.min(Duration::from_secs(2)) / 5
}

/// A panic or an expired time limit, counted from `started`, ends this one request, as an error of ours.
async fn guarded(
    context: &Context,
    what: &str,
    started: Instant,
    review: impl Future<Output = Answer>,
) -> Answer {
    let limit = time_limit(context).saturating_sub(started.elapsed());
    guard(what, limit, review).await
}

async fn guard(what: &str, limit: Duration, review: impl Future<Output = Answer>) -> Answer {
    // What a request touches beside its own values are maps that are swapped as a whole.
    let review = AssertUnwindSafe(review).catch_unwind();
    match tokio::time::timeout(limit, review).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Answer::failed(what, "a rule panicked"),
        Err(_) => Answer::failed(what, &format!("it took longer than {} ms", limit.as_millis())),
    }
}

/// Whether anything that can be found in `namespace` would be refused: by its policies under the cluster's ceiling. A Pod
/// that is to get a credential is refused when it does not, whatever they enforce.
fn may_refuse(context: &Context, webhook: Webhook, namespace: &str) -> bool {
    let ceiling = context.ceiling.get();
    let denies = |policy: &CompiledPolicy| {
        let mut severities = RuleId::ALL.iter().map(|it| policy.severity(*it).capped(ceiling));
        severities.any(|it| it == Severity::Deny)
    };
    let delivers = |policy: &CompiledPolicy| {
        let mut entries = policy.secrets.iter().flat_map(|it| &it.entries);
        webhook == Webhook::Mutate && entries.any(|it| !it.deliver_to.is_empty())
    };
    let policies = context.policies.in_force(namespace);
    policies.iter().any(|it| denies(it) || delivers(it))
}

/// An error of ours refuses only where a violation could; asked only then.
fn tolerate(answer: Answer, may_refuse: impl FnOnce() -> bool) -> Answer {
    if answer.decision == Decision::Error && !may_refuse() {
        return answer.tolerated();
    }
    answer
}

fn record(context: &Context, webhook: Webhook, what: &str, answer: &Answer, took: Duration) {
    let (name, decision) = (webhook.as_str(), answer.decision.as_str());
    context.metrics.request(name, decision, took);
    for violation in &answer.verdict.violations {
        context
            .metrics
            .violation(violation.rule, violation.effective_severity());
    }
    let violations = answer.verdict.violations.len();
    if answer.is_our_error {
        context.metrics.our_error();
        error!(
            webhook = name,
            object = what,
            decision,
            message = answer.message(),
            "Failed to judge object"
        );
    }
    match answer.decision {
        Decision::Error => {}
        Decision::Deny => info!(webhook = name, object = what, violations, "Denied object"),
        Decision::Allow | Decision::Warn => {
            debug!(
                webhook = name,
                object = what,
                decision,
                violations,
                "Reviewed object"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn r27_a_panic_in_a_rule_refuses_that_request_as_our_error() {
        let limit = Duration::from_secs(1);
        let answer = guard("Pod a/b", limit, async { panic!("in a rule") }).await;
        assert_eq!(answer.decision, Decision::Error);
        assert_eq!(
            answer.message().unwrap(),
            "Portcullis could not judge Pod a/b: a rule panicked. This is an error of Portcullis and not of the object: try again, and if it stays, look at the operator's log"
        );
        let next = guard("Pod a/b", limit, async { Answer::allowed() }).await;
        assert_eq!(next.decision, Decision::Allow);
    }

    #[tokio::test]
    async fn an_error_of_ours_refuses_only_where_a_violation_could() {
        let limit = Duration::from_secs(1);
        let failed = async || guard("Pod a/b", limit, async { panic!("in a rule") }).await;
        let refused = tolerate(failed().await, || true);
        assert_eq!((refused.decision, refused.is_our_error), (Decision::Error, true));
        let admitted = tolerate(failed().await, || false);
        assert_eq!((admitted.decision, admitted.is_our_error), (Decision::Warn, true));
        let json = String::from_utf8(admitted.into_json("1").unwrap()).unwrap();
        assert!(
            json.contains(
                r#""allowed":true,"warnings":["Portcullis could not judge Pod a/b: a rule panicked"#
            ),
            "{json}"
        );
    }

    #[tokio::test]
    async fn r41_what_takes_too_long_is_refused_as_our_error() {
        let answer = guard("Pod a/b", Duration::from_millis(10), std::future::pending()).await;
        assert!(answer.message().unwrap().contains("it took longer than 10 ms"));
    }
}
