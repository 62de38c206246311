//! The Secret in which the certificates are kept, shared by all replicas: any of them renews what is due, all of them
//! serve what it holds.
//!
//! Two that write at once do no harm: the first to create wins by the conflict of field managers, and each later change
//! states the version that it was made of.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use portcullis_api::FIELD_MANAGER;
use serde_json::json;
use tokio::sync::watch::Sender;
use tracing::{error, info, warn};

use super::certificates::{Certificates, renew};
use super::tls::Served;
use super::token::{Token, Trust};
use crate::context::{Context, OperatorArgs};
use crate::controller::owner_references;
use crate::error::describe;

/// How often it is looked whether a certificate is to be renewed.
const CHECK: Duration = Duration::from_secs(60);

/// Field manager of this process alone; process ids are the same in all containers.
static MANAGER: LazyLock<String> = LazyLock::new(|| {
    let started = Timestamp::now().as_nanosecond();
    format!("{FIELD_MANAGER}-{}-{started}", std::process::id())
});

/// Serves the certificates of the Secret, renews them when they are due and tells `trust` by what the API server
/// is to call the webhook. Never ends.
pub async fn keep(context: Context, served: Arc<Served>, trust: Sender<Option<Trust>>) {
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
                Some(Err(error)) => warn!(error = describe(&error), secret = %args.tls_secret, "Failed to watch Secret"),
                Some(Ok(event)) => {
                    if let Some(certificates) = store.take_in(event) {
                        install(&certificates, &served, &trust);
                    }
                }
            },
            _ = checks.tick() => {}
        }
        if store.is_listed
            && let Err(error) = store.renew(&context, &names).await
        {
            error!(error = describe(error.as_ref()), secret = %args.tls_secret, "Failed to renew certificates");
        }
    }
}

fn install(certificates: &Certificates, served: &Served, trust: &Sender<Option<Trust>>) {
    match served.install(&certificates.certificate, &certificates.key) {
        Ok(()) => {
            info!("Loaded certificates");
            trust.send_replace(Some(Trust {
                ca_bundle: certificates.ca_bundle.clone().into_bytes(),
                token: certificates.token.clone(),
            }));
        }
        // What was served before is still served; the next check makes anew what does not fit.
        Err(error) => error!(error = describe(&error), "Failed to load certificates"),
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
            Event::Init => {
                // Whether there is a Secret is not known before the list ends.
                self.is_listed = false;
                self.version = None;
                None
            }
            Event::Delete(_) => {
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
                Some(certificates) => {
                    let owners = owner_references(context).await?;
                    create(context, &certificates, owners).await
                }
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
async fn create(
    context: &Context,
    certificates: &Certificates,
    owners: Option<Vec<OwnerReference>>,
) -> kube::Result<()> {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": context.args.tls_secret, "ownerReferences": owners.unwrap_or_default()},
        "type": "kubernetes.io/tls",
        // Not as `stringData`: the field that is read back is the one that conflicts.
        "data": data(certificates),
    });
    let params = PatchParams::apply(&MANAGER);
    let api = secrets(context);
    api.patch(&context.args.tls_secret, &params, &Patch::Apply(secret))
        .await?;
    Ok(())
}

async fn change(context: &Context, version: &str, certificates: &Certificates) -> kube::Result<()> {
    let change = json!({"metadata": {"resourceVersion": version}, "data": data(certificates)});
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    secrets(context)
        .patch(&context.args.tls_secret, &params, &Patch::Merge(change))
        .await?;
    Ok(())
}

fn data(certificates: &Certificates) -> BTreeMap<&'static str, ByteString> {
    let data = [
        ("ca.crt", certificates.ca_bundle.as_str()),
        ("ca.key", certificates.ca_key.as_str()),
        ("tls.crt", certificates.certificate.as_str()),
        ("tls.key", certificates.key.as_str()),
        ("token", certificates.token.as_str()),
    ];
    data.map(|(key, text)| (key, ByteString(text.as_bytes().to_vec())))
        .into()
}

/// `None` when a key is missing, no text, or the token none of ours.
fn read(secret: &Secret) -> Option<Certificates> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    Some(Certificates {
        ca_bundle: text("ca.crt")?,
        ca_key: text("ca.key")?,
        certificate: text("tls.crt")?,
        key: text("tls.key")?,
        token: Token::parse(&text("token")?)?,
    })
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

    #[test]
    fn what_is_written_is_read_back_and_a_fresh_list_writes_nothing() {
        let names = BTreeSet::from(["localhost".to_owned()]);
        let certificates = renew(None, &names, Timestamp::now()).unwrap().unwrap();
        let mut secret: Secret = serde_json::from_value(
            json!({"metadata": {"resourceVersion": "7"}, "data": data(&certificates)}),
        )
        .unwrap();
        let mut store = Store::default();
        let listed = |store: &mut Store, secret: Secret| {
            store.take_in(Event::Init);
            assert!(!store.is_listed, "nothing may be written before the list ends");
            let news = store.take_in(Event::InitApply(secret));
            store.take_in(Event::InitDone);
            assert!(store.is_listed);
            news
        };
        assert_eq!(listed(&mut store, secret.clone()), Some(certificates));
        assert_eq!(listed(&mut store, secret.clone()), None, "nothing is new");
        secret.data.get_or_insert_default().remove("token");
        assert_eq!(listed(&mut store, secret), None);
        assert_eq!(
            (store.version.as_deref(), store.certificates),
            (Some("7"), None),
            "made anew"
        );
    }

    #[rstest]
    #[case("https://10.0.0.1:9443", Some("10.0.0.1"))]
    #[case("https://webhook.example/path", Some("webhook.example"))]
    #[case("https://[fd00::1]:9443/", Some("fd00::1"))]
    #[case("https://", None)]
    fn the_host_of_a_url(#[case] url: &str, #[case] expected: Option<&str>) {
        assert_eq!(host(url), expected);
    }
}
