//! The pods behind an Ingress, by the selectors of its backend Services: those that run, and the templates of those that
//! are still to come, as whoever applies an Ingress first gets the same pods behind it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use portcullis_engine::{Backend, Labels, PodsBehind};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::listing::{ListError, Pages, TEMPLATES, is_made_by_controller, items, template_labels};
use super::look_up::is_object_name;
use crate::error::describe;

/// Look-ups at a time, in the whole process: each holds pages of lists, and whoever writes an Ingress starts one.
static TURNS: Semaphore = Semaphore::const_new(2);

/// Services that one look-up asks for at a time.
const PARALLEL: usize = 4;

/// Pods of one Service that are looked at; those of one Deployment differ in nothing that a policy selects by.
const MAX_PODS: u32 = 500;

/// Bytes of labels that one look-up keeps; a single object may have more than a MiB of them.
const MAX_LABELS: usize = 4 * 1024 * 1024;

/// The Services that an Ingress sends requests to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backends {
    #[serde(default)]
    spec: Option<Spec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    default_backend: Option<Target>,
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Rule {
    #[serde(default)]
    http: Option<Http>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Http {
    #[serde(default)]
    paths: Option<Vec<Path>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Path {
    #[serde(default)]
    backend: Option<Target>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Target {
    #[serde(default)]
    service: Option<ServiceName>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ServiceName {
    #[serde(default)]
    name: Option<String>,
}

impl Backends {
    /// Names of the Services, each once.
    pub fn services(&self) -> BTreeSet<String> {
        let Some(spec) = &self.spec else {
            return BTreeSet::new();
        };
        let paths = spec.rules.iter().flatten().filter_map(|it| it.http.as_ref());
        let paths = paths.flat_map(|it| it.paths.iter().flatten());
        let targets = paths
            .filter_map(|it| it.backend.as_ref())
            .chain(&spec.default_backend);
        let services = targets.filter_map(|it| it.service.as_ref());
        services.filter_map(|it| it.name.clone()).collect()
    }
}

/// Services of one namespace, and the labels that their selectors are compared with.
#[derive(Debug)]
pub struct Backing<'t> {
    namespace: String,
    services: BTreeMap<String, Backend>,
    /// Services with more pods than were looked at.
    crowded: BTreeSet<String>,
    running: BTreeSet<Labels>,
    templates: Cow<'t, BTreeSet<Labels>>,
}

impl<'t> Backing<'t> {
    /// Looks up `services` with their pods, live. `templates` are those of the namespace where the caller has just listed
    /// them; they are listed otherwise.
    ///
    /// # Errors
    /// Why it is not known, in a part of a sentence.
    pub async fn look_up(
        client: &Client,
        namespace: &str,
        services: &BTreeSet<String>,
        templates: Option<&'t BTreeSet<Labels>>,
        deadline: Instant,
    ) -> Result<Self, Arc<str>> {
        let mut backing = Self {
            namespace: namespace.to_owned(),
            services: BTreeMap::new(),
            crowded: BTreeSet::new(),
            running: BTreeSet::new(),
            templates: templates.map(Cow::Borrowed).unwrap_or_default(),
        };
        if services.is_empty() {
            return Ok(backing);
        }
        let look_up = async {
            // It is never closed.
            let _turn = TURNS.acquire().await.ok();
            if templates.is_none() {
                backing.templates = Cow::Owned(list_templates(client, namespace).await?);
            }
            backing.add(client, services).await
        };
        match timeout_at(deadline, look_up).await {
            Ok(Ok(())) => Ok(backing),
            Ok(Err(error)) => {
                let cause = describe(&error);
                Err(format!("pods behind the Ingress could not be looked up: {cause}").into())
            }
            Err(_) => Err("pods behind the Ingress could not be looked up in time".into()),
        }
    }

    /// The Services, and the labels of the pods that they select.
    async fn add(&mut self, client: &Client, services: &BTreeSet<String>) -> Result<(), Failure> {
        let requests: Vec<_> = services
            .iter()
            .map(|name| Found::look_up(client.clone(), self.namespace.clone(), name.clone()))
            .collect();
        let mut answers = stream::iter(requests).buffer_unordered(PARALLEL);
        let mut running = Kept::default();
        while let Some(found) = answers.try_next().await? {
            running.extend(found.labels)?;
            if found.is_crowded {
                self.crowded.insert(found.name.clone());
            }
            self.services.insert(found.name, found.backend);
        }
        self.running = running.labels;
        Ok(())
    }

    /// The pods behind those of the Services that `ingress` names.
    pub fn behind(&self, ingress: &Backends) -> PodsBehind {
        let named = ingress.services();
        let services = self.services.iter().filter(|(name, _)| named.contains(*name));
        let services = services.map(|(name, service)| (name.as_str(), service));
        let labels = self.templates.iter().chain(&self.running);
        let mut behind = PodsBehind::of(&self.namespace, services, labels);
        // What was not looked at may be anybody's: whoever puts pods of another policy first must not hide it.
        let crowded = self.crowded.intersection(&named).next();
        let why = crowded.map(|name| {
            let namespace = &self.namespace;
            format!("Service {namespace}/{name} selects more than {MAX_PODS} pods").into()
        });
        behind.awaited = behind.awaited.or(why);
        behind
    }
}

/// Why the pods behind an Ingress could not be looked up.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Service(#[from] kube::Error),
    #[error("labels of pods and their templates must have at most {MAX_LABELS} bytes together")]
    Labels,
}

/// Sets of labels, each once, as far as they are kept.
#[derive(Default)]
struct Kept {
    labels: BTreeSet<Labels>,
    bytes: usize,
}

impl Kept {
    fn extend(&mut self, all: impl IntoIterator<Item = Labels>) -> Result<(), Failure> {
        for labels in all {
            let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
            if self.labels.insert(labels) {
                self.bytes += bytes;
            }
            if self.bytes > MAX_LABELS {
                return Err(Failure::Labels);
            }
        }
        Ok(())
    }
}

/// A Service, and the labels of the pods that it selects.
struct Found {
    name: String,
    backend: Backend,
    labels: BTreeSet<Labels>,
    /// Whether there are more pods than were looked at.
    is_crowded: bool,
}

impl Found {
    async fn look_up(client: Client, namespace: String, name: String) -> Result<Self, Failure> {
        let api: Api<Service> = Api::namespaced(client.clone(), &namespace);
        let service = match is_object_name(&name) {
            true => api.get_opt(&name).await?,
            false => None,
        };
        let selector = service.map(|it| it.spec.and_then(|it| it.selector).unwrap_or_default());
        let mut found = Self {
            name,
            backend: match &selector {
                None => Backend::Absent,
                Some(selector) if selector.is_empty() => Backend::Elsewhere,
                Some(selector) => Backend::Selects(selector.clone()),
            },
            labels: BTreeSet::new(),
            is_crowded: false,
        };
        if let Backend::Selects(selector) = &found.backend {
            (found.labels, found.is_crowded) = list_pods(&client, &namespace, selector).await?;
        }
        Ok(found)
    }
}

/// Labels of the pods that `selector` selects, and whether there are more than were looked at.
async fn list_pods(
    client: &Client,
    namespace: &str,
    selector: &Labels,
) -> Result<(BTreeSet<Labels>, bool), Failure> {
    #[derive(Deserialize)]
    struct Labelled {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        labels: Labels,
    }
    let mut kept = Kept::default();
    let mut left = MAX_PODS as usize;
    let mut pages = Pages::of_pods(client, namespace, selector, MAX_PODS);
    while left > 0
        && let Some(page) = pages.next().await?
    {
        let pods: Vec<Labelled> = items(&page)?;
        left = left.saturating_sub(pods.len());
        kept.extend(pods.into_iter().map(|it| it.metadata.labels))?;
    }
    Ok((kept.labels, pages.has_more()))
}

/// Labels of all templates of the namespace that pods run from, or will. A template cannot be selected by its labels, so
/// that all are read, one page at a time.
async fn list_templates(client: &Client, namespace: &str) -> Result<BTreeSet<Labels>, Failure> {
    let mut kept = Kept::default();
    for kind in TEMPLATES {
        let mut pages = Pages::of(client, kind, namespace);
        while let Some(page) = pages.next().await? {
            let objects = items(&page)?.into_iter();
            let own = objects.filter(|it| !is_made_by_controller(it));
            kept.extend(own.filter_map(|it| template_labels(&kind.subject(it, namespace))))?;
        }
    }
    Ok(kept.labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_of_an_ingress_is_found_once() {
        let json = r#"{"spec": {"defaultBackend": {"service": {"name": "web"}}, "rules": [{"host": "a"}, {"http":
            {"paths": [{"backend": {"service": {"name": "api"}}}, {"backend": {"resource": {"kind": "Bucket"}}},
            {"backend": {"service": {"name": "web"}}}]}}]}}"#;
        let backends: Backends = serde_json::from_str(json).unwrap();
        assert_eq!(Vec::from_iter(backends.services()), ["api", "web"]);
    }
}
