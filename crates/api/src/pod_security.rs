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
