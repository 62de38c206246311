//! `status`: what the operator found and did. Bounded: counts and conditions, never a list of workloads.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Types of the conditions of a policy.
pub mod condition {
    /// The policy compiles and is in force; otherwise the message names the field.
    pub const ACCEPTED: &str = "Accepted";
    /// The webhook judges the policy's workloads and what it generates is in place.
    pub const ENFORCED: &str = "Enforced";
    /// Summary for `kubectl wait` and kstatus: accepted, enforced and every declared Secret there.
    pub const READY: &str = "Ready";
}

/// Reasons of the conditions of a policy.
pub mod reason {
    /// The policy compiles.
    pub const VALID: &str = "Valid";
    /// The policy does not compile; nothing that it generated before is changed.
    pub const INVALID: &str = "Invalid";
    /// The policy lies in a namespace that is never governed.
    pub const NAMESPACE_EXEMPT: &str = "NamespaceExempt";
    /// The policy is in force as it is written.
    pub const ENFORCED: &str = "Enforced";
    /// The cluster's `enforcementCeiling` is lower than the policy's `enforcement`.
    pub const CEILING: &str = "EnforcementCeiling";
    /// Somebody else is in the way: their object has the name of one that the policy generates and is left alone, or they
    /// change or delete a generated NetworkPolicy or the webhook configuration again and again.
    pub const CONFLICT: &str = "Conflict";
    /// A request to the API server failed; it is tried again.
    pub const API_ERROR: &str = "ApiError";
    /// A declared Secret or key is not there.
    pub const SECRET_MISSING: &str = "SecretMissing";
    /// Secrets of the namespace cannot be read yet.
    pub const SECRETS_UNREADABLE: &str = "SecretsUnreadable";
    /// The webhook configuration does not list the policy's namespace yet.
    pub const WEBHOOK_PENDING: &str = "WebhookPending";
    /// The selectors of the policy match no workload yet.
    pub const NO_WORKLOADS: &str = "NoWorkloads";
}

/// What the operator found and did for a policy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct SecurityPolicyStatus {
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Accepted`: the policy compiles; reason `Valid`, or else `Invalid` or `NamespaceExempt`. `Enforced`: the webhook
    /// judges the policy's workloads and what it generates is in place; or else one of the former, `EnforcementCeiling`
    /// (the cluster's ceiling is lower), `Conflict` (somebody else's object has the name of a generated one, or somebody
    /// changes or deletes a generated NetworkPolicy or the webhook configuration again and again), `WebhookPending` (the
    /// webhook configuration does not list the namespace yet) or `ApiError` (a request to the API server failed and is
    /// tried again). `Ready`: accepted, enforced and every declared Secret there; `NoWorkloads` where a selector matches
    /// nothing yet; or else one of the former, `SecretMissing` or `SecretsUnreadable` (they cannot be read yet).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Workloads of the namespace, counted by the background audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads: Option<WorkloadCounts>,

    /// The declared entries of `spec.secrets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretCounts>,

    /// Objects that were made from the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<GeneratedCounts>,

    /// With `network.mode: DryRun`, the NetworkPolicies that `Enforce` would write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    // At most 64 components with two directions each, default deny and DNS are 130; there is room for more kinds.
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub proposed: Vec<ProposedNetworkPolicy>,
}

/// Workloads by outcome. A workload that a controller made (a ReplicaSet of a Deployment) is counted with its owner.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadCounts {
    /// Workloads that the policy selects.
    pub matched: i32,
    /// Selected workloads without a violation of severity Warn or Deny.
    pub compliant: i32,
    /// Selected workloads with such a violation.
    pub violating: i32,
    /// Workloads of the namespace that no policy selects.
    pub unmatched: i32,
}

/// Declared secrets by outcome.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct SecretCounts {
    /// Entries of `spec.secrets.entries`.
    pub declared: i32,
    /// Entries whose Secret holds the key with a value.
    pub present: i32,
    /// Entries whose Secret or key is not there, or whose value is empty.
    pub missing: i32,
}

/// Objects that were made.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct GeneratedCounts {
    /// NetworkPolicies in place.
    pub network_policies: i32,
}

/// A NetworkPolicy that would be written.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProposedNetworkPolicy {
    /// Its name.
    pub name: String,
    /// What it would do, in one line. Example: `ingress to api on 8000/TCP`.
    pub summary: String,
}

#[cfg(test)]
mod tests {
    /// The constants of a module of this file.
    fn words(module: &str) -> Vec<&'static str> {
        let source = include_str!("status.rs");
        let (_, module) = source.split_once(module).expect("the module");
        let (module, _) = module.split_once("\n}\n").expect("its end");
        let value = |line: &'static str| line.split_once(": &str = \"")?.1.strip_suffix("\";");
        module.lines().filter_map(value).collect()
    }

    #[test]
    fn kubectl_explains_each_condition_and_each_reason() {
        let crds = crate::crds().expect("definitions");
        let crds = serde_json::to_value(crds).expect("JSON");
        let path =
            "/0/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/conditions/description";
        let explained = crds
            .pointer(path)
            .and_then(|it| it.as_str())
            .expect("a description");
        let (conditions, reasons) = (words("pub mod condition {"), words("pub mod reason {"));
        assert!(
            !conditions.is_empty() && !reasons.is_empty(),
            "found in the source"
        );
        for word in conditions.iter().chain(&reasons) {
            assert!(
                explained.contains(&format!("`{word}`")),
                "{word} is not explained"
            );
        }
    }
}
