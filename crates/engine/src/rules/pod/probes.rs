//! The kubelet can tell whether containers live and take requests.
//!
//! Fields: `readinessProbe` and `livenessProbe` of each main container of what runs for good: `restartPolicy` is `Always`
//! or unset. Beyond the Pod Security Standards, so it runs at every level.
//! Source: Kubernetes' documentation, "Configure Liveness, Readiness and Startup Probes".

use portcullis_api::RuleId;

use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::subject::ContainerKind;
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodProbes,
    title: "no probe",
    meaning: "the kubelet can tell whether containers live and take requests",
    section: Section::PodSecurity,
    severities: Severities::OFF_OFF_WARN,
    page: include_str!("../../../../../docs/rules/pod/probes.md"),
    check,
};

const FIX_READINESS: &str = "add one that succeeds once the container takes requests";
const FIX_LIVENESS: &str = "add one that only fails when a restart would help, not when a dependency is away";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let runs_for_good = |it: &str| matches!(it, "" | "Always");
    if !context
        .subject
        .pod()
        .is_some_and(|(_, spec)| runs_for_good(&spec.restart_policy))
    {
        return;
    }
    for it in context
        .subject
        .containers()
        .filter(|it| it.kind == ContainerKind::Main)
    {
        let probes = [
            ("readinessProbe", &it.container.readiness_probe, FIX_READINESS),
            ("livenessProbe", &it.container.liveness_probe, FIX_LIVENESS),
        ];
        for (field, _, fix) in probes.into_iter().filter(|(_, probe, _)| probe.is_none()) {
            let path = context.subject.container_path(&it).field(field);
            findings.violation(path, Observed::Unset(""), "a probe", fix);
        }
    }
}
