//! Users and groups are those that the policy names.
//!
//! Fields: `securityContext.runAsUser` and `.runAsGroup` of pod and container, `.fsGroup` of the pod. A container's value
//! wins over the pod's; unset is not allowed. Beyond the Pod Security Standards, so it runs at every level.
//! Pods that state Windows are exempt: the API server refuses the fields there.
//! Source: S0-35, S1-21, S1-22, S1-64.

use portcullis_api::{ExpectedIds, IdRange, RuleId};

use super::{container_field, inherit, pod_field, shown};
use crate::object::SecurityContext;
use crate::path::FieldPath;
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::subject::ContainerKind;
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodExpectedUid,
    title: "unexpected user or group",
    meaning: "users and groups are those that the policy names",
    section: Section::PodSecurity,
    severities: Severities::OFF_WARN_WARN,
    page: include_str!("../../../../../docs/rules/pod/expected-uid.md"),
    check,
};

/// One id of a security context.
type Read = fn(&SecurityContext<'_>) -> Option<i64>;

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let Some((_, spec)) = context.subject.pod().filter(|_| !context.subject.is_windows()) else {
        return;
    };
    let section = context.policy.pod_security.as_ref();
    let all = section.map_or(&[][..], |it| &it.ids).iter();
    for ids in all.filter(|it| concerns(context, it)) {
        let of_containers: [(_, _, Read); 2] = [
            ("runAsUser", ids.run_as_user, |it| it.run_as_user),
            ("runAsGroup", ids.run_as_group, |it| it.run_as_group),
        ];
        for (field, range, read) in of_containers {
            if let Some(range) = range {
                check_containers(context, &spec.security_context, field, range, read, findings);
            }
        }
        if let Some(range) = ids.fs_group {
            let path = pod_field(context, "fsGroup");
            check_id(path, "fsGroup", spec.security_context.fs_group, range, findings);
        }
    }
}

/// Whether the entry speaks of the subject.
fn concerns(context: &Context<'_, '_>, ids: &ExpectedIds) -> bool {
    let names = ids.components.as_ref();
    names.is_none_or(|names| context.components.iter().any(|it| names.contains(&it.name)))
}

/// An id that containers inherit is reported once, at the pod.
fn check_containers(
    context: &Context<'_, '_>,
    pod: &SecurityContext<'_>,
    field: &'static str,
    range: IdRange,
    read: Read,
    findings: &mut Findings<'_>,
) {
    let judged = || {
        context
            .subject
            .containers()
            .filter(|it| it.kind != ContainerKind::Ephemeral)
    };
    let inherits = |it: &SecurityContext<'_>| read(it).is_none();
    if judged().any(|it| inherits(&it.container.security_context))
        && check_id(pod_field(context, field), field, read(pod), range, findings)
    {
        inherit(context, &[field], inherits, findings);
    }
    for it in judged() {
        let own = read(&it.container.security_context);
        if own.is_some() {
            check_id(container_field(context, &it, field), field, own, range, findings);
        }
    }
}

/// Whether it reports the id.
fn check_id(
    path: FieldPath,
    field: &str,
    stated: Option<i64>,
    range: IdRange,
    findings: &mut Findings<'_>,
) -> bool {
    if stated.is_some_and(|it| (range.min..=range.max).contains(&it)) {
        return false;
    }
    let observed = stated.map_or(Observed::Unset(""), |it| shown(&it.to_string()));
    let required = match range.min == range.max {
        true => range.min.to_string(),
        false => format!("{} to {}", range.min, range.max),
    };
    findings.violation(path, observed, required, format!("set {field} to {}", range.min));
    findings.about(stated.map_or("unset".to_owned(), |it| it.to_string()));
    true
}
