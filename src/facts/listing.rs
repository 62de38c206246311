//! Lists of what runs pods, read in pages and dropped.

use std::fmt;
use std::pin::pin;

use futures::AsyncReadExt;
use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use portcullis_engine::object::Object;
use portcullis_engine::{Labels, Subject, Text};
use serde::{Deserialize, Deserializer};

use super::sources::PAGE;

/// Bytes from which a page is given up and read with fewer objects: its objects are as large as their authors like. A page
/// of one object is read whatever its size, which is 9 MiB at most: 1.5 MiB are stored, and are six times that where the
/// API server escapes each byte.
const MAX_PAGE: u64 = 4 * 1024 * 1024;

/// By how much fewer objects.
const FEWER: u32 = 4;

/// One kind that is listed.
#[derive(Debug)]
pub struct Listed {
    /// Group and version, as in `apiVersion`.
    api_version: &'static str,
    kind: &'static str,
    plural: &'static str,
    /// Leaves out what has ended.
    fields: Option<&'static str>,
    /// Leaves out what a Deployment made, where its own template is enough.
    labels: Option<&'static str>,
}

const fn listed(api_version: &'static str, kind: &'static str, plural: &'static str) -> Listed {
    Listed {
        api_version,
        kind,
        plural,
        fields: None,
        labels: None,
    }
}

const DEPLOYMENTS: Listed = listed("apps/v1", "Deployment", "deployments");
const STATEFUL_SETS: Listed = listed("apps/v1", "StatefulSet", "statefulsets");
const DAEMON_SETS: Listed = listed("apps/v1", "DaemonSet", "daemonsets");
const REPLICA_SETS: Listed = listed("apps/v1", "ReplicaSet", "replicasets");
const CRON_JOBS: Listed = listed("batch/v1", "CronJob", "cronjobs");
const JOBS: Listed = listed("batch/v1", "Job", "jobs");
const PODS: Listed = listed("v1", "Pod", "pods");
const REPLICATION_CONTROLLERS: Listed = listed("v1", "ReplicationController", "replicationcontrollers");

/// Everything that runs pods.
pub const WORKLOADS: &[Listed] = &[
    DEPLOYMENTS,
    STATEFUL_SETS,
    DAEMON_SETS,
    REPLICA_SETS,
    CRON_JOBS,
    JOBS,
    REPLICATION_CONTROLLERS,
    Listed {
        fields: Some("status.phase!=Succeeded,status.phase!=Failed"),
        ..PODS
    },
];

/// Everything with a template of pods that run or are to run, as few objects as say it all: a Deployment keeps ten old
/// ReplicaSets and a CronJob's Jobs stay when they have ended.
pub const TEMPLATES: &[Listed] = &[
    DEPLOYMENTS,
    STATEFUL_SETS,
    DAEMON_SETS,
    Listed {
        labels: Some("!pod-template-hash"),
        ..REPLICA_SETS
    },
    CRON_JOBS,
    Listed {
        fields: Some("status.successful=0"),
        ..JOBS
    },
    REPLICATION_CONTROLLERS,
];

/// Every Ingress.
pub const INGRESSES: Listed = listed("networking.k8s.io/v1", "Ingress", "ingresses");

impl Listed {
    /// An item of a list of this kind: items do not say their kind themselves.
    pub fn subject<'a>(&self, mut object: Object<'a>, namespace: &str) -> Subject<'a> {
        object.api_version = Text::from(self.api_version);
        object.kind = Text::from(self.kind);
        Subject::new(object, namespace)
    }
}

/// Whether a built-in controller made it from something that is listed itself. What other controllers make counts: nobody
/// else speaks for it.
pub fn is_made_by_controller(object: &Object<'_>) -> bool {
    let is_listed = |api_version: &str, kind: &str| {
        WORKLOADS
            .iter()
            .any(|it| it.api_version == api_version && it.kind == kind)
    };
    let owners = object.metadata.owner_references.iter();
    let mut controllers = owners.filter(|it| it.controller);
    controllers.any(|it| is_listed(it.api_version.as_str(), it.kind.as_str()))
}

/// The labels of a workload's pods.
pub fn template_labels(subject: &Subject<'_>) -> Option<Labels> {
    let (metadata, _) = subject.pod()?;
    let labels = metadata.labels.iter();
    Some(
        labels
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
    )
}

/// A list could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The API server refused it.
    #[error("failed to list {plural} of namespace {namespace}")]
    Request {
        /// What was to be listed.
        plural: &'static str,
        /// Where.
        namespace: String,
        /// Why.
        source: kube::Error,
    },
    /// What it answered broke off.
    #[error("failed to read a list of {plural} of namespace {namespace}")]
    Broken {
        /// What was to be listed.
        plural: &'static str,
        /// Where.
        namespace: String,
        /// Why.
        source: std::io::Error,
    },
    /// What it answered is no list.
    #[error("failed to read a list")]
    Answer(#[from] serde_json::Error),
}

