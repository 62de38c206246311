//! No container of any kind may start as root.
//!
//! Field: `securityContext.runAsNonRoot` of pod and container. A container's value wins over the pod's. Allowed: `true`;
//! from v1.35 on anything in a pod with `hostUsers: false`, whose root is an unprivileged user of the host.
//! Source: Pod Security Standards, Restricted, "Running as Non-root"; S0-85, S1-63, S1-116, S2-70, S3-44, S3-72.

use portcullis_api::RuleId;

use super::standard::Standard;
use super::{container_field, inherit, pod_field, shown};
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
    let standard = Standard::of(context);
    if !standard.is_restricted() || standard.exempts_user_namespace() {
        return;
    }
    let Some((_, spec)) = context.subject.pod() else {
        return;
    };
    let fix = match context.subject.is_windows() {
        true => FIX_WINDOWS,
        false => FIX,
    };
    let pod = &spec.security_context;
    // Containers that inherit it are not reported again.
    if pod.run_as_non_root == Some(false) {
        let path = pod_field(context, "runAsNonRoot");
        findings.violation(path, shown("false"), "true", fix);
        let inherits = |it: &SecurityContext<'_>| it.run_as_non_root.is_none();
        inherit(context, &["runAsNonRoot"], inherits, findings);
    }
    for it in context.subject.containers() {
        check_container(context, pod, &it, fix, findings);
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
    let observed = match (own.run_as_non_root, pod.run_as_non_root) {
        (Some(true), _) | (None, Some(_)) => return,
        (Some(false), _) => shown("false"),
        (None, None) => match own.run_as_user.or(pod.run_as_user) {
            None => Observed::Unset("image user unknown"),
            Some(0) => Observed::Unset("and the user is 0"),
            Some(_) => Observed::Unset("though the user is not root"),
        },
    };
    let path = container_field(context, it, "runAsNonRoot");
    findings.violation(path, observed, "true", fix);
}
