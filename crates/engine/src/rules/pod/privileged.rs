//! no container may be privileged.

use portcullis_api::RuleId;

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

fn check(_context: &Context<'_, '_>, _findings: &mut Findings<'_>) {}
