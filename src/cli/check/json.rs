//! The result for machines. Its fields are stable.

use portcullis_api::{RuleId, Severity};
use portcullis_engine::PolicyName;
use serde::Serialize;

use super::files::Source;
use super::judge::Judged;

/// Everything that was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report<'j> {
    violations: Vec<Violation<'j>>,
    not_judged: Vec<NotJudged<'j>>,
    pub(super) summary: Summary,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Violation<'j> {
    rule: RuleId,
    severity: Severity,
    policy: String,
    object: ObjectName<'j>,
    path: String,
    display_path: String,
    observed: String,
    required: &'j str,
    fix: &'j str,
    source: Source,
}

/// A demand that could not be judged, since a fact is not among the files.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NotJudged<'j> {
    rule: RuleId,
    severity: Severity,
    policy: String,
    object: ObjectName<'j>,
    path: String,
    display_path: String,
    cause: &'j str,
    source: Source,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectName<'j> {
    api_version: &'j str,
    kind: &'j str,
    namespace: &'j str,
    name: &'j str,
}

/// How much was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    /// Objects that a policy governs.
    pub(super) objects: usize,
    pub(super) deny: usize,
    pub(super) warn: usize,
    pub(super) audit: usize,
    pub(super) not_judged: usize,
}

impl Summary {
    pub(super) fn of(judged: &[Judged<'_>]) -> Self {
        let violations = || judged.iter().flat_map(|it| &it.verdict.violations);
        let count = |severity| violations().filter(|it| it.severity == severity).count();
        Self {
            objects: judged.len(),
            deny: count(Severity::Deny),
            warn: count(Severity::Warn),
            audit: count(Severity::Audit),
            not_judged: judged.iter().map(|it| it.verdict.unknowns.len()).sum(),
        }
    }
}

impl<'j> Report<'j> {
    pub(super) fn of(judged: &'j [Judged<'_>]) -> Self {
        Self {
            violations: judged.iter().flat_map(violations).collect(),
            not_judged: judged.iter().flat_map(not_judged).collect(),
            summary: Summary::of(judged),
        }
    }
}

fn violations<'j>(judged: &'j Judged<'_>) -> impl Iterator<Item = Violation<'j>> {
    judged.verdict.violations.iter().map(|it| Violation {
        rule: it.rule,
        severity: it.severity,
        policy: names(&it.policies),
        object: name(judged),
        path: it.path.indexed(),
        display_path: it.path.display(),
        observed: it.observed.to_string(),
        required: &it.required,
        fix: &it.remedy,
        source: judged.document.locate(&it.path.indexed()),
    })
}

fn not_judged<'j>(judged: &'j Judged<'_>) -> impl Iterator<Item = NotJudged<'j>> {
    judged.verdict.unknowns.iter().map(|it| NotJudged {
        rule: it.rule,
        severity: it.severity,
        policy: names(&it.policies),
        object: name(judged),
        path: it.path.indexed(),
        display_path: it.path.display(),
        cause: &it.cause,
        source: judged.document.locate(&it.path.indexed()),
    })
}

/// `agents/magsag`; several policies that demand the same are joined by `, `.
fn names(policies: &[PolicyName]) -> String {
    let names: Vec<String> = policies
        .iter()
        .map(|it| format!("{}/{}", it.namespace, it.name))
        .collect();
    names.join(", ")
}

fn name<'j>(judged: &'j Judged<'_>) -> ObjectName<'j> {
    ObjectName {
        api_version: judged.document.text("/apiVersion"),
        kind: judged.document.kind(),
        namespace: &judged.namespace,
        name: &judged.name,
    }
}
