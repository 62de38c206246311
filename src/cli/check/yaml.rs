//! YAML and JSON with the place of every value.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{Budget, Location, Options, Spanned};

/// Deepest nesting that is read: as deep as JSON is read, so that both forms of a file are accepted alike.
const MAX_DEPTH: usize = 128;

/// Most values in one file: more than fit into its largest size.
const MAX_NODES: usize = 64 * 1024 * 1024;

/// A place in a file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
        }
    }
}

/// Why a text cannot be read. Never holds a part of the text but keys, since values may be credentials.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) position: Option<Position>,
    pub(super) cause: String,
}

/// One value with its place.
#[derive(Debug)]
pub(super) struct Node {
    position: Position,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Scalar(Value),
    List(Vec<Node>),
    /// Key, its place, value.
    Map(Vec<(String, Position, Node)>),
}

/// Reads all documents of a text; documents of comments only are left out.
///
/// Like kubectl's reader it takes `yes`, `on` and `off` for booleans and `0777` for an octal number.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, Unreadable> {
    let mut budget = Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.max_nodes = MAX_NODES;
    budget.max_events = 4 * MAX_NODES;
    budget.max_documents = MAX_NODES;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.legacy_octal_numbers = true;
    options.with_snippet = false;
    let documents: Vec<Spanned<Content>> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| Unreadable {
            position: error.location().map(Position::from),
            cause: first_line(&error.without_snippet().to_string()),
        })?;
    Ok(documents.into_iter().map(Node::from).collect())
}

/// The message without the place, which is told on its own.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.split(" at line ")
        .next()
        .unwrap_or(line)
        .trim_end_matches(", set DuplicateKeyPolicy in Options if acceptable")
        .to_owned()
}

impl Node {
    /// The value without places.
    pub(super) fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Self::to_json).collect(),
            Content::Map(entries) => {
                let entry = |(key, _, value): &(String, Position, Node)| (key.clone(), value.to_json());
                Value::Object(entries.iter().map(entry).collect::<Map<_, _>>())
            }
        }
    }

    /// Item `index` of the value's field `items`.
    pub(super) fn item(&self, index: usize) -> Option<&Self> {
        let (_, items) = self.entry("items")?;
        match &items.content {
            Content::List(items) => items.get(index),
            _ => None,
        }
    }

    /// Where `path`, such as `spec.containers[0].env[3]`, stands; where it is not set, the last thing on the way to it.
    /// A field's place is that of its key.
    pub(super) fn locate(&self, path: &str) -> Position {
        let mut position = self.position;
        let mut node = self;
        for step in steps(path) {
            let next = match &node.content {
                Content::Map(_) => node.entry(step),
                Content::List(items) => step
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .map(|item| (item.position, item)),
                Content::Scalar(_) => None,
            };
            let Some(found) = next else { break };
            (position, node) = found;
        }
        position
    }

    fn entry(&self, name: &str) -> Option<(Position, &Self)> {
        let Content::Map(entries) = &self.content else {
            return None;
        };
        entries
            .iter()
            .find(|(key, ..)| key == name)
            .map(|(_, position, value)| (*position, value))
    }
}

impl From<Spanned<Content>> for Node {
    fn from(spanned: Spanned<Content>) -> Self {
        Self {
            position: spanned.referenced.into(),
            content: spanned.value,
        }
    }
}

/// The fields, indices and keys of a path: `a.b[0][x.y/z]` has `a`, `b`, `0` and `x.y/z`.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('.');
        if rest.is_empty() {
            return None;
        }
        let (step, tail) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']').unwrap_or((inner, "")),
            None => rest
                .find(['.', '['])
                .and_then(|at| rest.split_at_checked(at))
                .unwrap_or((rest, "")),
        };
        rest = tail;
        Some(step)
    })
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element::<Spanned<Content>>()? {
            items.push(item.into());
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = access.next_entry::<Spanned<String>, Spanned<Content>>()? {
            entries.push((key.value, key.referenced.into(), value.into()));
        }
        Ok(Content::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Position, parse, steps};

    const TEXT: &str = "# comment\n---\nmetadata:\n  annotations:\n    a.b/c: x\nspec:\n  containers:\n  - name: api\n    mode: 0644\n    on: yes\n---\n# only a comment\n---\n[1]\n";

    #[test]
    fn documents_of_comments_only_are_left_out() {
        let documents = parse(TEXT).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1].to_json(), json!([1]));
    }

    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        let container = &parse(TEXT).unwrap()[0].to_json()["spec"]["containers"][0];
        assert_eq!(container, &json!({"name": "api", "mode": 0o644, "on": true}));
    }

    #[test]
    fn a_path_is_located_at_its_key_or_at_the_last_thing_on_the_way() {
        let documents = parse(TEXT).unwrap();
        let at = |path| {
            let Position { line, column } = documents[0].locate(path);
            (line, column)
        };
        assert_eq!(at(""), (3, 1));
        assert_eq!(at("metadata.annotations[a.b/c]"), (5, 5));
        assert_eq!(at("spec.containers[0].name"), (8, 5));
        assert_eq!(at("spec.containers[0].securityContext.runAsNonRoot"), (8, 5));
        assert_eq!(at("spec.containers[7]"), (7, 3));
    }

    #[test]
    fn a_path_falls_into_fields_indices_and_keys() {
        assert_eq!(
            steps("a.b[0][x.y/z].c").collect::<Vec<_>>(),
            ["a", "b", "0", "x.y/z", "c"]
        );
    }

    #[test]
    fn an_error_tells_the_place_and_no_value() {
        let error = parse("a: 1\na: hunter2\n").unwrap_err();
        assert_eq!(error.cause, "duplicate mapping key: a");
        assert_eq!(error.position, Some(Position { line: 2, column: 1 }));
    }
}
