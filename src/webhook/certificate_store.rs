//! The Secret in which the certificates are kept, shared by all replicas: any of them renews what is due, all of them
//! serve what it holds.
//!
//! Two that write at once do no harm: the first to create wins by the conflict of field managers, and each later change
//! states the version that it was made of.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use portcullis_api::FIELD_MANAGER;
use serde_json::json;
use tokio::sync::watch::Sender;
use tracing::{error, info, warn};

use super::certificates::{Certificates, renew};
use super::tls::Served;
use crate::operator::{Context, OperatorArgs};

/// How often it is looked whether a certificate is to be renewed.
const CHECK: Duration = Duration::from_secs(60);

/// Serves the certificates of the Secret, renews them when they are due and tells `ca_bundle` whom the API server is to
/// trust. Never ends.
pub async fn keep(context: Context, served: Arc<Served>, ca_bundle: Sender<Option<Vec<u8>>>) {
    let args = &context.args;
    let names = names(args);
    let only = watcher::Config::default().fields(&format!("metadata.name={}", args.tls_secret));
    let mut events = pin!(watcher(secrets(&context), only).default_backoff());
    let mut checks = tokio::time::interval(CHECK);
    let mut store = Store::default();
    loop {
        tokio::select! {
            event = events.next() => match event {
                None => return,
                Some(Err(error)) => warn!(%error, secret = %args.tls_secret, "Failed to watch Secret"),
                Some(Ok(event)) => {
                    if let Some(certificates) = store.take_in(event) {
                        install(&certificates, &served, &ca_bundle);
                    }
                }
            },
            _ = checks.tick() => {}
        }
        if store.is_listed
            && let Err(error) = store.renew(&context, &names).await
        {
            error!(error = format!("{error:#}"), secret = %args.tls_secret, "Failed to renew certificates");
        }
    }
}

fn install(certificates: &Certificates, served: &Served, ca_bundle: &Sender<Option<Vec<u8>>>) {
    match served.install(&certificates.certificate, &certificates.key) {
        Ok(()) => {
            info!("Loaded certificates");
            ca_bundle.send_replace(Some(certificates.ca_bundle.clone().into_bytes()));
        }
        // What was served before is still served; the next check makes anew what does not fit.
        Err(error) => error!(
            error = format!("{:#}", anyhow::Error::from(error)),
            "Failed to load certificates"
        ),
    }
}

/// What the Secret holds, as far as it is known.
#[derive(Default)]
struct Store {
    is_listed: bool,
    /// Version of the Secret; `None` while there is none.
    version: Option<String>,
    /// What it holds, or held before somebody deleted it: then the same is written again.
    certificates: Option<Certificates>,
}

impl Store {
    /// Takes in an event; gives the certificates where there are new ones.
    fn take_in(&mut self, event: Event<Secret>) -> Option<Certificates> {
        match event {
            Event::Init | Event::Delete(_) => {
                self.version = None;
                None
            }
            Event::InitDone => {
                self.is_listed = true;
                None
            }
            Event::Apply(secret) | Event::InitApply(secret) => {
                self.version = secret.resource_version();
                let certificates = read(&secret);
                let is_new = certificates != self.certificates;
                self.certificates = certificates;
                self.certificates.clone().filter(|_| is_new)
            }
        }
    }

    async fn renew(&mut self, context: &Context, names: &BTreeSet<String>) -> anyhow::Result<()> {
        let due = renew(self.certificates.as_ref(), names, Timestamp::now())?;
        let written = match (&self.version, due) {
            (Some(version), Some(due)) => change(context, version, &due).await,
            (Some(_), None) => return Ok(()),
            (None, due) => match due.or_else(|| self.certificates.clone()) {
                Some(certificates) => create(context, &certificates).await,
                None => return Ok(()),
            },
        };
        match written {
            Ok(()) => info!(secret = %context.args.tls_secret, "Wrote certificates"),
            // Another replica was faster: the watch brings what it wrote.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Server-side apply under a manager of this process alone and without force, so that of two replicas that create at
/// once one meets a conflict. An ordinary create carries no name that the operator's role could be bounded by.
async fn create(context: &Context, certificates: &Certificates) -> kube::Result<()> {
    let owners: Vec<OwnerReference> = owner(context).await?.into_iter().collect();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": context.args.tls_secret, "ownerReferences": owners},
        "type": "kubernetes.io/tls",
        "stringData": data(certificates),
    });
    let manager = format!(
        "{FIELD_MANAGER}-{}-{}",
        std::process::id(),
        Timestamp::now().as_nanosecond()
    );
    let params = PatchParams::apply(&manager);
    let api = secrets(context);
    api.patch(&context.args.tls_secret, &params, &Patch::Apply(secret))
        .await?;
    Ok(())
}

async fn change(context: &Context, version: &str, certificates: &Certificates) -> kube::Result<()> {
    let change = json!({"metadata": {"resourceVersion": version}, "stringData": data(certificates)});
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    secrets(context)
        .patch(&context.args.tls_secret, &params, &Patch::Merge(change))
        .await?;
    Ok(())
}

fn data(certificates: &Certificates) -> serde_json::Value {
    json!({
        "ca.crt": certificates.ca_bundle,
        "ca.key": certificates.ca_key,
        "tls.crt": certificates.certificate,
        "tls.key": certificates.key,
    })
}

/// `None` when a key is missing or no text.
fn read(secret: &Secret) -> Option<Certificates> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    Some(Certificates {
        ca_bundle: text("ca.crt")?,
        ca_key: text("ca.key")?,
        certificate: text("tls.crt")?,
        key: text("tls.key")?,
    })
}

/// The ClusterRole that owns the Secret, where one is stated and there.
async fn owner(context: &Context) -> kube::Result<Option<OwnerReference>> {
    let Some(name) = &context.args.owner_cluster_role else {
        return Ok(None);
    };
    let api: Api<ClusterRole> = Api::all(context.client.clone());
    Ok(api.get_opt(name).await?.and_then(|it| it.owner_ref(&())))
}

fn secrets(context: &Context) -> Api<Secret> {
    Api::namespaced(context.client.clone(), &context.args.namespace)
}

/// What the webhook is reached by: its Service, this machine, and the host of the URL where one is given.
fn names(args: &OperatorArgs) -> BTreeSet<String> {
    let service = format!("{}.{}.svc", args.webhook_service, args.namespace);
    let mut names = BTreeSet::from([
        format!("{service}.cluster.local"),
        service,
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
    ]);
    names.extend(args.webhook_url.as_deref().and_then(host).map(str::to_owned));
    names
}

/// The host of a URL, without port and without the brackets of an IPv6 address.
fn host(url: &str) -> Option<&str> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next()?;
    if let Some(bracketed) = authority.strip_prefix('[') {
        return bracketed.split(']').next();
    }
    authority.split(':').next().filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://10.0.0.1:9443", Some("10.0.0.1"))]
    #[case("https://webhook.example/path", Some("webhook.example"))]
    #[case("https://[fd00::1]:9443/", Some("fd00::1"))]
    #[case("https://", None)]
    fn the_host_of_a_url(#[case] url: &str, #[case] expected: Option<&str>) {
        assert_eq!(host(url), expected);
    }
}
