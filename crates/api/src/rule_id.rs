//! The ids of all rules: stable API, and an enum in the schema so that a misspelt id is refused when it is applied.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! rule_ids {
    ($($(#[$doc:meta])* $variant:ident = $id:literal,)*) => {
        /// Id of a rule. `portcullis explain ID` prints its page.
        #[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RuleId {
            $($(#[$doc])* #[serde(rename = $id)] $variant,)*
        }

        impl RuleId {
            /// All ids, in the order of reports.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The id as it is written in policies and messages, such as `pod/run-as-non-root`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }
        }
    };
}

// In the order of reports: families as in docs/rules.tsv, the gravest rule of a family first.
rule_ids! {
    /// No root user
    PodRunAsNonRoot = "pod/run-as-non-root",
    /// No user 0
    PodRunAsUser = "pod/run-as-user",
    /// No privileged containers
    PodPrivileged = "pod/privileged",
    /// No namespaces of the host
    PodHostNamespaces = "pod/host-namespaces",
    /// No HostProcess containers of Windows
    PodHostProcess = "pod/host-process",
    /// No paths of the host
    PodHostPathVolumes = "pod/host-path-volumes",
    /// No ports of the host
    PodHostPorts = "pod/host-ports",
    /// No privilege escalation
    PodAllowPrivilegeEscalation = "pod/allow-privilege-escalation",
    /// Capabilities are dropped
    PodCapabilities = "pod/capabilities",
    /// A seccomp profile is in force
    PodSeccompProfile = "pod/seccomp-profile",
    /// The default AppArmor profile stays in force
    PodApparmorProfile = "pod/apparmor-profile",
    /// No SELinux type, user or role beyond those of containers
    PodSelinuxOptions = "pod/selinux-options",
    /// `/proc` stays masked
    PodProcMount = "pod/proc-mount",
    /// None but safe sysctls
    PodSysctls = "pod/sysctls",
    /// Probes and hooks stay within the pod
    PodHostProbes = "pod/host-probes",
    /// None but harmless kinds of volumes
    PodVolumeTypes = "pod/volume-types",
    /// Users and groups are those that the policy names
    PodExpectedUid = "pod/expected-uid",
    /// Containers do not see each other's processes
    PodShareProcessNamespace = "pod/share-process-namespace",
    /// Processor time and memory are stated
    PodResources = "pod/resources",
    /// Probes are there
    PodProbes = "pod/probes",
    /// Root file system is read-only
    PodReadOnlyRootFilesystem = "pod/read-only-root-filesystem",
    /// Data belongs to one user
    StoragePermissions = "storage/permissions",
    /// Images are named by what does not move
    ImagePinned = "image/pinned",
    /// Images have a supported version
    ImageSupportedVersion = "image/supported-version",
    /// Nodes run the image that is meant
    ImagePullPolicy = "image/pull-policy",
    /// Images are made from what is minimal
    ImageMinimalBase = "image/minimal-base",
    /// No wildcard among the origins
    HttpCorsWildcard = "http/cors-wildcard",
    /// Origins are set and lie in the policy's list
    HttpCorsExplicit = "http/cors-explicit",
    /// The Secret is there
    SecretMissing = "secret/missing",
    /// The Secret holds the key
    SecretKeyMissing = "secret/key-missing",
    /// No credential in plain text
    SecretLiteral = "secret/literal",
}

impl std::fmt::Display for RuleId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for RuleId {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|id| id.as_str() == text)
            .ok_or_else(|| UnknownRule(text.to_owned()))
    }
}

/// A text that is no rule id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownRule(String);

impl std::fmt::Display for UnknownRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is no rule id; `portcullis rules` lists them", self.0)
    }
}

impl std::error::Error for UnknownRule {}

#[cfg(test)]
mod tests {
    use super::RuleId;

    #[test]
    fn ids_are_numbered_in_the_order_of_reports() {
        let numbers: Vec<usize> = RuleId::ALL.iter().map(|it| *it as usize).collect();
        assert_eq!(numbers, (0..RuleId::ALL.len()).collect::<Vec<_>>());
    }
}
