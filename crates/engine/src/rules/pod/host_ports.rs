//! Containers open no ports on the node.
//!
//! Field: `ports[].hostPort` of each container. Allowed: 0, unset; beside `hostNetwork: true` the API server sets it to
//! `containerPort`.
//! Source: Pod Security Standards, Baseline, "Host Ports"; S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::shown;
use super::standard::Standard;
use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodHostPorts,
    title: "host port",
    meaning: "containers open no ports on the node",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/host-ports.md"),
    check,
};

const FIX: &str = "remove hostPort, and let a Service lead to the container's port";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let Some((_, spec)) = context.subject.pod() else {
        return;
    };
    if !Standard::of(context).is_baseline() {
        return;
    }
    for it in context.subject.containers() {
        for (index, port) in it.container.ports.iter().enumerate() {
            // Only of Pods: a template must not be admitted whose pods are refused.
            let is_implied = port.host_port == 0 && spec.host_network;
            let (number, observed) = match is_implied {
                true => (
                    port.container_port,
                    format!("{}, by hostNetwork", port.container_port),
                ),
                false => (port.host_port, port.host_port.to_string()),
            };
            if number != 0 {
                let path = context
                    .subject
                    .container_path(&it)
                    .field("ports")
                    .item(index, None);
                findings.violation(path.field("hostPort"), shown(&observed), "unset", FIX);
                findings.about(number.to_string());
            }
        }
    }
}
