//! The AppArmor profile of containers is not taken away.
//!
//! Fields: `securityContext.appArmorProfile.type` of pod and container, and annotations
//! `container.apparmor.security.beta.kubernetes.io/<container>` of the pod. Allowed: `RuntimeDefault`, `Localhost`, unset;
//! in annotations `runtime/default` and `localhost/…`.
//! Source: Pod Security Standards, Baseline, "AppArmor"; S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::standard::Standard;
use super::{annotation, container_field, inherit, pod_field, shown};
use crate::object::{Metadata, SecurityContext};
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::subject::ContainerRef;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodApparmorProfile,
    title: "AppArmor profile",
    meaning: "no container is taken out of its AppArmor profile",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/apparmor-profile.md"),
    check,
};

/// What the annotations begin with; the name of a container follows.
const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

const REQUIRED: &str = "RuntimeDefault or Localhost";
const FIX: &str = "set appArmorProfile to {type: RuntimeDefault}, or remove it";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let standard = Standard::of(context);
    let Some((metadata, spec)) = context.subject.pod().filter(|_| standard.is_baseline()) else {
        return;
    };
    if let Some(bad) = offending(&spec.security_context) {
        let path = pod_field(context, "appArmorProfile").field("type");
        findings.violation(path, shown(bad), REQUIRED, FIX);
        findings.about(bad);
        let inherits = |it: &SecurityContext<'_>| it.app_armor_profile.is_none();
        inherit(context, &["appArmorProfile", "type"], inherits, findings);
    }
    for it in context.subject.containers() {
        if let Some(bad) = offending(&it.container.security_context) {
            let path = container_field(context, &it, "appArmorProfile").field("type");
            findings.violation(path, shown(bad), REQUIRED, FIX);
            findings.about(bad);
        }
    }
    check_annotations(context, metadata, findings);
}

/// The type, where it is not allowed; an empty one states nothing.
fn offending<'c>(context: &'c SecurityContext<'_>) -> Option<&'c str> {
    let kind = context.app_armor_profile.as_ref()?.kind.as_str();
    (!matches!(kind, "" | "RuntimeDefault" | "Localhost")).then_some(kind)
}

fn check_annotations(context: &Context<'_, '_>, metadata: &Metadata<'_>, findings: &mut Findings<'_>) {
    let is_allowed = |it: &str| matches!(it, "" | "runtime/default") || it.starts_with("localhost/");
    let profiles = metadata
        .annotations
        .iter()
        .filter(|(key, _)| key.starts_with(ANNOTATION));
    for (key, value) in profiles.filter(|(_, value)| !is_allowed(value)) {
        let required = "runtime/default or localhost/…";
        let fix = "remove the annotation, or set it to runtime/default";
        findings.violation(annotation(context, key), shown(value), required, fix);
        // Of Pods the API server makes the field of it.
        let name = key.strip_prefix(ANNOTATION).unwrap_or_default();
        let is_told = |it: &ContainerRef<'_, '_>| {
            it.container.name.as_str() == name && it.container.security_context.app_armor_profile.is_none()
        };
        for it in context.subject.containers().filter(is_told) {
            findings.inherited_at(container_field(context, &it, "appArmorProfile").field("type"));
        }
        findings.about(if value.as_str() == "unconfined" {
            "Unconfined"
        } else {
            value.as_str()
        });
    }
}
