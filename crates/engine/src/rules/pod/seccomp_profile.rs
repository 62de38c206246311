//! A seccomp profile filters the system calls of each container.
//!
//! Field: `securityContext.seccompProfile.type` of pod and container; a container's wins over the pod's. Allowed:
//! `RuntimeDefault`, `Localhost`; at Baseline also unset. Before v1.19 the annotations of that time are read instead,
//! which nodes ignore since v1.27. Pods that state Windows are exempt from Restricted: the API server refuses the field
//! there.
//! Source: Pod Security Standards, "Seccomp"; S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::standard::Standard;
use super::{annotation, container_field, inherit, pod_field, shown};
use crate::object::{Metadata, SecurityContext};
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodSeccompProfile,
    title: "no seccomp profile",
    meaning: "a seccomp profile filters the system calls of each container",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/seccomp-profile.md"),
    check,
};

const REQUIRED: &str = "RuntimeDefault or Localhost";
const FIX: &str = "set seccompProfile to {type: RuntimeDefault}";

/// Annotation with the profile of the pod, before v1.19.
const POD_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";

/// What annotations with the profile of a container begin with, before v1.19.
const CONTAINER_ANNOTATION: &str = "container.seccomp.security.alpha.kubernetes.io/";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let standard = Standard::of(context);
    let Some((metadata, spec)) = context.subject.pod().filter(|_| standard.is_baseline()) else {
        return;
    };
    if !standard.since(19) {
        return check_annotations(context, metadata, findings);
    }
    let is_required = standard.is_restricted();
    if is_required && standard.exempts_windows() {
        return;
    }
    let of_pod = profile(&spec.security_context);
    if let Some(bad) = of_pod.filter(|it| !is_filter(it)) {
        let path = pod_field(context, "seccompProfile").field("type");
        findings.violation(path, shown(bad), REQUIRED, FIX);
        findings.about(bad);
        let inherits = |own: &SecurityContext<'_>| profile(own).is_none();
        inherit(context, &["seccompProfile", "type"], inherits, findings);
    }
    for it in context.subject.containers() {
        let own = profile(&it.container.security_context);
        let observed = match own {
            Some(own) if is_filter(own) => continue,
            Some(bad) => shown(bad),
            None if is_required && of_pod.is_none() => Observed::Unset("left to the kubelet"),
            None => continue,
        };
        let path = container_field(context, &it, "seccompProfile");
        findings.violation(path.field("type"), observed, REQUIRED, FIX);
        // What is stated is worse than what is left to the kubelet, which may have a filter.
        if let Some(bad) = own {
            findings.about(bad);
        }
    }
}

fn check_annotations(context: &Context<'_, '_>, metadata: &Metadata<'_>, findings: &mut Findings<'_>) {
    let containers = context.subject.containers();
    let names = containers.map(|it| format!("{CONTAINER_ANNOTATION}{}", it.container.name));
    for key in names.chain([POD_ANNOTATION.to_owned()]) {
        let Some(value) = metadata.annotations.get(key.as_str()) else {
            continue;
        };
        let is_filter =
            matches!(value.as_str(), "runtime/default" | "docker/default") || value.starts_with("localhost/");
        if !is_filter {
            let required = "runtime/default, docker/default or localhost/…";
            let fix = "remove it, or set it to runtime/default";
            findings.violation(annotation(context, &key), shown(value), required, fix);
            findings.about(value.as_str());
        }
    }
}

/// The type that is stated; an empty one states nothing.
fn profile<'c>(context: &'c SecurityContext<'_>) -> Option<&'c str> {
    let kind = context.seccomp_profile.as_ref()?.kind.as_str();
    Some(kind).filter(|it| !it.is_empty())
}

fn is_filter(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}
