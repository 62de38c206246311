//! No container may be privileged.
//!
//! Field: `securityContext.privileged` of each container. Allowed: `false`, unset.
//! Source: Pod Security Standards, Baseline, "Privileged Containers"; S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::standard::Standard;
use super::{container_field, shown};
use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodPrivileged,
    title: "privileged container",
    meaning: "no container may be privileged",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/privileged.md"),
    check,
};

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    if !Standard::of(context).is_baseline() {
        return;
    }
    for it in context.subject.containers() {
        if it.container.security_context.privileged == Some(true) {
            let path = container_field(context, &it, "privileged");
            findings.violation(path, shown("true"), "false", "set privileged to false");
        }
    }
}
