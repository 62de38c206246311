//! What is wrong with a policy, in words that name the field and the way out.

use std::fmt::Display;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::LocationSegment;
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use crate::cli::nearest;

/// Longer lists of possible values are not printed; the one that was probably meant is.
const MAX_LISTED: usize = 8;

/// One thing that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Where it stands.
    pub(super) path: String,
    /// What is wrong, beginning with the path.
    pub(super) text: String,
}

impl Finding {
    /// `message` goes on where the path ends: `must be …`.
    pub(super) fn clause(path: String, message: impl Display) -> Self {
        let text = format!("`{path}` {message}");
        Self { path, text }
    }

    /// `message` stands on its own.
    pub(super) fn sentence(path: String, message: impl Display) -> Self {
        let text = format!("`{path}`: {message}");
        Self { path, text }
    }
}

/// The findings behind one error of the structure. `schema` is the whole schema that was applied.
pub(super) fn of_structure(error: &ValidationError<'_>, schema: &Value) -> Vec<Finding> {
    let path = dotted(error);
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = known_fields(error, schema);
            let unknown = |name: &String| {
                let hint = nearest::hint(name, known.iter().copied());
                Finding::clause(child(&path, name), format!("is an unknown field{hint}"))
            };
            unexpected.iter().map(unknown).collect()
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            vec![Finding::clause(child(&path, name), "is required")]
        }
        // The only alternative of the schema: a name or a prefix for one.
        ValidationErrorKind::AnyOf { .. } => vec![Finding::clause(child(&path, "name"), "is required")],
        // What has the wrong type is told by that alone.
        ValidationErrorKind::Enum { .. } if !error.instance().is_string() => Vec::new(),
        kind => vec![Finding::clause(path, demand(kind, error.instance()))],
    }
}

/// What a value must be, and what it is.
fn demand(kind: &ValidationErrorKind, got: &Value) -> String {
    let count = || got.as_array().map_or(0, Vec::len);
    match kind {
        ValidationErrorKind::Enum { options } => one_of(options, got),
        ValidationErrorKind::Type { kind } => format!("must be {}, got {}", type_name(kind), type_of(got)),
        ValidationErrorKind::Pattern { pattern } => format!("must match {pattern}, got {}", shown(got)),
        ValidationErrorKind::Minimum { limit } => format!("must be at least {}, got {got}", whole(limit)),
        ValidationErrorKind::Maximum { limit } => format!("must be at most {}, got {got}", whole(limit)),
        ValidationErrorKind::MinLength { limit: 1 }
        | ValidationErrorKind::MinItems { limit: 1 }
        | ValidationErrorKind::MinProperties { limit: 1 } => "must not be empty".to_owned(),
        ValidationErrorKind::MaxLength { limit } => format!("must have at most {limit} characters"),
        ValidationErrorKind::MaxItems { limit } => {
            format!("must have at most {limit} items, got {}", count())
        }
        ValidationErrorKind::MaxProperties { limit } => format!("must have at most {limit} entries"),
        other => format!("does not fit the schema's {}", other.keyword()),
    }
}

fn one_of(options: &Value, got: &Value) -> String {
    let words: Vec<&str> = options
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let hint = nearest::hint(got.as_str().unwrap_or_default(), words.iter().copied());
    let got = shown(got);
    if words.len() > MAX_LISTED {
        // Only rule ids are so many.
        return format!("must be an id that `portcullis rules` lists, got {got}{hint}");
    }
    format!("must be one of {}, got {got}{hint}", words.join(", "))
}

/// The fields that stand beside an unknown one in the schema.
fn known_fields<'s>(error: &ValidationError<'_>, schema: &'s Value) -> Vec<&'s str> {
    let keyword = error.schema_path().as_str();
    let parent = keyword.strip_suffix("/additionalProperties").unwrap_or_default();
    let properties = schema.pointer(&format!("{parent}/properties"));
    let names = properties.and_then(Value::as_object).into_iter().flatten();
    names.map(|(name, _)| name.as_str()).collect()
}

fn type_name(kind: &TypeKind) -> String {
    let with_article = |it: JsonType| match it {
        JsonType::Array | JsonType::Integer | JsonType::Object => format!("an {it}"),
        _ => format!("a {it}"),
    };
    match kind {
        TypeKind::Single(kind) => with_article(*kind),
        TypeKind::Multiple(kinds) => kinds.iter().map(with_article).collect::<Vec<_>>().join(" or "),
    }
}

fn type_of(value: &Value) -> String {
    match value {
        Value::Bool(it) => {
            format!("the boolean {it}; YAML reads yes, no, on and off so: put quotes around the word")
        }
        Value::Number(it) => format!("the number {it}"),
        Value::String(it) => format!("the string `{it}`"),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Null => "null".to_owned(),
    }
}

/// The value between backticks.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

/// Bounds are floating-point numbers in a CRD.
fn whole(limit: &Value) -> String {
    limit
        .as_f64()
        .map_or_else(|| limit.to_string(), |it| it.to_string())
}

fn dotted(error: &ValidationError<'_>) -> String {
    let mut path = String::new();
    for segment in error.instance_path() {
        path = match segment {
            LocationSegment::Property(name) => child(&path, &name),
            LocationSegment::Index(index) => format!("{path}[{index}]"),
        };
    }
    path
}

/// The path of field or key `name` below `path`.
pub(super) fn child(path: &str, name: &str) -> String {
    if path.is_empty() {
        return name.to_owned();
    }
    if name.contains(['.', '/']) {
        return format!("{path}[{name}]");
    }
    format!("{path}.{name}")
}
