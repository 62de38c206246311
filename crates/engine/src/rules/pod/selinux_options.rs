//! Containers keep the SELinux labels of containers.
//!
//! Fields: `securityContext.seLinuxOptions` of pod and container. Allowed: `type` unset or one of those for containers;
//! `user` and `role` unset.
//! Source: Pod Security Standards, Baseline, "SELinux"; S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::standard::Standard;
use super::{container_field, inherit, pod_field, shown};
use crate::object::{SeLinuxOptions, SecurityContext};
use crate::path::FieldPath;
use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodSelinuxOptions,
    title: "SELinux label",
    meaning: "containers keep the SELinux labels of containers",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/selinux-options.md"),
    check,
};

const TYPES_BEFORE_1_31: &[&str] = &["container_t", "container_init_t", "container_kvm_t"];

const TYPES: &[&str] = &[
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let standard = Standard::of(context);
    let Some((_, spec)) = context.subject.pod().filter(|_| standard.is_baseline()) else {
        return;
    };
    let inherits = |it: &SecurityContext<'_>| it.se_linux_options.is_none();
    for (field, value) in offending(&spec.security_context, standard) {
        report(
            pod_field(context, "seLinuxOptions"),
            field,
            value,
            standard,
            findings,
        );
        inherit(context, &["seLinuxOptions", field], inherits, findings);
    }
    for it in context.subject.containers() {
        for (field, value) in offending(&it.container.security_context, standard) {
            let path = container_field(context, &it, "seLinuxOptions");
            report(path, field, value, standard, findings);
        }
    }
}

/// The fields that are not allowed, with their values.
fn offending<'c>(
    context: &'c SecurityContext<'_>,
    standard: Standard,
) -> impl Iterator<Item = (&'static str, &'c str)> {
    let is_bad = move |(field, value): &(&str, &str)| match *field {
        "type" => !value.is_empty() && !types(standard).contains(value),
        _ => !value.is_empty(),
    };
    let fields = |it: &'c SeLinuxOptions<'_>| [("type", &*it.kind), ("user", &*it.user), ("role", &*it.role)];
    let options = context.se_linux_options.as_deref().into_iter();
    options.flat_map(fields).filter(is_bad)
}

fn report(
    path: FieldPath,
    field: &'static str,
    value: &str,
    standard: Standard,
    findings: &mut Findings<'_>,
) {
    let required = match field {
        "type" => format!("unset, or {}", types(standard).join(", ")),
        _ => "unset".to_owned(),
    };
    findings.violation(
        path.field(field),
        shown(value),
        required,
        format!("remove {field}"),
    );
    findings.about(value);
}

/// The types for containers in a version of the standard.
fn types(standard: Standard) -> &'static [&'static str] {
    match standard.since(31) {
        true => TYPES,
        false => TYPES_BEFORE_1_31,
    }
}
