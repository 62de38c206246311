//! Status: what was found and done, for success and failure alike. Written only when it changed.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use portcullis_api::{
    FIELD_MANAGER, GeneratedCounts, SecretCounts, SecurityPolicy, SecurityPolicyStatus, condition, reason,
};
use serde_json::json;
use tracing::{debug, warn};

use super::conditions::{self, Verdict, View};
use super::dereference::DeclaredSecrets;
use super::leader::NotLeader;
use super::reconcile::{EnforceError, Enforced};
use super::{Leading, to_i32};
use crate::error::describe;

/// The status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// This replica must not write.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The API server did not give the one before.
    #[error("failed to read the status")]
    Read(#[source] kube::Error),
    /// The API server refused it.
    #[error("failed to write the status")]
    Patch(#[source] kube::Error),
}

/// Writes the status of `policy`, unless it is what stands there already.
///
/// # Errors
/// When the API server refuses it, or this replica does not lead any more.
pub async fn write(
    leading: &Leading,
    policy: &SecurityPolicy,
    outcome: &Result<Enforced, EnforceError>,
    view: &View,
) -> Result<(), StatusError> {
    let next = of(policy, outcome, view, Timestamp::now());
    if policy.status.as_ref() == Some(&next) {
        return Ok(());
    }
    leading.leadership.confirm().await?;
    tell_missing_secrets(leading, policy, &next).await;
    put(leading, &policy.metadata, &next).await
}

/// Puts a status into the policy of this name and UID: of one that was deleted and created anew, this would be the
/// other one's status.
///
/// # Errors
/// When the API server refuses it.
pub async fn put(
    leading: &Leading,
    policy: &ObjectMeta,
    status: &SecurityPolicyStatus,
) -> Result<(), StatusError> {
    let name = policy.name.as_deref().unwrap_or_default();
    let namespace = policy.namespace.as_deref().unwrap_or_default();
    // What is written may be a policy that cannot be read.
    let api: Api<DeserializeGuard<SecurityPolicy>> =
        Api::namespaced(leading.context.client.clone(), namespace);
    let patch = json!({
        "apiVersion": SecurityPolicy::api_version(&()), "kind": SecurityPolicy::kind(&()),
        "metadata": {"name": name, "uid": policy.uid},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(name, &params, &Patch::Apply(patch)).await {
        Ok(_) => debug!(name, "Wrote status"),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {
            debug!(name, "Policy was deleted meanwhile");
        }
        Err(error) => return Err(StatusError::Patch(error)),
    }
    Ok(())
}

/// An event when the number of missing Secrets changed. Counts only: whoever reads events may not read Secrets.
async fn tell_missing_secrets(leading: &Leading, policy: &SecurityPolicy, next: &SecurityPolicyStatus) {
    let missing = |status: &SecurityPolicyStatus| status.secrets.map_or(0, |it| it.missing);
    let before = policy.status.as_ref().map_or(0, missing);
    let now = missing(next);
    if now == 0 || now == before {
        return;
    }
    let event = Event {
        type_: EventType::Warning,
        reason: reason::SECRET_MISSING.into(),
        note: Some(format!(
            "{now} entries of spec.secrets.entries wait for their Secret or its key"
        )),
        action: "Dereference".into(),
        secondary: None,
    };
    if let Err(error) = leading.recorder.publish(&event, &policy.object_ref(&())).await {
        warn!(error = describe(&error), policy = %policy.name_any(), "Failed to publish event");
    }
}

/// The status that `policy` should have. What could not be found out anew stays as it was.
pub fn of(
    policy: &SecurityPolicy,
    outcome: &Result<Enforced, EnforceError>,
    view: &View,
    now: Timestamp,
) -> SecurityPolicyStatus {
    let before = policy.status.clone().unwrap_or_default();
    let generation = policy.metadata.generation;
    let verdicts = conditions::of(policy, outcome, view);
    let [accepted, enforced, _] = &verdicts;
    let awaits_secrets = view.awaits_secrets
        && outcome.as_ref().is_ok_and(|it| it.secrets.is_some())
        && accepted.holds
        && enforced.holds;
    // An operator that has just started must not take the Secrets for unreadable before it could ask for them.
    let is_kept = |it: &Verdict| awaits_secrets && it.kind == condition::READY;
    let known = |it: &&Condition| it.type_ == condition::READY && it.observed_generation == generation;
    let known = before.conditions.iter().find(known);
    let conditions = verdicts.into_iter().map(|it| match known {
        Some(known) if is_kept(&it) => known.clone(),
        _ => it.into_condition(generation, &before, now),
    });
    let mut next = SecurityPolicyStatus {
        observed_generation: generation,
        conditions: conditions.collect(),
        workloads: view.audited.as_ref().map(|it| it.counts).or(before.workloads),
        ..before.clone()
    };
    if let Ok(Enforced { applied, secrets }) = outcome {
        if secrets.is_none() || !view.awaits_secrets {
            next.secrets = secrets.as_ref().map(counts);
        }
        next.generated = Some(GeneratedCounts {
            network_policies: to_i32(applied.in_place),
        });
        next.proposed = applied.proposed.clone();
    }
    next
}

fn counts(secrets: &DeclaredSecrets) -> SecretCounts {
    SecretCounts {
        declared: to_i32(secrets.declared),
        present: to_i32(secrets.present),
        missing: to_i32(secrets.missing),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
