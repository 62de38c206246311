//! No container of Windows runs on the host itself.
//!
//! Field: `securityContext.windowsOptions.hostProcess` of pod and container. Allowed: `false`, unset.
//! Source: Pod Security Standards, Baseline, "HostProcess"; S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::standard::Standard;
use super::{container_field, inherit, pod_field, shown};
use crate::object::SecurityContext;
use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodHostProcess,
    title: "Windows host process",
    meaning: "no container of Windows runs on the host itself",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/host-process.md"),
    check,
};

const FIX: &str = "remove hostProcess: true";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let standard = Standard::of(context);
    let Some((_, spec)) = context.subject.pod().filter(|_| standard.is_baseline()) else {
        return;
    };
    let is_host_process = |it: &SecurityContext<'_>| it.windows_options.host_process == Some(true);
    if is_host_process(&spec.security_context) {
        let path = pod_field(context, "windowsOptions").field("hostProcess");
        findings.violation(path, shown("true"), "false", FIX);
        let inherits = |it: &SecurityContext<'_>| it.windows_options.host_process.is_none();
        inherit(context, &["windowsOptions", "hostProcess"], inherits, findings);
    }
    for it in context.subject.containers() {
        if is_host_process(&it.container.security_context) {
            let path = container_field(context, &it, "windowsOptions").field("hostProcess");
            findings.violation(path, shown("true"), "false", FIX);
        }
    }
}
