//! `pod/*`: the Pod Security Standards and what goes beyond them.

pub(super) mod allow_privilege_escalation;
pub(super) mod capabilities;
pub(super) mod host_namespaces;
pub(super) mod privileged;
pub(super) mod read_only_root_filesystem;
pub(super) mod run_as_non_root;
pub(super) mod seccomp_profile;

use portcullis_api::PodSecurityLevel;

use super::Context;

/// Level of the standard that the policy asks for; `Privileged` asks for none of its controls.
fn level(context: &Context<'_, '_>) -> PodSecurityLevel {
    context
        .policy
        .pod_security
        .as_ref()
        .map_or(PodSecurityLevel::Privileged, |it| it.level)
}
