//! Status: what was found and done, for success and failure alike. Written only when it changed.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use portcullis_api::{
    Enforcement, FIELD_MANAGER, GeneratedCounts, SecretCounts, SecurityPolicy, SecurityPolicyStatus,
    Severity, condition, reason,
};
use serde_json::json;
use tracing::{debug, warn};

use super::Leading;
use super::apply::Applied;
use super::audit::Audited;
use super::contest::Listed;
use super::dereference::DeclaredSecrets;
use super::leader::NotLeader;
use super::reconcile::{EnforceError, Enforced};
use crate::error::describe;

/// Characters of a condition's message; etcd is no log.
const MAX_MESSAGE: usize = 4000;

/// Names that a message lists; the rest are counted.
const LISTED: usize = 5;

/// What the status depends on beside the policy and what became of it.
#[derive(Clone, Debug)]
pub struct View {
    /// The cluster's ceiling.
    pub ceiling: Enforcement,
    /// Whether the webhook configuration in the cluster lists the policy's namespace.
    pub listing: Listing,
    /// Whether a version of the policy is in force.
    pub in_force: bool,
    /// Whether the Secrets of its namespace have been neither listed nor refused so far.
    pub awaits_secrets: bool,
    /// What the last audit counted.
    pub audited: Option<Audited>,
}

/// Whether the webhook configuration in the cluster lists a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// It does.
    Listed,
    /// It does not yet, or it was deleted.
    Pending,
    /// Somebody changes or deletes it again and again.
    Contested,
}

impl Listing {
    /// What the configurations say of `namespace`.
    pub fn of(listed: &Listed, namespace: &str) -> Self {
        match listed {
            Listed::Namespaces(namespaces) if namespaces.contains(namespace) => Self::Listed,
            Listed::Namespaces(_) | Listed::Pending => Self::Pending,
            Listed::Contested => Self::Contested,
        }
    }
}

