//! Policies that this version of the operator cannot read, such as those that a newer one accepted before a rollback.
//! Each is told so in its status, and keeps no other policy from being reconciled.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use portcullis_api::{FIELD_MANAGER, SecurityPolicy, condition, reason};
use serde_json::json;
use tracing::warn;

use super::Leading;
use super::status::StatusError;
use crate::error::describe;
use crate::facts::cannot_be_read;

/// The events of policies that can be read. Each version that cannot be is told so once.
pub fn readable(
    leading: Arc<Leading>,
    events: impl Stream<Item = watcher::Result<Event<DeserializeGuard<SecurityPolicy>>>>,
) -> impl Stream<Item = watcher::Result<Event<SecurityPolicy>>> {
    let mut told = HashSet::new();
    events.filter_map(move |event| {
        let (event, unreadable) = split(event);
        let version = |it: &InvalidObject| (it.metadata.uid.clone(), it.metadata.generation);
        let unreadable = unreadable.filter(|it| told.insert(version(it)));
        let leading = Arc::clone(&leading);
        async move {
            if let Some(policy) = unreadable
                && let Err(error) = tell(&leading, &policy).await
            {
                warn!(
                    error = describe(&error),
                    policy = policy.metadata.name,
                    "Failed to write status of a policy that cannot be read"
                );
            }
            event
        }
    })
}

type Split = (
    Option<watcher::Result<Event<SecurityPolicy>>>,
    Option<InvalidObject>,
);

/// What an event tells of a policy that can be read, and the one that cannot be.
fn split(event: watcher::Result<Event<DeserializeGuard<SecurityPolicy>>>) -> Split {
    let (event, policy): (fn(SecurityPolicy) -> Event<SecurityPolicy>, _) = match event {
        Err(error) => return (Some(Err(error)), None),
        Ok(Event::Init) => return (Some(Ok(Event::Init)), None),
        Ok(Event::InitDone) => return (Some(Ok(Event::InitDone)), None),
        // Whatever it was, nobody can be told any more.
        Ok(Event::Delete(policy)) => return (policy.0.ok().map(|it| Ok(Event::Delete(it))), None),
        Ok(Event::Apply(policy)) => (Event::Apply, policy),
        Ok(Event::InitApply(policy)) => (Event::InitApply, policy),
    };
    match policy.0 {
        Ok(policy) => (Some(Ok(event(policy))), None),
        Err(unreadable) => (None, Some(unreadable)),
    }
}

/// Writes into the policy's status that it cannot be read.
async fn tell(leading: &Leading, policy: &InvalidObject) -> Result<(), StatusError> {
    let metadata = &policy.metadata;
    let (namespace, name) = (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    );
    let known = leading.context.policies.get(namespace, name);
    let stays = if known.is_some_and(|it| it.compiled.is_some()) {
        "the version before stays in force"
    } else {
        "no version of the policy is in force"
    };
    let cause = cannot_be_read(&policy.error).to_string();
    let enforced = format!("{stays}; what was generated is left as it is");
    let now = Timestamp::now();
    let conditions = [
        (condition::ACCEPTED, &cause),
        (condition::ENFORCED, &enforced),
        (condition::READY, &cause),
    ];
    let conditions = conditions.map(|(kind, message)| Condition {
        type_: kind.to_owned(),
        status: "False".to_owned(),
        reason: reason::INVALID.to_owned(),
        message: message.clone(),
        observed_generation: metadata.generation,
        // The API server keeps whole seconds.
        last_transition_time: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
    });
    leading.leadership.confirm().await?;
    let patch = json!({
        "apiVersion": SecurityPolicy::api_version(&()), "kind": SecurityPolicy::kind(&()),
        "metadata": {"name": name, "uid": metadata.uid},
        "status": {"observedGeneration": metadata.generation, "conditions": conditions},
    });
    let api: Api<DeserializeGuard<SecurityPolicy>> =
        Api::namespaced(leading.context.client.clone(), namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = api.patch_status(name, &params, &Patch::Apply(patch)).await;
    written.map(drop).map_err(StatusError::Patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rule: &str) -> DeserializeGuard<SecurityPolicy> {
        let policy = json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy",
            "metadata": {"name": rule.replace('/', "-"), "namespace": "agents"},
            "spec": {"rulesVersion": "v1", "environment": "Production", "enforcement": "Deny",
                "workloads": {"scope": "Namespace"}, "rules": [{"id": rule, "enforcement": "Warn"}]},
        });
        serde_json::from_value(policy).expect("its metadata can be read")
    }

    #[test]
    fn a_rule_of_a_later_version_hides_no_other_policy() {
        let (event, unreadable) = split(Ok(Event::InitApply(policy("pod/of-tomorrow"))));
        assert!(event.is_none());
        let unreadable = unreadable.expect("its rule is not known");
        assert_eq!(unreadable.metadata.name.as_deref(), Some("pod-of-tomorrow"));
        let (event, unreadable) = split(Ok(Event::InitApply(policy("pod/run-as-non-root"))));
        assert!(matches!(event, Some(Ok(Event::InitApply(_)))));
        assert!(unreadable.is_none());
    }
}