/// A page of a list, of each item only what is read.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct Page<T> {
    #[serde(default)]
    metadata: PageMetadata,
    /// The API server writes none as null where only metadata is asked for.
    #[serde(deserialize_with = "nullable")]
    items: Vec<T>,
}

fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(reader: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    continue_token: String,
}

/// The items of a page, read as `T`.
///
/// # Errors
/// When the page is no list of such items.
pub fn items<'p, T: Deserialize<'p>>(page: &'p str) -> Result<Vec<T>, ListError> {
    Ok(serde_json::from_str::<Page<T>>(page)?.items)
}

/// Lists one kind of one namespace, page by page, as text.
pub struct Pages<'c> {
    client: &'c Client,
    kind: &'static Listed,
    namespace: String,
    /// Nothing but the metadata of each object.
    metadata: bool,
    /// `None` after the last page.
    params: Option<ListParams>,
}

impl fmt::Debug for Pages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("kind", self.kind)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl<'c> Pages<'c> {
    /// Nothing is asked for yet.
    pub fn of(client: &'c Client, kind: &'static Listed, namespace: &str) -> Self {
        let params = ListParams {
            field_selector: kind.fields.map(str::to_owned),
            label_selector: kind.labels.map(str::to_owned),
            ..ListParams::default().limit(PAGE)
        };
        Self {
            client,
            kind,
            namespace: namespace.to_owned(),
            metadata: false,
            params: Some(params),
        }
    }

    /// The metadata of the pods with all of `labels`, at most `limit` on a page.
    pub fn of_pods(client: &'c Client, namespace: &str, labels: &Labels, limit: u32) -> Self {
        let terms: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        Self {
            client,
            kind: &PODS,
            namespace: namespace.to_owned(),
            metadata: true,
            params: Some(ListParams::default().labels(&terms.join(",")).limit(limit)),
        }
    }

    /// Whether there is another page.
    pub fn has_more(&self) -> bool {
        self.params.is_some()
    }

    /// The next page; `None` after the last one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn next(&mut self) -> Result<Option<String>, ListError> {
        let Some(mut params) = self.params.take() else {
            return Ok(None);
        };
        let text = loop {
            let objects = params.limit.unwrap_or(PAGE);
            let most = if objects > 1 { MAX_PAGE } else { u64::MAX };
            match self.request(&params, most).await? {
                Some(text) => break text,
                None => params.limit = Some((objects / FEWER).max(1)),
            }
        };
        /// Nothing of an item is read.
        #[derive(Deserialize)]
        struct Ignored {}
        let page: Page<Ignored> = serde_json::from_str(&text)?;
        let token = page.metadata.continue_token;
        self.params = (!token.is_empty()).then(|| params.continue_token(&token));
        Ok(Some(text))
    }

    /// One page; `None` when it has more than `most` bytes.
    async fn request(&self, params: &ListParams, most: u64) -> Result<Option<String>, ListError> {
        let failed = |source| ListError::Request {
            plural: self.kind.plural,
            namespace: self.namespace.clone(),
            source,
        };
        let root = match self.kind.api_version {
            "v1" => "/api/v1".to_owned(),
            group => format!("/apis/{group}"),
        };
        let url = format!("{root}/namespaces/{}/{}", self.namespace, self.kind.plural);
        let request = Request::new(url);
        let request = match self.metadata {
            true => request.list_metadata(params),
            false => request.list(params),
        };
        let request = request.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        let answer = self.client.request_stream(request).await.map_err(failed)?;
        let mut bytes = Vec::new();
        let read = pin!(answer).take(most).read_to_end(&mut bytes).await;
        let broken = |source| ListError::Broken {
            plural: self.kind.plural,
            namespace: self.namespace.clone(),
            source,
        };
        let count = read.map_err(broken)?;
        if u64::try_from(count).is_ok_and(|it| it >= most) {
            return Ok(None);
        }
        let text = String::from_utf8(bytes).map_err(|error| broken(std::io::Error::other(error)))?;
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_none_is_read_and_what_is_no_list_is_refused() {
        let read = |json| items::<Object<'_>>(json).map(|it| it.len());
        assert_eq!(read(r#"{"items": null}"#).unwrap(), 0);
        assert_eq!(read(r#"{"items": [{}]}"#).unwrap(), 1);
        assert!(read(r#"{"kind": "Status"}"#).is_err());
    }
}
