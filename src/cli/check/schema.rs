//! The CRD's own schema, applied to a file as strictly as the API server applies it with strict field validation.

use std::collections::BTreeSet;

use jsonschema::Validator;
use kube::core::cel;
use serde_json::{Map, Value, json};

use super::finding::{self, Finding};

/// The schema of a kind, ready to be applied.
#[derive(Debug)]
pub(super) struct Schema {
    /// As the CRD holds it.
    schema: Value,
    /// With unknown fields refused and what the API server knows of every object.
    strict: Value,
    structure: Validator,
}

impl Schema {
    /// The schema of `SecurityPolicy`.
    ///
    /// # Errors
    /// When the derived schema is none, which only a change of the types can cause.
    pub(super) fn of_security_policy() -> Result<Self, String> {
        let crd = portcullis_api::crds()
            .map_err(|error| error.to_string())?
            .into_iter()
            .find(|crd| crd.spec.names.kind == "SecurityPolicy");
        let version = crd.and_then(|crd| crd.spec.versions.into_iter().next());
        let schema = version
            .and_then(|it| it.schema)
            .and_then(|it| it.open_api_v3_schema);
        let schema = serde_json::to_value(schema).map_err(|error| error.to_string())?;
        let strict = with_metadata(strict(schema.clone()));
        let structure = jsonschema::options()
            .build(&strict)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            schema,
            strict,
            structure,
        })
    }

    /// All findings: first the structure, and when that is sound, what CEL validations say, as the API server does.
    /// `object` must be without nulls (see [`without_nulls`]).
    pub(super) fn findings(&self, object: &Value) -> Vec<Finding> {
        let errors = self.structure.iter_errors(object);
        let mut findings: Vec<Finding> = errors
            .flat_map(|error| finding::of_structure(&error, &self.strict))
            .collect();
        duplicates(&self.schema, object, "", &mut findings);
        if !findings.is_empty() {
            return findings;
        }
        let errors = cel::Validator::new().validate(&self.schema, object, None);
        let errors = errors.map_or_else(cel::ValidationErrors::into_vec, |()| Vec::new());
        let sentence = |it: cel::ValidationError| Finding::sentence(it.field_path, it.message);
        errors.into_iter().map(sentence).collect()
    }
}

/// Drops nulls from maps, as the API server does with fields that are not nullable before it looks at them.
pub(super) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// The schema with unknown fields refused, and the extensions that a JSON schema does not know in its own words.
fn strict(schema: Value) -> Value {
    let Value::Object(fields) = schema else {
        return schema;
    };
    let mut fields: Map<String, Value> = fields
        .into_iter()
        .map(|(name, value)| match (name.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                let properties = properties.into_iter().map(|(name, it)| (name, strict(it)));
                (name, Value::Object(properties.collect()))
            }
            ("items" | "additionalProperties", value) => (name, strict(value)),
            (_, value) => (name, value),
        })
        .collect();
    if fields.contains_key("properties") {
        fields.entry("additionalProperties").or_insert(json!(false));
    }
    if fields.contains_key("x-kubernetes-int-or-string") {
        fields.insert("type".into(), json!(["integer", "string"]));
    }
    Value::Object(fields)
}

/// What the API server itself knows of every object.
fn with_metadata(mut schema: Value) -> Value {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let metadata = json!({
        "type": "object",
        "properties": {
            "name": {
                "type": "string", "minLength": 1, "maxLength": 253,
                "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
            },
            "namespace": {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
            "labels": texts,
            "annotations": texts,
            "generateName": {}, "creationTimestamp": {}, "deletionGracePeriodSeconds": {}, "deletionTimestamp": {},
            "finalizers": {}, "generation": {}, "managedFields": {}, "ownerReferences": {}, "resourceVersion": {},
            "selfLink": {}, "uid": {},
        },
        "additionalProperties": false,
        "anyOf": [{"required": ["name"]}, {"required": ["generateName"]}],
    });
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(
            "apiVersion".into(),
            json!({"type": "string", "enum": ["portcullis.dev/v1alpha1"]}),
        );
        properties.insert(
            "kind".into(),
            json!({"type": "string", "enum": ["SecurityPolicy"]}),
        );
        properties.insert("metadata".into(), metadata);
        // Whatever the operator wrote into an object that was exported from a cluster.
        properties.insert("status".into(), json!({}));
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.push("metadata".into());
    }
    schema
}

/// Lists that are maps or sets hold nothing twice.
fn duplicates(schema: &Value, value: &Value, path: &str, findings: &mut Vec<Finding>) {
    match value {
        Value::Object(fields) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, inner) in properties.into_iter().flatten() {
                if let Some(value) = fields.get(name) {
                    duplicates(inner, value, &finding::child(path, name), findings);
                }
            }
        }
        Value::Array(items) => {
            let mut seen = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                if let Some(identity) = identity(schema, item)
                    && !seen.insert(identity.clone())
                {
                    let message = format!("must be unique, got {identity} twice");
                    findings.push(Finding::clause(path.clone(), message));
                }
                if let Some(inner) = schema.get("items") {
                    duplicates(inner, item, &path, findings);
                }
            }
        }
        _ => {}
    }
}

/// What tells `item` from the others of its list; `None` where a list may hold anything twice.
fn identity(list: &Value, item: &Value) -> Option<String> {
    if list.get("x-kubernetes-list-type").is_some_and(|it| it == "set") {
        return Some(finding::shown(item));
    }
    let keys = list.get("x-kubernetes-list-map-keys")?.as_array()?;
    let values = keys.iter().filter_map(|key| item.get(key.as_str()?));
    Some(values.map(finding::shown).collect::<Vec<_>>().join(", "))
}
