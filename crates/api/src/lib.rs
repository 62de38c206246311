//! The kinds of group `portcullis.dev`: plain types, their schemas and their CEL validations.
//!
//! No client and no runtime: webhook, controller, command line and tests share these types, and the
//! descriptions here are what `kubectl explain` prints.

mod acting;
mod http;
mod images;
mod network;
mod pod_security;
mod policy;
mod rule_id;
mod secrets;
mod selector;
mod status;

pub use acting::{ACTING_FIELDS, JUDGING_FIELDS, REACH_FIELDS};
pub use http::{Cors, Http};
pub use images::{ImageVersions, Images};
pub use network::{
    Flow, FlowDefault, Network, NetworkMode, Peer, PodsOfNamespace, Port, Preset, preset_fixes_ports,
};
pub use pod_security::{ExpectedIds, IdRange, PodDefault, PodSecurity, PodSecurityLevel};
pub use policy::{
    Component, Enforcement, Environment, Role, RuleOverride, RulesVersion, Scope, SecurityPolicy,
    SecurityPolicySpec, Severity, Workloads,
};
pub use rule_id::RuleId;
pub use secrets::{Delivery, DeliveryMode, LiteralPolicy, OnMissing, SecretEntry, SecretKeyRef, Secrets};
pub use selector::{Expression, Operator, Selector};
pub use status::{
    GeneratedCounts, ProposedNetworkPolicy, SecretCounts, SecurityPolicyStatus, WorkloadCounts, condition,
    reason,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

/// API group of every kind here.
pub const GROUP: &str = "portcullis.dev";

/// Field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = "portcullis";

/// The CustomResourceDefinitions of all kinds, sorted by name; what `portcullis crds` prints.
///
/// Fields are not nullable: the API server then drops a `null` before it validates, so that `selector: null` is the
/// same as no selector in every validation.
///
/// # Errors
/// When a derived schema is no valid CustomResourceDefinition any more, which only a change of the types can cause.
pub fn crds() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    [SecurityPolicy::crd()]
        .into_iter()
        .map(|crd| serde_json::from_value(tidy(serde_json::to_value(crd)?)))
        .collect()
}

/// Drops `nullable` and unfolds the line breaks that doc comments leave in descriptions.
fn tidy(schema: Value) -> Value {
    match schema {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(name, value)| !(name == "nullable" && value.is_boolean()))
                .map(|(name, value)| match value {
                    Value::String(text) if name == "description" => (name, Value::String(unfold(&text))),
                    value => (name, tidy(value)),
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(tidy).collect()),
        other => other,
    }
}

/// One line for each paragraph.
fn unfold(text: &str) -> String {
    text.split("\n\n")
        .map(|paragraph| paragraph.replace('\n', " "))
        .collect::<Vec<_>>()
        .join("\n\n")
}
