//! The Pod Security Standards as this product judges them, and random pods to judge.

// Each file that includes this uses its own part.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses its own part of this module"
)]

pub mod pods;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use portcullis_api::{Enforcement, RuleId, SecurityPolicy};
use portcullis_engine::{CompiledPolicy, Facts, Subject, evaluate, select};
use serde_json::{Value, json};

/// Rules of `podSecurity` that go beyond the standard.
const BEYOND: &[&str] = &[
    "pod/expected-uid",
    "pod/share-process-namespace",
    "pod/resources",
    "pod/probes",
    "pod/read-only-root-filesystem",
    "storage/permissions",
];

/// The rules of the standard that report the pod.
pub fn reported(policy: &CompiledPolicy, pod: &Value) -> Result<BTreeSet<RuleId>> {
    let json = pod.to_string();
    let subject = Subject::from_json(&json, "default")?;
    let facts = Facts::default();
    let governing = select([policy], &subject, None, &facts);
    let verdict = evaluate(&governing, &subject, &facts, Enforcement::Deny);
    ensure!(verdict.unknowns.is_empty(), "{:?}", verdict.unknowns);
    Ok(verdict.violations.iter().map(|it| it.rule).collect())
}

/// A policy that asks for nothing but a level of the standard, in a version.
pub fn policy(level: &str, version: &str) -> Result<CompiledPolicy> {
    let level = match level {
        "baseline" => "Baseline",
        _ => "Restricted",
    };
    let beyond: Vec<Value> = BEYOND
        .iter()
        .map(|id| json!({"id": id, "enforcement": "Disabled"}))
        .collect();
    let policy: SecurityPolicy = serde_json::from_value(json!({
        "apiVersion": "portcullis.dev/v1alpha1",
        "kind": "SecurityPolicy",
        "metadata": {"name": "standard", "namespace": "default"},
        "spec": {
            "rulesVersion": "v1",
            "environment": "Production",
            "enforcement": "Deny",
            "workloads": {"scope": "Namespace"},
            "podSecurity": {"level": level, "version": version},
            "rules": beyond,
        },
    }))?;
    Ok(CompiledPolicy::try_from(&policy)?)
}