/// The status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// This replica must not write.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
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
    let name = policy.name_any();
    let api: Api<SecurityPolicy> = Api::namespaced(
        leading.context.client.clone(),
        &policy.namespace().unwrap_or_default(),
    );
    let patch = json!({
        "apiVersion": SecurityPolicy::api_version(&()), "kind": SecurityPolicy::kind(&()),
        // Of a policy that was deleted and created anew, this would be the other one's status.
        "metadata": {"name": name, "uid": policy.metadata.uid},
        "status": next,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&name, &params, &Patch::Apply(patch)).await {
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
    let accepted = accepted(outcome);
    let enforced = enforced(policy, outcome, view);
    let awaits_secrets = view.awaits_secrets
        && outcome.as_ref().is_ok_and(|it| it.secrets.is_some())
        && accepted.holds
        && enforced.holds;
    let ready = ready(policy, outcome, view, [&accepted, &enforced]);
    let conditions = [accepted, enforced, ready];
    // An operator that has just started must not take the Secrets for unreadable before it could ask for them.
    let is_kept = |it: &Verdict| awaits_secrets && it.kind == condition::READY;
    let known = |it: &&Condition| {
        it.type_ == condition::READY && it.observed_generation == policy.metadata.generation
    };
    let known = before.conditions.iter().find(known);
    let conditions = conditions.into_iter().map(|it| match known {
        Some(known) if is_kept(&it) => known.clone(),
        _ => it.into_condition(policy, &before, now),
    });
    let mut next = SecurityPolicyStatus {
        observed_generation: policy.metadata.generation,
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

/// One condition before it is dated.
struct Verdict {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    /// Dated: the time moves only when the condition turned.
    fn into_condition(
        self,
        policy: &SecurityPolicy,
        before: &SecurityPolicyStatus,
        now: Timestamp,
    ) -> Condition {
        let status = if self.holds { "True" } else { "False" };
        let same = |it: &&Condition| it.type_ == self.kind && it.status == status;
        let since = before.conditions.iter().find(same);
        Condition {
            type_: self.kind.to_owned(),
            status: status.to_owned(),
            reason: self.reason.to_owned(),
            message: shorten(self.message),
            observed_generation: policy.metadata.generation,
            // The API server keeps whole seconds.
            last_transition_time: since.map_or_else(
                || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
                |it| it.last_transition_time.clone(),
            ),
        }
    }
}

fn accepted(outcome: &Result<Enforced, EnforceError>) -> Verdict {
    let (holds, reason, message) = match outcome {
        Err(EnforceError::Exempt(namespace)) => (
            false,
            reason::NAMESPACE_EXEMPT,
            format!("`metadata.namespace` must not be {namespace}, which is never governed"),
        ),
        Err(EnforceError::Invalid(invalid)) => (false, reason::INVALID, invalid.to_string()),
        Ok(_) | Err(_) => (true, reason::VALID, "the policy compiles".to_owned()),
    };
    Verdict {
        kind: condition::ACCEPTED,
        holds,
        reason,
        message,
    }
}

fn enforced(policy: &SecurityPolicy, outcome: &Result<Enforced, EnforceError>, view: &View) -> Verdict {
    let (holds, reason, message) = match outcome {
        Err(EnforceError::Exempt(_)) => (
            false,
            reason::NAMESPACE_EXEMPT,
            "the policy is not in force".to_owned(),
        ),
        Err(EnforceError::Invalid(_)) => {
            let stays = if view.in_force {
                "the version before stays in force"
            } else {
                "no version of the policy is in force"
            };
            (
                false,
                reason::INVALID,
                format!("{stays}; what was generated is left as it is"),
            )
        }
        Err(error) => (false, reason::API_ERROR, describe(error)),
        Ok(Enforced { applied, .. }) => obstacle(policy, applied, view).map_or_else(
            || (true, reason::ENFORCED, in_force(policy, applied)),
            |(reason, message)| (false, reason, message),
        ),
    };
    Verdict {
        kind: condition::ENFORCED,
        holds,
        reason,
        message,
    }
}

/// Why a policy that compiles and was applied is not in force as it is written.
fn obstacle(policy: &SecurityPolicy, applied: &Applied, view: &View) -> Option<(&'static str, String)> {
    if !applied.conflicts.is_empty() {
        let message = format!(
            "NetworkPolicy {} exists and is not Portcullis': it is left alone; rename or delete it",
            list(&applied.conflicts)
        );
        return Some((reason::CONFLICT, message));
    }
    if let Some(contested) = applied.contested.first() {
        let by = contested.by.as_deref().unwrap_or("somebody");
        let message = format!(
            "NetworkPolicy {} is changed again and again by {by} and not put back at once any more; stop {by} from changing it",
            contested.name
        );
        return Some((reason::CONFLICT, message));
    }
    match view.listing {
        Listing::Listed => {}
        Listing::Pending => {
            let message = "the webhook configuration does not list the namespace yet".to_owned();
            return Some((reason::WEBHOOK_PENDING, message));
        }
        Listing::Contested => {
            let message =
                "the webhook configuration is changed or deleted again and again, and lets workloads pass \
                           unjudged until it is put back; stop whoever changes it"
                    .to_owned();
            return Some((reason::CONFLICT, message));
        }
    }
    if view.ceiling < policy.spec.enforcement {
        let word = |it: Enforcement| Severity::from(it).as_str();
        let message = format!(
            "the cluster's enforcementCeiling is {}: `spec.enforcement` {} is not in force beyond it",
            word(view.ceiling),
            word(policy.spec.enforcement)
        );
        return Some((reason::CEILING, message));
    }
    None
}

fn in_force(policy: &SecurityPolicy, applied: &Applied) -> String {
    let mut message = "the webhook judges the namespace".to_owned();
    if policy.spec.network.is_some() {
        // Writing to a String cannot fail.
        let _ = match applied.proposed.len() {
            0 => write!(message, "; {} NetworkPolicies are in place", applied.in_place),
            proposed => write!(
                message,
                "; {proposed} NetworkPolicies are only proposed, since `spec.network.mode` is DryRun"
            ),
        };
    }
    message
}

fn ready(
    policy: &SecurityPolicy,
    outcome: &Result<Enforced, EnforceError>,
    view: &View,
    [accepted, enforced]: [&Verdict; 2],
) -> Verdict {
    let verdict = |holds, reason, message| Verdict {
        kind: condition::READY,
        holds,
        reason,
        message,
    };
    for it in [accepted, enforced] {
        if !it.holds {
            return verdict(false, it.reason, it.message.clone());
        }
    }
    let secrets = outcome.as_ref().ok().and_then(|it| it.secrets.as_ref());
    if let Some(secrets) = secrets {
        if secrets.missing > 0 {
            let message = format!(
                "{} of {} entries of `spec.secrets.entries` wait for their Secret or its key",
                secrets.missing, secrets.declared
            );
            return verdict(false, reason::SECRET_MISSING, message);
        }
        if let Some(cause) = &secrets.unknown {
            return verdict(false, reason::SECRETS_UNREADABLE, cause.to_string());
        }
    }
    match view.audited.as_ref().and_then(|it| idle(policy, it)) {
        Some(message) => verdict(true, reason::NO_WORKLOADS, message),
        None => verdict(true, reason::ENFORCED, "the policy is in force".to_owned()),
    }
}

/// Names the selectors that match nothing: perhaps one is misspelt.
fn idle(policy: &SecurityPolicy, audited: &Audited) -> Option<String> {
    if audited.counts.matched == 0 {
        let field = match policy.spec.workloads.selector {
            Some(_) => "spec.workloads.selector",
            None => "spec.workloads",
        };
        return Some(format!("`{field}` matches no workload of the namespace yet"));
    }
    let components = policy.spec.components.iter().flatten().enumerate();
    let idle = components.filter(|(_, it)| !audited.components.contains(&it.name));
    let idle: Vec<String> = idle
        .map(|(index, it)| format!("`spec.components[{index}].selector` ({})", it.name))
        .collect();
    (!idle.is_empty()).then(|| format!("no workload is matched yet by {}", list(&idle)))
}

fn counts(secrets: &DeclaredSecrets) -> SecretCounts {
    SecretCounts {
        declared: to_i32(secrets.declared),
        present: to_i32(secrets.present),
        missing: to_i32(secrets.missing),
    }
}

/// The first few, and how many more.
fn list(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(LISTED).map(String::as_str).collect();
    match names.len().saturating_sub(LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn shorten(message: String) -> String {
    if message.chars().count() <= MAX_MESSAGE {
        return message;
    }
    let head: String = message.chars().take(MAX_MESSAGE).collect();
    format!("{head} …")
}

/// Counts of the API are 32 bits.
pub fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
