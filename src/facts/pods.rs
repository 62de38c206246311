//! The pods behind an Ingress, by the selectors of its backend Services: those that run, and the templates of those that
//! are still to come, as whoever applies an Ingress first gets the same pods behind it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use kube::{Api, Client};
use portcullis_engine::{Backend, Labels, PodsBehind};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::listing::{ListError, Listed, Pages, TEMPLATES, is_made_by_controller, items, template_labels};
use super::look_up::is_object_name;
use crate::error::describe;

/// Requests that one look-up has open at a time.
const PARALLEL: usize = 8;

/// Pods of one Service that are looked at; those of one Deployment differ in nothing that a policy selects by.
const MAX_PODS: u32 = 500;

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
        let templates = async {
            match templates {
                Some(known) => Ok(Cow::Borrowed(known)),
                None if services.is_empty() => Ok(Cow::default()),
                None => list_templates(client, namespace)
                    .await
                    .map(Cow::Owned)
                    .map_err(failed),
            }
        };
        let running = async { backends(client, namespace, services).await.map_err(failed) };
        let both = async { tokio::try_join!(templates, running) };
        match timeout_at(deadline, both).await {
            Ok(Ok((templates, (services, running)))) => Ok(Self {
                namespace: namespace.to_owned(),
                services,
                running,
                templates,
            }),
            Ok(Err(cause)) => Err(cause),
            Err(_) => Err("the API server did not answer in time for the pods behind the Ingress".into()),
        }
    }

    /// The pods behind those of the Services that `ingress` names.
    pub fn behind(&self, ingress: &Backends) -> PodsBehind {
        let named = ingress.services();
        let services = self.services.iter().filter(|(name, _)| named.contains(*name));
        let services = services.map(|(name, service)| (name.as_str(), service));
        PodsBehind::of(
            &self.namespace,
            services,
            self.templates.iter().chain(&self.running),
        )
    }
}

fn failed(error: impl Error + 'static) -> Arc<str> {
    format!(
        "pods behind the Ingress could not be looked up: {}",
        describe(&error)
    )
    .into()
}

/// The Services, and the labels of the pods that they select.
async fn backends(
    client: &Client,
    namespace: &str,
    services: &BTreeSet<String>,
) -> kube::Result<(BTreeMap<String, Backend>, BTreeSet<Labels>)> {
    let requests: Vec<_> = services
        .iter()
        .map(|name| backend(client.clone(), namespace.to_owned(), name.clone()))
        .collect();
    let answers = stream::iter(requests).buffer_unordered(PARALLEL);
    let answers: Vec<(String, Backend, Vec<Labels>)> = answers.try_collect().await?;
    let mut found = (BTreeMap::new(), BTreeSet::new());
    for (name, backend, labels) in answers {
        found.0.insert(name, backend);
        found.1.extend(labels);
    }
    Ok(found)
}

async fn backend(
    client: Client,
    namespace: String,
    name: String,
) -> kube::Result<(String, Backend, Vec<Labels>)> {
    let api: Api<Service> = Api::namespaced(client.clone(), &namespace);
    let service = match is_object_name(&name) {
        true => api.get_opt(&name).await?,
        false => None,
    };
    let Some(service) = service else {
        return Ok((name, Backend::Absent, Vec::new()));
    };
    let selector = service.spec.and_then(|it| it.selector).unwrap_or_default();
    if selector.is_empty() {
        return Ok((name, Backend::Elsewhere, Vec::new()));
    }
    let terms: Vec<String> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let params = ListParams::default().labels(&terms.join(",")).limit(MAX_PODS);
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let pods = pods.list_metadata(&params).await?.items.into_iter();
    let labels = pods.map(|it| it.metadata.labels.unwrap_or_default());
    Ok((name, Backend::Selects(selector), labels.collect()))
}

/// Labels of all templates of the namespace that pods run from, or will. A template cannot be selected by its labels, so
/// that all are read.
async fn list_templates(client: &Client, namespace: &str) -> Result<BTreeSet<Labels>, ListError> {
    let requests: Vec<_> = TEMPLATES
        .iter()
        .map(|kind| list_templates_of(client, kind, namespace))
        .collect();
    let lists = stream::iter(requests).buffer_unordered(PARALLEL);
    let lists: Vec<BTreeSet<Labels>> = lists.try_collect().await?;
    Ok(lists.into_iter().flatten().collect())
}

async fn list_templates_of(
    client: &Client,
    kind: &'static Listed,
    namespace: &str,
) -> Result<BTreeSet<Labels>, ListError> {
    let mut labels = BTreeSet::new();
    let mut pages = Pages::of(client, kind, namespace);
    while let Some(page) = pages.next().await? {
        let objects = items(&page)?.into_iter();
        let own = objects.filter(|it| !is_made_by_controller(it));
        labels.extend(own.filter_map(|it| template_labels(&kind.subject(it, namespace))));
    }
    Ok(labels)
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
