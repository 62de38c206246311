//! Containers drop all capabilities and add only harmless ones.
//!
//! Fields: `securityContext.capabilities.drop` and `.add` of each container; pods have no such field. Allowed at
//! Baseline: adding the container runtimes' defaults without `NET_RAW`. Allowed at Restricted: dropping `ALL` and adding
//! `NET_BIND_SERVICE`. Names are compared as they are written, without `CAP_` and in capital letters, as the standard
//! does.
//! Pods that state Windows are exempt from Restricted: the API server refuses the fields there.
//! Source: Pod Security Standards, "Capabilities"; S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::standard::Standard;
use super::{container_field, shown};
use crate::object::Capabilities;
use crate::path::FieldPath;
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::text::Text;
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodCapabilities,
    title: "excess capabilities",
    meaning: "containers drop all capabilities and add only harmless ones",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/capabilities.md"),
    check,
};

/// What Baseline lets a container add, sorted.
const BASELINE: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// What Restricted lets a container add.
const RESTRICTED: &[&str] = &["NET_BIND_SERVICE"];

/// What container runtimes leave to a container that drops nothing, beside [`BASELINE`], which is defined by that.
const RUNTIME_DEFAULT_BEYOND_BASELINE: &str = "NET_RAW";

const FIX_DROP: &str = "set capabilities.drop to [ALL], in capital letters";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let standard = Standard::of(context);
    let drops_all = standard.is_restricted() && standard.since(22);
    if !standard.is_baseline() || drops_all && standard.exempts_windows() {
        return;
    }
    let allowed = if drops_all { RESTRICTED } else { BASELINE };
    for it in context.subject.containers() {
        let path = || container_field(context, &it, "capabilities");
        let capabilities = it.container.security_context.capabilities.as_ref();
        if drops_all {
            check_drop(capabilities, path, findings);
        }
        check_add(capabilities, allowed, path, findings);
    }
}

fn check_drop(
    capabilities: Option<&Capabilities<'_>>,
    path: impl Fn() -> FieldPath,
    findings: &mut Findings<'_>,
) {
    let dropped = capabilities.map_or(&[][..], |it| &it.drop);
    if dropped.iter().any(|it| it.as_str() == "ALL") {
        return;
    }
    let observed = match dropped {
        [] => Observed::Unset("the container runtime's defaults stay"),
        dropped => shown(&list(dropped.iter().map(Text::as_str))),
    };
    findings.violation(path().field("drop"), observed, "ALL", FIX_DROP);
    // Dropping less than before is another violation.
    let defaults = BASELINE.iter().chain(&[RUNTIME_DEFAULT_BEYOND_BASELINE]);
    for it in defaults.filter(|it| !dropped.iter().any(|dropped| dropped.as_str() == **it)) {
        findings.about(*it);
    }
}

fn check_add(
    capabilities: Option<&Capabilities<'_>>,
    allowed: &[&str],
    path: impl Fn() -> FieldPath,
    findings: &mut Findings<'_>,
) {
    let added = capabilities.map_or(&[][..], |it| &it.add);
    let excess = || added.iter().map(Text::as_str).filter(|it| !allowed.contains(it));
    if excess().next().is_none() {
        return;
    }
    let names = list(excess());
    findings.violation(
        path().field("add"),
        shown(&names),
        format!("none but {}", allowed.join(", ")),
        format!("remove {names} from capabilities.add"),
    );
    for it in excess() {
        findings.about(it);
    }
}

fn list<'t>(names: impl Iterator<Item = &'t str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
