//! allowed origins are set and lie in the policy's list.

use portcullis_api::RuleId;

use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::HttpCorsExplicit,
    title: "CORS origins",
    meaning: "allowed origins are set and lie in the policy's list",
    section: Section::Http,
    severities: Severities::OFF_DENY_DENY,
    page: include_str!("../../../../../docs/rules/http/cors-explicit.md"),
    check,
};

fn check(_context: &Context<'_, '_>, _findings: &mut Findings<'_>) {}
