//! `pod/*`: the Pod Security Standards, as `k8s.io/pod-security-admission` of v1.36 checks them, and what goes beyond.
//!
//! Explicit offenders are reported where they stand, once; what nobody set is reported at each container that lacks it.
//! Nothing is allocated for a pod that satisfies a rule.

pub(super) mod allow_privilege_escalation;
pub(super) mod capabilities;
pub(super) mod host_namespaces;
pub(super) mod privileged;
pub(super) mod read_only_root_filesystem;
pub(super) mod run_as_non_root;
pub(super) mod seccomp_profile;

use portcullis_api::PodSecurityLevel;

use super::{Context, Findings};
use crate::object::SecurityContext;
use crate::path::FieldPath;
use crate::subject::ContainerRef;
use crate::verdict::Observed;

/// Level of the standard that the policy asks for; `Privileged` asks for none of its controls.
fn level(context: &Context<'_, '_>) -> PodSecurityLevel {
    context
        .policy
        .pod_security
        .as_ref()
        .map_or(PodSecurityLevel::Privileged, |it| it.level)
}

/// Path of one field of a container's security context.
fn container_field(context: &Context<'_, '_>, it: &ContainerRef<'_, '_>, field: &'static str) -> FieldPath {
    context
        .subject
        .container_path(it)
        .fields(&["securityContext", field])
}

/// Path of one field of the pod's security context.
fn pod_field(context: &Context<'_, '_>, field: &'static str) -> FieldPath {
    context
        .subject
        .pod_spec_path()
        .fields(&["securityContext", field])
}

/// Says of the pod's violation recorded last that it is also one of each container that inherits it: no container is the
/// worse when the pod's field goes.
fn inherit(
    context: &Context<'_, '_>,
    fields: &[&'static str],
    inherits: impl Fn(&SecurityContext<'_>) -> bool,
    findings: &mut Findings<'_>,
) {
    for it in context.subject.containers() {
        if inherits(&it.container.security_context) {
            let path = context.subject.container_path(&it).field("securityContext");
            findings.inherited_at(path.fields(fields));
        }
    }
}

/// A value that is no secret.
fn shown(value: &str) -> Observed {
    Observed::Shown(value.to_owned())
}
