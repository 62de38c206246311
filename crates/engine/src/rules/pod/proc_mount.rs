//! `/proc` stays masked.
//!
//! Field: `securityContext.procMount` of each container. Allowed: `Default`, unset; from v1.35 on at Baseline anything in
//! a pod with `hostUsers: false`.
//! Source: Pod Security Standards, Baseline and Restricted, "/proc Mount Type"; S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::standard::Standard;
use super::{container_field, shown};
use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodProcMount,
    title: "unmasked /proc",
    meaning: "the parts of /proc that tell of the node stay masked",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/proc-mount.md"),
    check,
};

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let standard = Standard::of(context);
    if !standard.is_baseline() || !standard.is_restricted() && standard.exempts_user_namespace() {
        return;
    }
    for it in context.subject.containers() {
        let stated = it.container.security_context.proc_mount.as_str();
        if !matches!(stated, "" | "Default") {
            let path = container_field(context, &it, "procMount");
            findings.violation(path, shown(stated), "Default", "remove procMount");
        }
    }
}
