//! No container of any kind may start as root.
//!
//! Fields: `securityContext.runAsNonRoot` and `.runAsUser` of pod and container. A container's value wins over the
//! pod's. Allowed: `runAsNonRoot: true` with any `runAsUser` but 0.
//! Source: Pod Security Standards, Restricted, "Running as Non-root" and "Running as Non-root user"; S1-63, S3-44.

use portcullis_api::{PodSecurityLevel, RuleId};

use super::level;
use crate::object::SecurityContext;
use crate::path::FieldPath;
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodRunAsNonRoot,
    title: "root user",
    meaning: "no container may start as root",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/run-as-non-root.md"),
    check,
};

const FIX: &str = "set runAsNonRoot to true and a numeric runAsUser above 0";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let (Some((_, spec)), PodSecurityLevel::Restricted) = (context.subject.pod(), level(context)) else {
        return;
    };
    let pod = &spec.security_context;
    check_pod(context, pod, findings);
    for it in context.subject.containers() {
        let path = context.subject.container_path(&it).field("securityContext");
        check_container(pod, &it.container.security_context, path, findings);
    }
}

/// What the pod itself says against the rule; containers that inherit it are not reported again.
fn check_pod(context: &Context<'_, '_>, pod: &SecurityContext<'_>, findings: &mut Findings<'_>) {
    let path = || context.subject.pod_spec_path().field("securityContext");
    if pod.run_as_non_root == Some(false) {
        findings.violation(
            path().field("runAsNonRoot"),
            Observed::Shown("false".into()),
            "true",
            FIX,
        );
    }
    if pod.run_as_user == Some(0) {
        findings.violation(
            path().field("runAsUser"),
            Observed::Shown("0".into()),
            "a user above 0",
            FIX,
        );
    }
}

fn check_container(
    pod: &SecurityContext<'_>,
    own: &SecurityContext<'_>,
    path: FieldPath,
    findings: &mut Findings<'_>,
) {
    if own.run_as_user == Some(0) {
        let observed = Observed::Shown("0".into());
        findings.violation(path.clone().field("runAsUser"), observed, "a user above 0", FIX);
    }
    let path = path.field("runAsNonRoot");
    match (own.run_as_non_root, pod.run_as_non_root) {
        (Some(true), _) | (None, Some(_)) => {}
        (Some(false), _) => findings.violation(path, Observed::Shown("false".into()), "true", FIX),
        (None, None) => {
            let user = own.run_as_user.or(pod.run_as_user);
            let consequence = if user.is_some() { "" } else { "image user unknown" };
            findings.violation(path, Observed::Unset(consequence), "true", FIX);
        }
    }
}
