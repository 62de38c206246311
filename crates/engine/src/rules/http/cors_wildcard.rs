//! no wildcard among the allowed origins, in any notation.

use portcullis_api::RuleId;

use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::HttpCorsWildcard,
    title: "wildcard CORS",
    meaning: "no wildcard among the allowed origins, in any notation",
    section: Section::Http,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/http/cors-wildcard.md"),
    check,
};

fn check(_context: &Context<'_, '_>, _findings: &mut Findings<'_>) {}
