//! Files, directories and standard input, and the documents in them.

use std::cell::OnceCell;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Serialize;
use serde_json::Value;

use super::yaml::{self, Node, Position, Unreadable};

/// Largest file that is read. The API server takes 3 MiB for one object; a rendered chart holds many.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// A place in a file, as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Source {
    pub(super) file: String,
    pub(super) line: u64,
    pub(super) column: u64,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Something that is said about the input and is no violation.
pub(super) type Note = String;

/// One text with its documents.
#[derive(Debug)]
struct File {
    name: String,
    text: String,
    /// JSON is read without places, which is ten times as fast; they are looked up when something is found in it.
    nodes: OnceCell<Vec<Node>>,
}

impl File {
    fn nodes(&self) -> &[Node] {
        self.nodes
            .get_or_init(|| yaml::parse(&self.text).unwrap_or_default())
    }
}

/// One object, or what looks like one.
#[derive(Clone, Debug)]
pub(super) struct Document {
    file: Rc<File>,
    /// Its place among the file's documents.
    index: usize,
    /// Its place within a `kind: List`.
    item: Option<usize>,
    pub(super) value: Value,
}

impl Document {
    /// Where `path` of the object stands.
    pub(super) fn locate(&self, path: &str) -> Source {
        let document = self.file.nodes().get(self.index);
        let node = match self.item {
            Some(item) => document.and_then(|it| it.item(item)),
            None => document,
        };
        // A text that is JSON and no YAML at the same time, such as objects without anything between them.
        let start = Position { line: 1, column: 1 };
        let Position { line, column } = node.map_or(start, |it| it.locate(path));
        Source {
            file: self.file.name.clone(),
            line,
            column,
        }
    }

    /// The text at `pointer`, such as `/metadata/name`; empty when it is absent or no text.
    pub(super) fn text(&self, pointer: &str) -> &str {
        self.value
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// API group; empty for the core group.
    pub(super) fn group(&self) -> &str {
        self.text("/apiVersion")
            .split_once('/')
            .map_or("", |(group, _)| group)
    }

    /// Kind.
    pub(super) fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// The items of a `kind: List`, or the document itself.
    fn unwrap_list(self) -> Vec<Self> {
        let is_list = self.group().is_empty() && self.kind() == "List";
        match self.value.get("items") {
            Some(Value::Array(items)) if is_list => {
                let item = |(index, value): (usize, &Value)| Self {
                    file: Rc::clone(&self.file),
                    index: self.index,
                    item: Some(index),
                    value: value.clone(),
                };
                items.iter().enumerate().map(item).collect()
            }
            _ => vec![self],
        }
    }
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) documents: Vec<Document>,
    pub(super) notes: Vec<Note>,
    /// What could not be read.
    pub(super) errors: Vec<String>,
}

/// Reads files, directories and `-`.
pub(super) fn read(paths: &[String]) -> Input {
    let mut input = Input::default();
    for path in paths {
        input.add(path);
    }
    input
}

impl Input {
    fn add(&mut self, path: &str) {
        if path == "-" {
            let text = read_text(io::stdin().lock());
            return self.add_text("<stdin>".to_owned(), text, false);
        }
        let named = PathBuf::from(path);
        if !named.is_dir() {
            return self.add_file(&named, false);
        }
        let mut found = Vec::new();
        if let Err(error) = walk(&named, &mut found) {
            self.errors.push(format!("{path}: {error}"));
        }
        if found.is_empty() {
            self.notes
                .push(format!("{path}: no *.yaml, *.yml or *.json below it"));
        }
        for file in found {
            self.add_file(&file, true);
        }
    }

    fn add_file(&mut self, path: &Path, walked: bool) {
        let text = fs::File::open(path).and_then(read_text);
        self.add_text(path.display().to_string(), text, walked);
    }

    /// `walked` files were not named by the user: a directory may hold templates of a chart.
    fn add_text(&mut self, name: String, text: io::Result<String>, walked: bool) {
        let text = match text {
            Ok(text) => text,
            Err(error) => return self.errors.push(format!("{name}: {error}")),
        };
        match parse(&text) {
            Ok((values, nodes)) => {
                let file = Rc::new(File { name, text, nodes });
                let document = |(index, value)| Document {
                    file: Rc::clone(&file),
                    index,
                    item: None,
                    value,
                };
                let documents = values.into_iter().enumerate().map(document);
                self.documents.extend(documents.flat_map(Document::unwrap_list));
            }
            Err(_) if walked && text.contains("{{") => self.notes.push(format!(
                "{name}: skipped, a template that is not rendered; try helm template … | portcullis check -"
            )),
            Err(error) => self.errors.push(unreadable(&name, &text, &error)),
        }
    }
}

/// The values of a text, and their places where they were read along with them.
fn parse(text: &str) -> Result<(Vec<Value>, OnceCell<Vec<Node>>), Unreadable> {
    if text.trim_start().starts_with('{') {
        let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        // What begins like JSON may still be YAML, which then says what is wrong.
        if let Ok(values) = values.collect::<Result<Vec<_>, _>>() {
            return Ok((values, OnceCell::new()));
        }
    }
    let nodes = yaml::parse(text)?;
    let values = nodes.iter().map(Node::to_json).collect();
    Ok((values, OnceCell::from(nodes)))
}

fn unreadable(name: &str, text: &str, error: &Unreadable) -> String {
    let place = error.position.map_or_else(
        || name.to_owned(),
        |Position { line, column }| format!("{name}:{line}:{column}"),
    );
    let remedy = if text.contains("{{") {
        "; it looks like a template that is not rendered, try helm template … | portcullis check -"
    } else {
        ""
    };
    format!("{place}: cannot be read as YAML or JSON: {}{remedy}", error.cause)
}

fn read_text(reader: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("is larger than 64 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("is no UTF-8 text"))
}

/// The files below a directory that hold objects, sorted. Links to directories are not followed: they may lead round
/// in circles.
fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries: Vec<fs::DirEntry> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(&path, found)?;
        } else if is_manifest(&path) && path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|it| it.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}
