//! Label selectors, matched against borrowed labels.

use std::collections::BTreeMap;

use portcullis_api::{Expression, Operator, Selector};

use crate::Text;

/// Labels of an object, wherever they are kept.
pub trait Labels {
    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<Text<'_>, Text<'_>> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(Text::as_str)
    }
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// A selector that is never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelSelector {
    source: Selector,
}

impl LabelSelector {
    /// Checks what the schema states, and the syntax of keys and values; each finding is a path below the selector
    /// and a message.
    pub(crate) fn compile(selector: &Selector) -> Result<Self, Vec<(&'static str, String)>> {
        let mut findings = Vec::new();
        match (&selector.match_labels, &selector.match_expressions) {
            (Some(labels), None) if !labels.is_empty() => check_labels(labels, &mut findings),
            (None, Some(expressions)) if !expressions.is_empty() => {
                check_expressions(expressions, &mut findings)
            }
            _ => findings.push((
                "",
                "must state exactly one of matchLabels and matchExpressions, and never be empty".into(),
            )),
        }
        if findings.is_empty() {
            Ok(Self {
                source: selector.clone(),
            })
        } else {
            Err(findings)
        }
    }

    /// Whether it matches these labels.
    #[must_use]
    pub fn matches(&self, labels: &impl Labels) -> bool {
        let by_labels = self.source.match_labels.iter().flatten();
        let by_expressions = self.source.match_expressions.iter().flatten();
        by_labels
            .into_iter()
            .all(|(key, value)| labels.label(key) == Some(value))
            && by_expressions.into_iter().all(|it| holds(it, labels))
    }

    /// The same selector in Kubernetes' own words, for objects that are generated.
    #[must_use]
    pub fn to_kubernetes(&self) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector {
        use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
        let expressions = self.source.match_expressions.as_ref().map(|list| {
            let requirement = |it: &Expression| meta::LabelSelectorRequirement {
                key: it.key.clone(),
                operator: operator_name(it.operator).to_owned(),
                values: it.values.clone(),
            };
            list.iter().map(requirement).collect()
        });
        meta::LabelSelector {
            match_labels: self.source.match_labels.clone(),
            match_expressions: expressions,
        }
    }
}

fn operator_name(operator: Operator) -> &'static str {
    match operator {
        Operator::In => "In",
        Operator::NotIn => "NotIn",
        Operator::Exists => "Exists",
        Operator::DoesNotExist => "DoesNotExist",
    }
}

fn holds(expression: &Expression, labels: &impl Labels) -> bool {
    let value = labels.label(&expression.key);
    let listed = value.is_some_and(|it| expression.values.iter().flatten().any(|listed| listed == it));
    match expression.operator {
        Operator::In => listed,
        Operator::NotIn => !listed,
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
    }
}

fn check_labels(labels: &BTreeMap<String, String>, findings: &mut Vec<(&'static str, String)>) {
    for (key, value) in labels {
        if !is_label_key(key) {
            findings.push((
                ".matchLabels",
                format!("has the key `{key}`, which is no label key"),
            ));
        }
        if !is_label_value(value) {
            findings.push((
                ".matchLabels",
                format!("has the value `{value}`, which is no label value"),
            ));
        }
    }
}

fn check_expressions(expressions: &[Expression], findings: &mut Vec<(&'static str, String)>) {
    for it in expressions {
        if !is_label_key(&it.key) {
            findings.push((
                ".matchExpressions",
                format!("has the key `{}`, which is no label key", it.key),
            ));
        }
        let needs_values = matches!(it.operator, Operator::In | Operator::NotIn);
        if needs_values == it.values.as_ref().is_none_or(Vec::is_empty) {
            let message = "must have values with operator In or NotIn, and none with Exists or DoesNotExist";
            findings.push((".matchExpressions", message.into()));
        }
        for value in it.values.iter().flatten().filter(|value| !is_label_value(value)) {
            findings.push((
                ".matchExpressions",
                format!("has the value `{value}`, which is no label value"),
            ));
        }
    }
}

/// `prefix/name`, as in Kubernetes' `IsQualifiedName`.
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_subdomain = |it: &str| {
        !it.is_empty()
            && it.len() <= 253
            && it.split('.').all(|part| {
                is_framed(part)
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            })
    };
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_label_value(name)
}

fn is_label_value(value: &str) -> bool {
    value.is_empty()
        || (value.len() <= 63
            && is_framed(value)
            && value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')))
}

/// Begins and ends with a letter or digit.
fn is_framed(text: &str) -> bool {
    let is_alphanumeric = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    is_alphanumeric(text.as_bytes().first()) && is_alphanumeric(text.as_bytes().last())
}
