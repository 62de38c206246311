//! `pod/*`: the Pod Security Standards, as `k8s.io/pod-security-admission` of v1.36 checks them, and what goes beyond.
//!
//! Explicit offenders are reported where they stand, once; what nobody set is reported at each container that lacks it.
//! Nothing is allocated for a pod that satisfies a rule.

pub(super) mod allow_privilege_escalation;
pub(super) mod apparmor_profile;
pub(super) mod capabilities;
pub(super) mod expected_uid;
pub(super) mod host_namespaces;
pub(super) mod host_path_volumes;
pub(super) mod host_ports;
pub(super) mod host_probes;
pub(super) mod host_process;
pub(super) mod privileged;
pub(super) mod probes;
pub(super) mod proc_mount;
pub(super) mod read_only_root_filesystem;
pub(super) mod resources;
pub(super) mod run_as_non_root;
pub(super) mod run_as_user;
pub(super) mod seccomp_profile;
pub(super) mod selinux_options;
pub(super) mod share_process_namespace;
mod standard;
pub(super) mod sysctls;
pub(super) mod volume_types;

use super::{Context, Findings};
use crate::object::SecurityContext;
use crate::path::FieldPath;
use crate::subject::ContainerRef;
use crate::verdict::Observed;

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

/// Path of one annotation of the pods.
fn annotation(context: &Context<'_, '_>, key: &str) -> FieldPath {
    let metadata = context
        .subject
        .template_path()
        .fields(&["metadata", "annotations"]);
    metadata.key(key)
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
