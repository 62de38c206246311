//! Probes and lifecycle hooks stay within the pod.
//!
//! Fields: `host` of `httpGet` and `tcpSocket` in `livenessProbe`, `readinessProbe`, `startupProbe`,
//! `lifecycle.postStart` and `lifecycle.preStop` of each container. Allowed: empty, unset.
//! Source: Pod Security Standards, Baseline, "Host Probes / Lifecycle Hooks" (v1.34 and later); S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::shown;
use super::standard::Standard;
use crate::object::{Container, Handler};
use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodHostProbes,
    title: "probe of another host",
    meaning: "probes and lifecycle hooks stay within the pod",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/host-probes.md"),
    check,
};

const FIX: &str = "remove host, so that the kubelet calls the pod itself";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let standard = Standard::of(context);
    if !standard.is_baseline() || !standard.since(34) {
        return;
    }
    for it in context.subject.containers() {
        for (fields, handler) in handlers(it.container) {
            for (action, host) in [
                ("httpGet", &handler.http_get.host),
                ("tcpSocket", &handler.tcp_socket.host),
            ] {
                if !host.is_empty() {
                    let path = context
                        .subject
                        .container_path(&it)
                        .fields(fields)
                        .fields(&[action, "host"]);
                    findings.violation(path, shown(host), "unset", FIX);
                    findings.about(host.as_str());
                }
            }
        }
    }
}

/// What the kubelet calls for a container, each with its fields.
fn handlers<'c, 'a>(
    container: &'c Container<'a>,
) -> impl Iterator<Item = (&'static [&'static str], &'c Handler<'a>)> {
    let hooks = container.lifecycle.as_deref();
    let all: [(&[&str], _); 5] = [
        (&["livenessProbe"], container.liveness_probe.as_ref()),
        (&["readinessProbe"], container.readiness_probe.as_ref()),
        (&["startupProbe"], container.startup_probe.as_ref()),
        (
            &["lifecycle", "postStart"],
            hooks.and_then(|it| it.post_start.as_ref()),
        ),
        (
            &["lifecycle", "preStop"],
            hooks.and_then(|it| it.pre_stop.as_ref()),
        ),
    ];
    all.into_iter()
        .filter_map(|(fields, it)| it.map(|it| (fields, it)))
}
