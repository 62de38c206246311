//! No container may run as user 0.
//!
//! Field: `securityContext.runAsUser` of pod and container. Allowed: anything but 0; from v1.35 on anything in a pod with
//! `hostUsers: false`, whose root is an unprivileged user of the host.
//! Source: Pod Security Standards, Restricted, "Running as Non-root user" (v1.23 and later); S0-85, S1-63, S1-116, S2-70,
//! S3-44, S3-72.

use portcullis_api::RuleId;

use super::standard::Standard;
use super::{container_field, inherit, pod_field, shown};
use crate::object::SecurityContext;
use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodRunAsUser,
    title: "user 0",
    meaning: "no container may run as user 0, which is root",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/run-as-user.md"),
    check,
};

const REQUIRED: &str = "a user above 0";
const FIX: &str = "set runAsUser to a user above 0 that may read the image's files";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let standard = Standard::of(context);
    if !standard.is_restricted() || !standard.since(23) || standard.exempts_user_namespace() {
        return;
    }
    let is_root = |it: &SecurityContext<'_>| it.run_as_user == Some(0);
    if context
        .subject
        .pod()
        .is_some_and(|(_, spec)| is_root(&spec.security_context))
    {
        findings.violation(pod_field(context, "runAsUser"), shown("0"), REQUIRED, FIX);
        let inherits = |it: &SecurityContext<'_>| it.run_as_user.is_none();
        inherit(context, &["runAsUser"], inherits, findings);
    }
    for it in context.subject.containers() {
        if is_root(&it.container.security_context) {
            let path = container_field(context, &it, "runAsUser");
            findings.violation(path, shown("0"), REQUIRED, FIX);
        }
    }
}
