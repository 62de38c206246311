//! `spec.podSecurity`: the Pod Security Standards and what is set where nothing is said.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pod security of the policy's workloads.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.version) || self.version.matches('^(latest|v1[.]([0-9]|[12][0-9]|3[0-6]))$')")
        .message("podSecurity.version must be latest or one of v1.0 to v1.36")
)]
pub struct PodSecurity {
    /// Level of the Pod Security Standards whose controls apply; absent means `Restricted`. Rules beyond the
    /// standard apply at every level. Example: `Baseline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<PodSecurityLevel>,

    /// Version of the Pod Security Standards, `v1.0` to `v1.36` or `latest`, as in the label
    /// `pod-security.kubernetes.io/enforce-version`; absent means `latest`. Example: `v1.35`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub version: Option<String>,

    /// What is set on pods at admission, per container and only where neither pod nor container says anything.
    /// Templates are judged as if it were set and are never changed. Example: `[SeccompProfile, RunAsNonRoot]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub defaults: Option<Vec<PodDefault>>,

    /// Users and groups as which pods run, such as those that own their data.
    /// Example: `[{components: [postgres], runAsUser: {min: 999, max: 999}, fsGroup: {min: 999, max: 999}}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub ids: Option<Vec<ExpectedIds>>,
}

/// Users and groups as which the pods of some components run.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.runAsUser) || has(self.runAsGroup) || has(self.fsGroup)")
        .message("podSecurity.ids[] must state at least one of runAsUser, runAsGroup and fsGroup")
)]
pub struct ExpectedIds {
    /// Components whose pods these are; required once the policy states components, else all workloads.
    /// Example: `[postgres]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub components: Option<Vec<String>>,

    /// Numeric users of every container but those of `kubectl debug`. Example: `{min: 999, max: 999}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<IdRange>,

    /// Numeric groups of every container but those of `kubectl debug`. Example: `{min: 999, max: 999}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<IdRange>,

    /// Groups to which the pod's volumes belong. Example: `{min: 999, max: 999}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<IdRange>,
}

/// Ids from one to another.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max").message("min must not be greater than max"))]
pub struct IdRange {
    /// The first. Example: `1000`.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub min: i64,

    /// The last. Example: `1999`.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub max: i64,
}

/// Level of the Pod Security Standards whose controls apply; absent means `Restricted`. Rules beyond the standard
/// apply at every level. Example: `Baseline`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodSecurityLevel {
    /// No control of the standard.
    Privileged,
    /// Known privilege escalations are refused.
    Baseline,
    /// Current hardening practice.
    Restricted,
}

/// One field that is set on pods which say nothing about it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodDefault {
    /// `seccompProfile.type: RuntimeDefault`
    SeccompProfile,
    /// `allowPrivilegeEscalation: false`, not beside `privileged` or `SYS_ADMIN`, which the API server refuses
    AllowPrivilegeEscalation,
    /// `runAsNonRoot: true`
    RunAsNonRoot,
    /// `capabilities.drop: [ALL]`
    DropCapabilities,
}
