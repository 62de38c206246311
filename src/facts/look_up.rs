//! Live look-ups: before a denial that rests on a fact, the API server is asked once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::{Api, Resource};
use portcullis_engine::{ConfigMapFact, Fact, FactKey, Facts, SecretFact};
use tokio::time::{Instant, sleep, timeout_at};

use super::sources::{ConfigMapTexts, SecretKeys, Source};
use crate::context::{Context, SecretAccess};
use crate::controller;
use crate::error::describe;

/// Requests that one look-up has open at a time.
const PARALLEL: usize = 16;

/// How soon a Secret is asked for again after the right to read it was given: authorisation caches follow at once.
const RETRY: Duration = Duration::from_millis(50);

/// Where and how facts are looked up.
#[derive(Clone, Copy, Debug)]
pub struct LookUp<'r> {
    /// The namespace.
    pub namespace: &'r str,
    /// When an answer must be there; what has none then is unknown.
    pub deadline: Instant,
    /// Whether the operator may give itself the right to read the namespace's Secrets: never in a dry run.
    pub may_bind: bool,
}

/// Asks the API server for the objects `keys` and puts what it says into `facts`.
pub async fn look_up(context: &Context, how: LookUp<'_>, keys: &BTreeSet<FactKey>, facts: &mut Facts) {
    let requests: Vec<_> = keys
        .iter()
        .map(|key| {
            one(
                context.clone(),
                how.namespace.to_owned(),
                key.clone(),
                how.deadline,
                how.may_bind,
            )
        })
        .collect();
    let mut answers = futures::stream::iter(requests).buffer_unordered(PARALLEL);
    while let Some(answer) = answers.next().await {
        match answer {
            Answer::Secret(name, fact) => drop(facts.secrets.insert(name, fact)),
            Answer::ConfigMap(name, fact) => drop(facts.config_maps.insert(name, fact)),
        }
    }
}

enum Answer {
    Secret(String, Fact<Arc<SecretFact>>),
    ConfigMap(String, Fact<Arc<ConfigMapFact>>),
}

async fn one(context: Context, namespace: String, key: FactKey, deadline: Instant, may_bind: bool) -> Answer {
    match key {
        FactKey::Secret(name) => {
            let mut fact = get::<SecretKeys>(&context, &namespace, &name, deadline).await;
            let on_demand = context.args.secret_access == SecretAccess::OnDemand;
            if matches!(fact, Err(Failure::Forbidden(_))) && may_bind && on_demand {
                fact = bind_and_get(&context, &namespace, &name, deadline).await;
            }
            Answer::Secret(name, fact.unwrap_or_else(|it| it.into_fact(&context, &namespace)))
        }
        FactKey::ConfigMap(name) => {
            let fact = get::<ConfigMapTexts>(&context, &namespace, &name, deadline).await;
            Answer::ConfigMap(name, fact.unwrap_or_else(|it| it.into_fact(&context, &namespace)))
        }
    }
}

/// Our own binding is not there yet: the policy is younger than the controller's next step. Makes it, and asks again
/// until the right has reached the API server's authoriser.
async fn bind_and_get(
    context: &Context,
    namespace: &str,
    name: &str,
    deadline: Instant,
) -> Result<Fact<Arc<SecretFact>>, Failure> {
    let binding = timeout_at(deadline, controller::bind_secret_reader(context, namespace)).await;
    match binding {
        Err(_) => return Err(Failure::Slow(format!("RoleBinding of namespace {namespace}"))),
        Ok(Err(error)) => return Err(Failure::Forbidden(describe(&error))),
        Ok(Ok(())) => {}
    }
    loop {
        match get::<SecretKeys>(context, namespace, name, deadline).await {
            Err(Failure::Forbidden(_)) if Instant::now() + RETRY < deadline => sleep(RETRY).await,
            answer => return answer,
        }
    }
}

enum Failure {
    Forbidden(String),
    Slow(String),
    Other(String),
}

impl Failure {
    /// What failed and what to do, in a part of a sentence.
    fn into_fact<T>(self, context: &Context, namespace: &str) -> Fact<T> {
        let args = &context.args;
        let cause = match self {
            Self::Slow(what) => format!("the API server did not answer in time for {what}"),
            Self::Other(text) => text,
            Self::Forbidden(text) => format!(
                "{text}; to let it read facts of Secrets there: kubectl create rolebinding {role} -n {namespace} --clusterrole={role} --serviceaccount={}:{}",
                args.namespace,
                args.service_account,
                role = args.secret_reader_role,
            ),
        };
        Fact::Unknown(cause.into())
    }
}

async fn get<K: Source>(
    context: &Context,
    namespace: &str,
    name: &str,
    deadline: Instant,
) -> Result<Fact<Arc<K::Fact>>, Failure> {
    if !is_object_name(name) {
        return Ok(Fact::Absent);
    }
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    let what = format!("{} {namespace}/{name}", <K as Resource>::kind(&()));
    match timeout_at(deadline, api.get_opt(name)).await {
        Err(_) => Err(Failure::Slow(what)),
        Ok(Ok(Some(object))) => Ok(object.into_fact()),
        Ok(Ok(None)) => Ok(Fact::Absent),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
            Err(Failure::Forbidden(format!("{what} may not be read")))
        }
        Ok(Err(error)) => {
            let cause = describe(&error);
            Err(Failure::Other(format!("{what} could not be read: {cause}")))
        }
    }
}

/// Whether an object can have this name at all. A pod template may refer to any text, and the client puts a name into
/// the path of its request as it is: `../../other/secrets/x` must not lead anywhere.
pub fn is_object_name(name: &str) -> bool {
    let is_inner = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, b'-' | b'.');
    let is_outer = |it: Option<&u8>| it.is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
    let bytes = name.as_bytes();
    bytes.len() <= 253
        && bytes.iter().copied().all(is_inner)
        && is_outer(bytes.first())
        && is_outer(bytes.last())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("magsag", true)]
    #[case("a.b-c.9", true)]
    #[case("", false)]
    #[case("..", false)]
    #[case("../../kube-system/secrets/x", false)]
    #[case("a?watch=true", false)]
    #[case("a%2f", false)]
    #[case("Secret", false)]
    fn only_a_name_that_can_exist_is_asked_for(#[case] name: &str, #[case] asked: bool) {
        assert_eq!(is_object_name(name), asked);
    }
}
