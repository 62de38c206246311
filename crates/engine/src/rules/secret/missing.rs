//! every Secret that a workload refers to is there.

use portcullis_api::RuleId;

use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::SecretMissing,
    title: "missing secret",
    meaning: "every Secret that a workload refers to is there",
    section: Section::Secrets,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/secret/missing.md"),
    check,
};

fn check(_context: &Context<'_, '_>, _findings: &mut Findings<'_>) {}
