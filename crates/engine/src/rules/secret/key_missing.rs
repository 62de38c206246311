//! every Secret holds the keys that workloads refer to.

use portcullis_api::RuleId;

use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::SecretKeyMissing,
    title: "missing key",
    meaning: "every Secret holds the keys that workloads refer to",
    section: Section::Secrets,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/secret/key-missing.md"),
    check,
};

fn check(_context: &Context<'_, '_>, _findings: &mut Findings<'_>) {}
