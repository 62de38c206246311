//! The root file system of each container is read-only.
//!
//! Field: `securityContext.readOnlyRootFilesystem` of each container; pods have no such field. Allowed: `true`. Beyond
//! the Pod Security Standards, so it runs at every level.
//! Pods that state Windows are exempt: the API server refuses the field there.
//! Source: S0-34, S2-72.

use portcullis_api::RuleId;

use super::{container_field, shown};
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodReadOnlyRootFilesystem,
    title: "writable root filesystem",
    meaning: "the root file system of each container is read-only",
    section: Section::PodSecurity,
    severities: Severities::OFF_WARN_WARN,
    page: include_str!("../../../../../docs/rules/pod/read-only-root-filesystem.md"),
    check,
};

const FIX: &str = "set readOnlyRootFilesystem to true and mount an emptyDir where the container writes";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    if context.subject.is_windows() {
        return;
    }
    for it in context.subject.containers() {
        let observed = match it.container.security_context.read_only_root_filesystem {
            Some(true) => continue,
            Some(false) => shown("false"),
            None => Observed::Unset(""),
        };
        let path = container_field(context, &it, "readOnlyRootFilesystem");
        findings.violation(path, observed, "true", FIX);
    }
}
