//! Pods set none but safe sysctls.
//!
//! Field: `securityContext.sysctls[].name` of the pod. Allowed: those that are namespaced and isolated, more with later
//! versions of the standard.
//! Source: Pod Security Standards, Baseline, "Sysctls"; S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::standard::Standard;
use super::{pod_field, shown};
use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodSysctls,
    title: "unsafe sysctl",
    meaning: "pods set none but safe sysctls",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/sysctls.md"),
    check,
};

/// The safe ones, each with the minor of Kubernetes since which the standard has it.
const SAFE: &[(&str, u16)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.tcp_wmem", 32),
];

const REQUIRED: &str = "none but the safe sysctls, which the rule's page lists";

const FIX: &str = "remove it: beyond the safe ones a sysctl may change the node or other pods";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let standard = Standard::of(context);
    let Some((_, spec)) = context.subject.pod().filter(|_| standard.is_baseline()) else {
        return;
    };
    let is_safe = |name: &str| {
        SAFE.iter()
            .any(|(safe, since)| *safe == name && standard.since(*since))
    };
    for (index, it) in spec.security_context.sysctls.iter().enumerate() {
        if !is_safe(&it.name) {
            let path = pod_field(context, "sysctls").item(index, Some(&it.name));
            findings.violation(path.field("name"), shown(&it.name), REQUIRED, FIX);
            findings.about(it.name.as_str());
        }
    }
}
