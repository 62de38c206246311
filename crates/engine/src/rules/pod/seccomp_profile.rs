//! a seccomp profile filters the system calls of each container.

use portcullis_api::RuleId;

use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodSeccompProfile,
    title: "no seccomp profile",
    meaning: "a seccomp profile filters the system calls of each container",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/seccomp-profile.md"),
    check,
};

fn check(_context: &Context<'_, '_>, _findings: &mut Findings<'_>) {}
