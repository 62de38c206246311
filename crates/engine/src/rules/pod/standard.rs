//! What a policy asks for of the Pod Security Standards: a level, in the version of one release of Kubernetes.
//!
//! Each control begins at a level and with a release; some are relaxed by a later one.

use portcullis_api::PodSecurityLevel;

use crate::policy::PodSecurityVersion;
use crate::rules::Context;

/// What is asked for of the standard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standard {
    level: PodSecurityLevel,
    version: PodSecurityVersion,
    /// Whether the pods run Windows.
    windows: bool,
    /// Whether the pods have a user namespace of their own, in which root is nobody on the node.
    user_namespace: bool,
}

impl Standard {
    /// What the policy asks for of the subject; a policy that states no `podSecurity` asks for nothing.
    pub(super) fn of(context: &Context<'_, '_>) -> Self {
        let section = context.policy.pod_security.as_ref();
        let pod = context.subject.pod();
        Self {
            level: section.map_or(PodSecurityLevel::Privileged, |it| it.level),
            version: section.map_or(PodSecurityVersion::LATEST, |it| it.version),
            windows: context.subject.is_windows(),
            user_namespace: pod.is_some_and(|(_, spec)| spec.host_users == Some(false)),
        }
    }

    /// Whether the controls of Baseline apply, which those of Restricted include.
    pub(super) fn is_baseline(self) -> bool {
        self.level >= PodSecurityLevel::Baseline
    }

    /// Whether the controls of Restricted apply.
    pub(super) fn is_restricted(self) -> bool {
        self.level >= PodSecurityLevel::Restricted
    }

    /// Whether the version is that of Kubernetes 1.`minor`, or a later one.
    pub(super) fn since(self, minor: u16) -> bool {
        self.version >= PodSecurityVersion::minor(minor)
    }

    /// Whether a control of Restricted is lifted, as the API server refuses its field on pods with Windows.
    pub(super) fn exempts_windows(self) -> bool {
        self.windows && self.since(25)
    }

    /// Whether a control is lifted for pods in a user namespace.
    pub(super) fn exempts_user_namespace(self) -> bool {
        self.user_namespace && self.since(35)
    }
}
