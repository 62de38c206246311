//! Security contexts of pods and containers.

use serde::{Deserialize, Deserializer};

use super::lenient;
use crate::Text;

/// Reads a security context and remembers that it is there.
pub(super) fn present<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SecurityContext<'a>, D::Error> {
    let context = Option::<SecurityContext<'a>>::deserialize(deserializer)?;
    Ok(context
        .map(|it| SecurityContext { present: true, ..it })
        .unwrap_or_default())
}

/// Security context of a pod or a container; each reads only the fields that it has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct SecurityContext<'a> {
    /// Whether the object states it: a field can be added to it only then.
    #[serde(skip)]
    pub present: bool,
    /// Refuses to start as uid 0.
    #[serde(deserialize_with = "lenient")]
    pub run_as_non_root: Option<bool>,
    /// Numeric user.
    #[serde(deserialize_with = "lenient")]
    pub run_as_user: Option<i64>,
    /// Container only: all powers of the host's root.
    #[serde(deserialize_with = "lenient")]
    pub privileged: Option<bool>,
    /// Container only: may gain more privileges than its parent.
    #[serde(deserialize_with = "lenient")]
    pub allow_privilege_escalation: Option<bool>,
    /// Container only: root file system is read-only.
    #[serde(deserialize_with = "lenient")]
    pub read_only_root_filesystem: Option<bool>,
    /// Container only: capabilities.
    #[serde(deserialize_with = "lenient")]
    pub capabilities: Option<Capabilities<'a>>,
    /// System call filter.
    #[serde(deserialize_with = "lenient")]
    pub seccomp_profile: Option<SeccompProfile<'a>>,
}

/// `securityContext.capabilities`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Capabilities<'a> {
    /// Added.
    #[serde(deserialize_with = "lenient")]
    pub add: Vec<Text<'a>>,
    /// Dropped.
    #[serde(deserialize_with = "lenient")]
    pub drop: Vec<Text<'a>>,
}

/// `securityContext.seccompProfile`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct SeccompProfile<'a> {
    /// `RuntimeDefault`, `Localhost` or `Unconfined`.
    #[serde(rename = "type", deserialize_with = "lenient")]
    pub kind: Text<'a>,
}
