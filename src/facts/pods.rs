//! The pods behind an Ingress, by the selectors of its backend Services.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::ListParams;
use portcullis_engine::Fact;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::error::describe;
use crate::operator::Context;

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
    default_backend: Option<Backend>,
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
    backend: Option<Backend>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Backend {
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
        let backends = paths
            .filter_map(|it| it.backend.as_ref())
            .chain(&spec.default_backend);
        let services = backends.filter_map(|it| it.service.as_ref());
        services.filter_map(|it| it.name.clone()).collect()
    }
}

/// Labels of the pods behind `services`, one map for each distinct set, looked up live.
pub async fn pods_behind(
    context: &Context,
    namespace: &str,
    services: &BTreeSet<String>,
    deadline: Instant,
) -> Fact<Vec<BTreeMap<String, String>>> {
    match timeout_at(deadline, labels_behind(context, namespace, services)).await {
        Ok(Ok(labels)) => Fact::Known(labels.into_iter().collect()),
        Ok(Err(error)) => {
            let cause = describe(&error);
            Fact::Unknown(format!("pods behind the Ingress could not be listed: {cause}").into())
        }
        Err(_) => {
            Fact::Unknown("the API server did not answer in time for the pods behind the Ingress".into())
        }
    }
}

async fn labels_behind(
    context: &Context,
    namespace: &str,
    services: &BTreeSet<String>,
) -> kube::Result<BTreeSet<BTreeMap<String, String>>> {
    let api: Api<Service> = Api::namespaced(context.client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let mut labels = BTreeSet::new();
    for name in services {
        let service = api.get_opt(name).await?;
        let selector = service.and_then(|it| it.spec).and_then(|it| it.selector);
        // A Service without a selector has no pods that could be found by it.
        let Some(selector) = selector.filter(|it| !it.is_empty()) else {
            continue;
        };
        let terms: Vec<String> = selector
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let params = ListParams::default().labels(&terms.join(",")).limit(MAX_PODS);
        let listed = pods.list_metadata(&params).await?;
        labels.extend(
            listed
                .items
                .into_iter()
                .map(|it| it.metadata.labels.unwrap_or_default()),
        );
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
