//! Pods may not share the host's network, process ids or inter-process communication.
//!
//! Fields: `hostNetwork`, `hostPID`, `hostIPC` of the pod spec. Allowed: `false`, unset.
//! Source: Pod Security Standards, Baseline, "Host Namespaces"; S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::shown;
use super::standard::Standard;
use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodHostNamespaces,
    title: "host namespaces",
    meaning: "pods may not share the host's network, process ids or inter-process communication",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/host-namespaces.md"),
    check,
};

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let Some((_, spec)) = context.subject.pod() else {
        return;
    };
    if !Standard::of(context).is_baseline() {
        return;
    }
    for (field, shared) in [
        ("hostNetwork", spec.host_network),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
    ] {
        if shared {
            let path = context.subject.pod_spec_path().field(field);
            findings.violation(path, shown("true"), "false", format!("remove {field}: true"));
        }
    }
}
