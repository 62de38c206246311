//! Containers say what they need of the node, and how much memory they get at most.
//!
//! Fields: `resources.requests.cpu`, `.requests.memory` and `.limits.memory` of each container but those of
//! `kubectl debug`, or of the pod. A limit counts as a request, too. Beyond the Pod Security Standards, so it runs at every
//! level.
//! Source: NSA and CISA, Kubernetes Hardening Guide, "Resource policies".

use portcullis_api::RuleId;

use super::shown;
use crate::object::Resources;
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::subject::ContainerKind;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodResources,
    title: "resources",
    meaning: "containers say what they need of the node, and how much memory they get at most",
    section: Section::PodSecurity,
    severities: Severities::OFF_WARN_WARN,
    page: include_str!("../../../../../docs/rules/pod/resources.md"),
    check,
};

const REQUIRED: &str = "requests and a memory limit";
const FIX: &str = "state what the container needs, as measured by `kubectl top pod --containers` under load";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let Some((_, spec)) = context.subject.pod() else {
        return;
    };
    for it in context
        .subject
        .containers()
        .filter(|it| it.kind != ContainerKind::Ephemeral)
    {
        let missing: Vec<&str> = missing(&spec.resources, &it.container.resources).collect();
        if !missing.is_empty() {
            let path = context.subject.container_path(&it).field("resources");
            let observed = format!("no {}", missing.join(", "));
            findings.violation(path, shown(&observed), REQUIRED, FIX);
            missing.iter().for_each(|it| findings.about(*it));
        }
    }
}

/// What neither the pod nor the container states.
fn missing(pod: &Resources, own: &Resources) -> impl Iterator<Item = &'static str> {
    let states = |is_stated: fn(&Resources) -> bool| is_stated(pod) || is_stated(own);
    let all = [
        (
            "requests.cpu",
            states(|it| it.requests.cpu.or(it.limits.cpu).is_some()),
        ),
        (
            "requests.memory",
            states(|it| it.requests.memory.or(it.limits.memory).is_some()),
        ),
        ("limits.memory", states(|it| it.limits.memory.is_some())),
    ];
    all.into_iter()
        .filter(|(_, is_stated)| !is_stated)
        .map(|(name, _)| name)
}
