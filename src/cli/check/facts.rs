//! What the files tell beside the object that is judged: Secrets, ConfigMaps, and the pods behind an Ingress.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_engine::{
    Backend, ConfigMapFact, Fact, FactKey, Facts, KeyFact, Kind, Labels, PodsBehind, SecretFact, Subject,
};
use serde_json::{Map, Value};

use super::files::Document;

/// The objects of one namespace, as far as they are facts.
#[derive(Debug)]
pub(super) struct Inventory<'d> {
    namespace: &'d str,
    /// Secrets, ConfigMaps and Services by kind and name.
    named: BTreeMap<(&'d str, &'d str), &'d Document>,
    /// Labels of the pods that the objects run, each set once.
    pods: BTreeSet<Labels>,
    /// Whether the files are all there is.
    complete: bool,
}

impl<'d> Inventory<'d> {
    /// `documents` are those of `namespace`.
    pub(super) fn new(
        namespace: &'d str,
        documents: impl Iterator<Item = &'d Document>,
        complete: bool,
    ) -> Self {
        let mut inventory = Self {
            namespace,
            named: BTreeMap::new(),
            pods: BTreeSet::new(),
            complete,
        };
        for it in documents {
            inventory.pods.extend(pod_labels(it));
            if it.group().is_empty() {
                let name = it.text("/metadata/name");
                inventory.named.insert((it.kind(), name), it);
            }
        }
        inventory
    }

    /// The facts that choose the policies of `document`: the pods behind it, where it is an Ingress.
    pub(super) fn for_selection(&self, document: &Document) -> Facts {
        let is_ingress = Kind::of(document.group(), document.kind()) == Kind::Ingress;
        Facts {
            pods_behind: is_ingress.then(|| self.pods_behind(document)),
            ..Facts::default()
        }
    }

    /// Adds what `subject` refers to.
    pub(super) fn add_references(&self, subject: &Subject<'_>, facts: &mut Facts) {
        for key in portcullis_engine::references(subject) {
            match key {
                FactKey::Secret(name) => {
                    let fact = self.find("Secret", &name).map_or_else(
                        || self.not_found("Secret", &name),
                        |it| Fact::Known(Arc::new(secret_fact(it))),
                    );
                    facts.secrets.insert(name, fact);
                }
                FactKey::ConfigMap(name) => {
                    let fact = self.find("ConfigMap", &name).map_or_else(
                        || self.not_found("ConfigMap", &name),
                        |it| Fact::Known(Arc::new(config_map_fact(it))),
                    );
                    facts.config_maps.insert(name, fact);
                }
            }
        }
    }

    /// An object of the core group.
    fn find(&self, kind: &str, name: &str) -> Option<&'d Document> {
        self.named.get(&(kind, name)).copied()
    }

    fn not_found<T>(&self, kind: &str, name: &str) -> Fact<T> {
        if self.complete {
            return Fact::Absent;
        }
        Fact::Unknown(format!("{kind} {}/{name} is not among the files", self.namespace).into())
    }

    /// The pods that the Services behind an Ingress select; unknown when a Service or its pods may be somewhere else.
    fn pods_behind(&self, ingress: &Document) -> Fact<PodsBehind> {
        let mut services = BTreeMap::new();
        for name in services_behind(ingress) {
            let service = match self.find("Service", &name) {
                Some(service) => backend(service),
                None if self.complete => Backend::Absent,
                None => return self.not_found("Service", &name),
            };
            services.insert(name, service);
        }
        let services = services.iter().map(|(name, service)| (name.as_str(), service));
        match PodsBehind::of(self.namespace, services, &self.pods) {
            PodsBehind {
                awaited: Some(cause), ..
            } if !self.complete => Fact::Unknown(format!("{cause}, as far as the files tell").into()),
            behind => Fact::Known(behind),
        }
    }
}

fn backend(service: &Document) -> Backend {
    let selector = string_map(service.value.pointer("/spec/selector"));
    if selector.is_empty() {
        return Backend::Elsewhere;
    }
    Backend::Selects(selector)
}

fn secret_fact(secret: &Document) -> SecretFact {
    let fields = ["data", "stringData"];
    let entries = fields.iter().flat_map(|field| object(secret.value.get(field)));
    SecretFact {
        keys: entries
            .map(|(key, value)| {
                let empty = value.as_str().unwrap_or_default().is_empty();
                (key.clone(), KeyFact { empty })
            })
            .collect(),
    }
}

fn config_map_fact(config_map: &Document) -> ConfigMapFact {
    ConfigMapFact {
        data: string_map(config_map.value.get("data")),
    }
}

/// Names of the Services that an Ingress leads to.
fn services_behind(ingress: &Document) -> BTreeSet<String> {
    let list = |value: &Value, field: &str| {
        value
            .get(field)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let spec = ingress.value.get("spec").cloned().unwrap_or_default();
    let rules = list(&spec, "rules");
    let http = rules.iter().filter_map(|it| it.get("http"));
    let paths: Vec<Value> = http.flat_map(|it| list(it, "paths")).collect();
    let backends = paths.iter().filter_map(|it| it.get("backend"));
    backends
        .chain(spec.get("defaultBackend"))
        .filter_map(|it| it.pointer("/service/name").and_then(Value::as_str))
        .map(str::to_owned)
        .collect()
}

/// Labels of the pods that an object runs.
fn pod_labels(document: &Document) -> Option<BTreeMap<String, String>> {
    let fields = Kind::of(document.group(), document.kind()).template_fields()?;
    let template = fields
        .iter()
        .try_fold(&document.value, |value, field| value.get(field))?;
    Some(string_map(template.pointer("/metadata/labels")))
}

fn string_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let texts = object(value).filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    texts.collect()
}

fn object(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flat_map(Map::iter)
}
