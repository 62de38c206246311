//! Every object under every policy of its namespace, by the very function that the webhook calls.

use std::collections::BTreeSet;

use portcullis_api::Enforcement;
use portcullis_engine::mutation::{self, Scope};
use portcullis_engine::object::Object;
use portcullis_engine::{CompiledPolicy, Kind, Subject, Verdict, evaluate, render, select};
use serde::Deserialize;
use serde_json::Value;

use super::admitted;
use super::facts::Inventory;
use super::files::{Document, Note};

/// How objects are judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options<'o> {
    /// Namespace of objects that state none.
    pub(super) namespace: Option<&'o str>,
    /// Whether the files are all there is.
    pub(super) complete: bool,
}

/// What was found about one object.
#[derive(Debug)]
pub(super) struct Judged<'d> {
    pub(super) document: &'d Document,
    /// `Deployment agents/api`
    pub(super) subject: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) verdict: Verdict,
    /// Whom to ask, of the policies that govern it.
    pub(super) contacts: BTreeSet<String>,
}

/// What was found about all objects.
#[derive(Debug, Default)]
pub(super) struct Judgement<'d> {
    pub(super) judged: Vec<Judged<'d>>,
    pub(super) notes: Vec<Note>,
    /// Objects that cannot be read.
    pub(super) errors: Vec<String>,
}

/// One namespace with its policies and facts.
struct Namespace<'d> {
    name: &'d str,
    policies: Vec<&'d CompiledPolicy>,
    inventory: Inventory<'d>,
}

/// Judges every document that a policy governs.
pub(super) fn judge<'d>(
    documents: &'d [Document],
    policies: &'d [CompiledPolicy],
    options: Options<'d>,
) -> Judgement<'d> {
    let names: BTreeSet<&str> = policies.iter().map(|it| it.name.namespace.as_str()).collect();
    let namespaces: Vec<Namespace<'_>> = names
        .into_iter()
        .map(|name| Namespace {
            name,
            policies: policies.iter().filter(|it| it.name.namespace == name).collect(),
            inventory: Inventory::new(
                name,
                documents.iter().filter(|it| belongs(it, name, options)),
                options.complete,
            ),
        })
        .collect();
    let mut judgement = Judgement::default();
    for document in documents.iter().filter(|it| admitted::kind(it) != Kind::Other) {
        let mut said = false;
        for namespace in namespaces.iter().filter(|it| belongs(document, it.name, options)) {
            said |= judgement.add(document, namespace);
        }
        if !said {
            judgement.note_ungoverned(document);
        }
    }
    judgement
}

/// Whether a document lies in `namespace`: it says so, or nothing says otherwise.
fn belongs(document: &Document, namespace: &str, options: Options<'_>) -> bool {
    match (document.text("/metadata/namespace"), options.namespace) {
        ("", Some(default)) => default == namespace,
        ("", None) => true,
        (own, _) => own == namespace,
    }
}

impl<'d> Judgement<'d> {
    /// Judges a document by the policies of one namespace; whether they have anything to do with it.
    fn add(&mut self, document: &'d Document, namespace: &Namespace<'d>) -> bool {
        let Ok(object) = Object::deserialize(&document.value) else {
            self.errors.push(wrong_type(document));
            return true;
        };
        let mut subject = Subject::new(object, namespace.name);
        let mut facts = namespace.inventory.for_selection(document);
        let governing = select(namespace.policies.iter().copied(), &subject, None, &facts);
        if governing.is_empty() {
            return false;
        }
        // Templates and Pods alike are judged as if admission had already set what the policies set.
        let mutation = mutation::apply(&governing, &mut subject, Scope::All);
        for warning in mutation.warnings {
            self.notes
                .push(format!("{}: {subject}: {warning}", document.locate("")));
        }
        namespace.inventory.add_references(&subject, &mut facts);
        let verdict = evaluate(&governing, &subject, &facts, Enforcement::Deny);
        if let Some(why) = render::presumption(&governing, verdict.violations.iter()) {
            self.notes
                .push(format!("{}: {subject}: {why}", document.locate("")));
        }
        self.judged.push(Judged {
            document,
            subject: subject.to_string(),
            namespace: subject.namespace().to_owned(),
            name: subject.name(),
            verdict,
            contacts: governing
                .iter()
                .filter_map(|it| it.policy.contact.clone())
                .collect(),
        });
        true
    }

    fn note_ungoverned(&mut self, document: &Document) {
        let (place, kind, name) = (
            document.locate(""),
            document.kind(),
            document.text("/metadata/name"),
        );
        self.notes
            .push(format!("{place}: {kind} {name} is governed by no policy"));
    }
}

/// What serde says of a wrong type quotes the value, which may be a credential.
fn wrong_type(document: &Document) -> String {
    let path = unquoted_variable(&document.value, "");
    let place = document.locate(path.as_deref().unwrap_or_default());
    let (kind, name) = (document.kind(), document.text("/metadata/name"));
    match path {
        Some(path) => format!("{place}: {kind} {name}: `{path}` must be a string: put quotes around it"),
        None => format!("{place}: {kind} {name}: a field has another type than Kubernetes gives it"),
    }
}

/// The usual cause: `env[].value` that YAML reads as number or boolean.
fn unquoted_variable(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            let is_wrong =
                name == "value" && path.contains(".env[") && (value.is_number() || value.is_boolean());
            if is_wrong {
                Some(path)
            } else {
                unquoted_variable(value, &path)
            }
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| unquoted_variable(item, &format!("{path}[{index}]"))),
        _ => None,
    }
}
