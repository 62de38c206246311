//! Conditions: what became of a policy, in one word for programs and a sentence for people.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use portcullis_api::{Enforcement, SecurityPolicy, SecurityPolicyStatus, Severity, condition, reason};
use portcullis_engine::InvalidPolicy;

use super::apply::Applied;
use super::audit::Audited;
use super::contest::Listed;
use super::reconcile::{EnforceError, Enforced};
use crate::error::describe;

/// Characters of a condition's message; etcd is no log.
const MAX_MESSAGE: usize = 4000;

/// Names that a message lists; the rest are counted.
const LISTED: usize = 5;

/// What the conditions depend on beside the policy and what became of it.
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

/// One condition before it is dated.
#[derive(Debug)]
pub struct Verdict {
    /// Its type.
    pub kind: &'static str,
    /// Whether it is true.
    pub holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn holds(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            holds: true,
            reason,
            message: message.into(),
        }
    }

    fn fails(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            holds: false,
            ..Self::holds(kind, reason, message)
        }
    }

    /// Dated, for this generation of the policy: the time moves only when the condition turned.
    pub fn into_condition(
        self,
        generation: Option<i64>,
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
            observed_generation: generation,
            // The API server keeps whole seconds.
            last_transition_time: since.map_or_else(
                || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
                |it| it.last_transition_time.clone(),
            ),
        }
    }
}

/// The conditions of `policy`: `Accepted`, `Enforced` and `Ready`.
pub fn of(policy: &SecurityPolicy, outcome: &Result<Enforced, EnforceError>, view: &View) -> [Verdict; 3] {
    let enforced = match outcome {
        Err(EnforceError::Exempt(namespace)) => {
            let cause = format!("`metadata.namespace` must not be {namespace}, which is never governed");
            return refused(reason::NAMESPACE_EXEMPT, cause, "the policy is not in force");
        }
        Err(EnforceError::Invalid(invalid)) => return of_invalid(invalid, view.in_force),
        Err(error @ (EnforceError::Dereference(_) | EnforceError::Apply(_))) => {
            Verdict::fails(condition::ENFORCED, reason::API_ERROR, describe(error))
        }
        Ok(Enforced { applied, .. }) => match obstacle(policy, applied, view) {
            Some((reason, message)) => Verdict::fails(condition::ENFORCED, reason, message),
            None => Verdict::holds(condition::ENFORCED, reason::ENFORCED, in_force(policy, applied)),
        },
    };
    let ready = if enforced.holds {
        ready(policy, outcome, view)
    } else {
        Verdict::fails(condition::READY, enforced.reason, enforced.message.clone())
    };
    let accepted = Verdict::holds(condition::ACCEPTED, reason::VALID, "the policy compiles");
    [accepted, enforced, ready]
}

/// The conditions of a policy that does not compile or cannot be read. `in_force`: whether an earlier version of it is.
pub fn of_invalid(invalid: &InvalidPolicy, in_force: bool) -> [Verdict; 3] {
    let stays = if in_force {
        "the version before stays in force"
    } else {
        "no version of the policy is in force"
    };
    let enforced = format!("{stays}; what was generated is left as it is");
    refused(reason::INVALID, invalid.to_string(), enforced)
}

fn refused(reason: &'static str, cause: String, enforced: impl Into<String>) -> [Verdict; 3] {
    [
        Verdict::fails(condition::ACCEPTED, reason, cause.clone()),
        Verdict::fails(condition::ENFORCED, reason, enforced),
        Verdict::fails(condition::READY, reason, cause),
    ]
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

/// Whether a policy that is in force lacks anything else.
fn ready(policy: &SecurityPolicy, outcome: &Result<Enforced, EnforceError>, view: &View) -> Verdict {
    let secrets = outcome.as_ref().ok().and_then(|it| it.secrets.as_ref());
    if let Some(secrets) = secrets {
        if secrets.missing > 0 {
            let message = format!(
                "{} of {} entries of `spec.secrets.entries` wait for their Secret or its key",
                secrets.missing, secrets.declared
            );
            return Verdict::fails(condition::READY, reason::SECRET_MISSING, message);
        }
        if let Some(cause) = &secrets.unknown {
            return Verdict::fails(condition::READY, reason::SECRETS_UNREADABLE, &**cause);
        }
    }
    match view.audited.as_ref().and_then(|it| idle(policy, it)) {
        Some(message) => Verdict::holds(condition::READY, reason::NO_WORKLOADS, message),
        None => Verdict::holds(condition::READY, reason::ENFORCED, "the policy is in force"),
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
