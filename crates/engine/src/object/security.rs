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
    /// Numeric group.
    #[serde(deserialize_with = "lenient")]
    pub run_as_group: Option<i64>,
    /// Pod only: group to which volumes belong.
    #[serde(deserialize_with = "lenient")]
    pub fs_group: Option<i64>,
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
    pub seccomp_profile: Option<SecurityProfile<'a>>,
    /// AppArmor's confinement.
    #[serde(deserialize_with = "lenient")]
    pub app_armor_profile: Option<SecurityProfile<'a>>,
    /// SELinux' label.
    #[serde(deserialize_with = "lenient")]
    pub se_linux_options: Option<Box<SeLinuxOptions<'a>>>,
    /// Container only: which parts of `/proc` are masked.
    #[serde(deserialize_with = "lenient")]
    pub proc_mount: Text<'a>,
    /// Windows alone.
    #[serde(deserialize_with = "lenient")]
    pub windows_options: WindowsOptions,
    /// Pod only: kernel parameters.
    #[serde(deserialize_with = "lenient")]
    pub sysctls: Vec<Sysctl<'a>>,
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

/// `securityContext.seLinuxOptions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct SeLinuxOptions<'a> {
    /// Such as `container_t`.
    #[serde(rename = "type", deserialize_with = "lenient")]
    pub kind: Text<'a>,
    /// User of the label.
    #[serde(deserialize_with = "lenient")]
    pub user: Text<'a>,
    /// Role of the label.
    #[serde(deserialize_with = "lenient")]
    pub role: Text<'a>,
}

/// `securityContext.windowsOptions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WindowsOptions {
    /// Runs on the host itself.
    #[serde(deserialize_with = "lenient")]
    pub host_process: Option<bool>,
}

/// `securityContext.sysctls[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Sysctl<'a> {
    /// Such as `net.ipv4.tcp_syncookies`.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
}

/// `securityContext.seccompProfile` or `.appArmorProfile`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct SecurityProfile<'a> {
    /// `RuntimeDefault`, `Localhost` or `Unconfined`.
    #[serde(rename = "type", deserialize_with = "lenient")]
    pub kind: Text<'a>,
}
