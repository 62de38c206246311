//! No container of any kind may start as root.
//!
//! Fields: `securityContext.runAsNonRoot` and `.runAsUser` of pod and container. A container's value wins over the
//! pod's. Allowed: `runAsNonRoot: true` with any `runAsUser` but 0; anything in a pod with `hostUsers: false`, whose
//! root is an unprivileged user of the host.
//! Source: Pod Security Standards, Restricted, "Running as Non-root" and "Running as Non-root user"; S0-85, S1-63,
//! S1-116, S2-70, S3-44, S3-72.

use portcullis_api::{PodSecurityLevel, RuleId};

use super::{container_field, inherit, level, pod_field, shown};
use crate::object::SecurityContext;
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::subject::ContainerRef;
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

/// Windows has no numeric users: the API server refuses `runAsUser` there.
const FIX_WINDOWS: &str = "set runAsNonRoot to true and windowsOptions.runAsUserName to ContainerUser";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let (Some((_, spec)), PodSecurityLevel::Restricted) = (context.subject.pod(), level(context)) else {
        return;
    };
    if spec.host_users == Some(false) {
        return;
    }
    let fix = if context.subject.is_windows() {
        FIX_WINDOWS
    } else {
        FIX
    };
    let pod = &spec.security_context;
    check_pod(context, pod, fix, findings);
    for it in context.subject.containers() {
        check_container(context, pod, &it, fix, findings);
    }
}

/// What the pod itself says against the rule; containers that inherit it are not reported again.
fn check_pod(
    context: &Context<'_, '_>,
    pod: &SecurityContext<'_>,
    fix: &'static str,
    findings: &mut Findings<'_>,
) {
    if pod.run_as_non_root == Some(false) {
        let path = pod_field(context, "runAsNonRoot");
        findings.violation(path, shown("false"), "true", fix);
        inherit(
            context,
            &["runAsNonRoot"],
            |it| it.run_as_non_root.is_none(),
            findings,
        );
    }
    if pod.run_as_user == Some(0) {
        let path = pod_field(context, "runAsUser");
        findings.violation(path, shown("0"), "a user above 0", fix);
        inherit(context, &["runAsUser"], |it| it.run_as_user.is_none(), findings);
    }
}

fn check_container(
    context: &Context<'_, '_>,
    pod: &SecurityContext<'_>,
    it: &ContainerRef<'_, '_>,
    fix: &'static str,
    findings: &mut Findings<'_>,
) {
    let own = &it.container.security_context;
    if own.run_as_user == Some(0) {
        let path = container_field(context, it, "runAsUser");
        findings.violation(path, shown("0"), "a user above 0", fix);
    }
    let observed = match (own.run_as_non_root, pod.run_as_non_root) {
        (Some(true), _) | (None, Some(_)) => return,
        (Some(false), _) => shown("false"),
        (None, None) if own.run_as_user.or(pod.run_as_user).is_some() => Observed::Unset(""),
        (None, None) => Observed::Unset("image user unknown"),
    };
    let path = container_field(context, it, "runAsNonRoot");
    findings.violation(path, observed, "true", fix);
}
