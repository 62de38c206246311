//! containers drop all capabilities and add only harmless ones.

use portcullis_api::RuleId;

use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodCapabilities,
    title: "capabilities",
    meaning: "containers drop all capabilities and add only harmless ones",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/capabilities.md"),
    check,
};

fn check(_context: &Context<'_, '_>, _findings: &mut Findings<'_>) {}
