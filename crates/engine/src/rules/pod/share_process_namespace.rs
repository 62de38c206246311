//! Containers of a pod do not see each other's processes.
//!
//! Field: `shareProcessNamespace` of the pod spec. Allowed: `false`, unset. Beyond the Pod Security Standards, so it runs
//! at every level.
//! Source: Kubernetes' documentation, "Share Process Namespace between Containers in a Pod".

use portcullis_api::RuleId;

use super::shown;
use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodShareProcessNamespace,
    title: "shared processes",
    meaning: "containers of a pod do not see each other's processes",
    section: Section::PodSecurity,
    severities: Severities::OFF_WARN_WARN,
    page: include_str!("../../../../../docs/rules/pod/share-process-namespace.md"),
    check,
};

const FIX: &str = "remove shareProcessNamespace: true; `kubectl debug --target` sees the processes of one container without it";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    if context
        .subject
        .pod()
        .is_some_and(|(_, spec)| spec.share_process_namespace)
    {
        let path = context.subject.pod_spec_path().field("shareProcessNamespace");
        findings.violation(path, shown("true"), "false", FIX);
    }
}
