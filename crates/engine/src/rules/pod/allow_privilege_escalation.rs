//! No process may gain more privileges than its parent has.
//!
//! Field: `securityContext.allowPrivilegeEscalation` of each container; pods have no such field. Allowed: `false`.
//! Pods that state Windows are exempt: the API server refuses the field there.
//! Source: Pod Security Standards, Restricted, "Privilege Escalation"; S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::standard::Standard;
use super::{container_field, shown};
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodAllowPrivilegeEscalation,
    title: "privilege escalation",
    meaning: "no process may gain more privileges than its parent has",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/allow-privilege-escalation.md"),
    check,
};

const FIX: &str = "set allowPrivilegeEscalation to false";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let standard = Standard::of(context);
    if !standard.is_restricted() || !standard.since(8) || standard.exempts_windows() {
        return;
    }
    for it in context.subject.containers() {
        let observed = match it.container.security_context.allow_privilege_escalation {
            Some(false) => continue,
            Some(true) => shown("true"),
            None => Observed::Unset("which means true"),
        };
        let path = container_field(context, &it, "allowPrivilegeEscalation");
        findings.violation(path, observed, "false", FIX);
    }
}
