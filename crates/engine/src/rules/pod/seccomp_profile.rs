//! A seccomp profile filters the system calls of each container.
//!
//! Field: `securityContext.seccompProfile.type` of pod and container; a container's wins over the pod's. Allowed:
//! `RuntimeDefault`, `Localhost`; at Baseline also unset. Annotations of old Kubernetes versions no longer count.
//! Pods that state Windows are exempt from Restricted: the API server refuses the field there.
//! Source: Pod Security Standards, "Seccomp"; S0-85, S3-44, S3-73.

use portcullis_api::{PodSecurityLevel, RuleId};

use super::{container_field, inherit, level, pod_field, shown};
use crate::object::SecurityContext;
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

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let (Some((_, spec)), level) = (context.subject.pod(), level(context)) else {
        return;
    };
    let restricted = level == PodSecurityLevel::Restricted;
    if level < PodSecurityLevel::Baseline || restricted && context.subject.is_windows() {
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
            None if restricted && of_pod.is_none() => Observed::Unset("left to the kubelet"),
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

/// The type that is stated; an empty one states nothing.
fn profile<'c>(context: &'c SecurityContext<'_>) -> Option<&'c str> {
    let kind = context.seccomp_profile.as_ref()?.kind.as_str();
    Some(kind).filter(|it| !it.is_empty())
}

fn is_filter(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}
