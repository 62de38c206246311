//! Label selectors that can never be empty.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A label selector that is never empty, by labels or by expressions.
///
/// Kubernetes' own selector matches everything when it is empty, so that a misspelt field, which the API server
/// drops, would open what it was meant to narrow. Here exactly one of the two fields is stated
/// (`docs/adr/0002-selectors.md`).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.matchLabels) != has(self.matchExpressions)")
    .message("a selector must state exactly one of matchLabels and matchExpressions, and is never empty"))]
pub struct Selector {
    /// Labels that must all be there with these values. Example: `{app: magsag-api}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    pub match_labels: Option<BTreeMap<String, String>>,

    /// Expressions that must all hold. Example: `[{key: app, operator: In, values: [api, worker]}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub match_expressions: Option<Vec<Expression>>,
}

/// One condition on one label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.operator in ['In', 'NotIn']) == has(self.values)")
    .message("matchExpressions[].values is required with operator In or NotIn and must be absent with Exists or DoesNotExist"))]
pub struct Expression {
    /// Key of the label. Example: `app.kubernetes.io/part-of`.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,

    /// How the label is compared. Example: `In`.
    pub operator: Operator,

    /// Values to compare with, for `In` and `NotIn`. Example: `[api, worker]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(max = 63)))]
    pub values: Option<Vec<String>>,
}

/// How a label is compared, as in Kubernetes' label selectors.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}
