//! the root file system of each container is read-only.

use portcullis_api::RuleId;

use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodReadOnlyRootFilesystem,
    title: "writable root file system",
    meaning: "the root file system of each container is read-only",
    section: Section::PodSecurity,
    severities: Severities::OFF_WARN_WARN,
    page: include_str!("../../../../../docs/rules/pod/read-only-root-filesystem.md"),
    check,
};

fn check(_context: &Context<'_, '_>, _findings: &mut Findings<'_>) {}
