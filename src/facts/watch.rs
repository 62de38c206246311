//! The watches that keep policies, the ceiling, Secrets and ConfigMaps in memory. An expired or cut watch is begun anew
//! by the watcher, with growing pauses; what was known stays in force meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use portcullis_api::{Enforcement, SecurityPolicy};
use tokio::sync::watch::Sender;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::sources::{ConfigMapTexts, SecretKeys, Source};
use super::watched::{Namespace, Shelf};
use crate::operator::Context;

/// Key of the operator's ConfigMap that holds the ceiling.
const CEILING_KEY: &str = "enforcementCeiling";

/// Keeps the policies of all namespaces in memory; sets `listed` once all have been read. Never ends.
pub async fn watch_policies(context: Context, listed: Sender<bool>) {
    let policies = &context.policies;
    let api: Api<SecurityPolicy> = Api::all(context.client.clone());
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut present = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => present.clear(),
            Ok(Event::InitApply(policy)) => {
                present.insert((policy.namespace().unwrap_or_default(), policy.name_any()));
                policies.apply(&Arc::new(policy));
            }
            Ok(Event::InitDone) => {
                policies.retain(&present);
                listed.send_replace(true);
            }
            Ok(Event::Apply(policy)) => policies.apply(&Arc::new(policy)),
            Ok(Event::Delete(policy)) => policies.delete(&policy),
            Err(error) => warn!(%error, "Failed to watch SecurityPolicies"),
        }
    }
}

/// Keeps the cluster's ceiling; sets `listed` once it has been read. Never ends.
pub async fn watch_ceiling(context: Context, listed: Sender<bool>) {
    let args = &context.args;
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &args.namespace);
    let only = watcher::Config::default().fields(&format!("metadata.name={}", args.config_map));
    let mut events = pin!(watcher(api, only).default_backoff());
    let mut found = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => found = false,
            Ok(Event::InitApply(config_map)) => {
                found = true;
                set_ceiling(&context, &config_map);
            }
            Ok(Event::InitDone) => {
                if !found {
                    change_ceiling(&context, Enforcement::Deny);
                }
                listed.send_replace(true);
            }
            Ok(Event::Apply(config_map)) => set_ceiling(&context, &config_map),
            Ok(Event::Delete(_)) => change_ceiling(&context, Enforcement::Deny),
            Err(error) => warn!(%error, config_map = %args.config_map, "Failed to watch ConfigMap"),
        }
    }
}

/// Puts the ceiling that `config_map` states in force; one that is no ceiling leaves the one before.
fn set_ceiling(context: &Context, config_map: &ConfigMap) {
    let stated = config_map.data.as_ref().and_then(|it| it.get(CEILING_KEY));
    match stated.map(|it| (it, parse_ceiling(it))) {
        None => change_ceiling(context, Enforcement::Deny),
        Some((_, Some(ceiling))) => change_ceiling(context, ceiling),
        Some((text, None)) => warn!(
            config_map = %config_map.name_any(),
            "`data.{CEILING_KEY}` must be one of Deny, Warn, Audit, got `{text}`: the ceiling stays {:?}",
            context.ceiling.get()
        ),
    }
}

fn change_ceiling(context: &Context, ceiling: Enforcement) {
    if context.ceiling.get() != ceiling {
        info!(?ceiling, "Changed the cluster's enforcement ceiling");
    }
    context.ceiling.set(ceiling);
}

fn parse_ceiling(text: &str) -> Option<Enforcement> {
    match text {
        "Deny" => Some(Enforcement::Deny),
        "Warn" => Some(Enforcement::Warn),
        "Audit" => Some(Enforcement::Audit),
        _ => None,
    }
}

/// Watches Secrets and ConfigMaps of exactly those namespaces whose policies need them. Never ends.
pub async fn watch_namespaces(context: Context) {
    let mut changes = context.policies.subscribe();
    let mut watches: HashMap<String, Watches> = HashMap::new();
    loop {
        changes.borrow_and_update();
        let needs = needs(&context);
        watches.retain(|namespace, it| needs.get(namespace) == Some(&it.need));
        for (namespace, need) in needs {
            watches
                .entry(namespace.clone())
                .or_insert_with(|| Watches::start(&context, &namespace, need));
        }
        let kept = watches.iter().map(|(name, it)| (name.clone(), it.facts.clone()));
        context.watched.keep(kept.collect());
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// What the policies in force in a namespace need of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Need {
    secrets: bool,
    config_maps: bool,
}

fn needs(context: &Context) -> BTreeMap<String, Need> {
    let need = |namespace: String| {
        let policies = context.policies.in_force(&namespace);
        let secrets = policies.iter().any(|it| it.secrets.is_some());
        let config_maps = secrets || policies.iter().any(|it| it.http.is_some());
        (namespace, Need { secrets, config_maps })
    };
    let governed = context.policies.governed().into_iter().map(need);
    governed.filter(|(_, need)| *need != Need::default()).collect()
}

/// The running watches of one namespace; dropping it ends them.
struct Watches {
    need: Need,
    facts: Namespace,
    tasks: Vec<JoinHandle<()>>,
}

impl Watches {
    fn start(context: &Context, namespace: &str, need: Need) -> Self {
        let mut tasks = Vec::new();
        let facts = Namespace {
            secrets: need
                .secrets
                .then(|| start::<SecretKeys>(context, namespace, &mut tasks)),
            config_maps: need
                .config_maps
                .then(|| start::<ConfigMapTexts>(context, namespace, &mut tasks)),
        };
        Self { need, facts, tasks }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn start<K: Source>(
    context: &Context,
    namespace: &str,
    tasks: &mut Vec<JoinHandle<()>>,
) -> Arc<Shelf<K::Fact>> {
    let cause = format!(
        "{}s of namespace {namespace} have not been listed yet",
        K::kind(&())
    );
    let shelf = Arc::new(Shelf::unknown(&cause));
    tasks.push(tokio::spawn(keep::<K>(
        context.clone(),
        namespace.to_owned(),
        Arc::clone(&shelf),
    )));
    shelf
}

/// Keeps one shelf filled.
async fn keep<K: Source>(context: Context, namespace: String, shelf: Arc<Shelf<K::Fact>>) {
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut listed = BTreeMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.insert(object.name_any(), Arc::new(object.into_fact()));
                continue;
            }
            Ok(Event::InitDone) => shelf.replace(std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => shelf.put(object.name_any(), object.into_fact()),
            Ok(Event::Delete(object)) => shelf.remove(&object.name_any()),
            Err(error) if lose(&error, &K::kind(&()), &namespace, &shelf) => {}
            Err(_) => continue,
        }
        context.watched.announce();
    }
}

/// What was listed before stays known while the API server is away, but not once it refuses us. Whether anything is
/// known that was not before.
fn lose<T>(error: &watcher::Error, kind: &str, namespace: &str, shelf: &Shelf<T>) -> bool {
    if shelf.is_listed() && !is_forbidden(error) {
        warn!(%error, namespace, kind, "Failed to watch");
        return false;
    }
    let news = shelf.lose(&format!(
        "{kind}s of namespace {namespace} cannot be listed: {error}"
    ));
    if news {
        warn!(%error, namespace, kind, "Failed to list");
    }
    news
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 403)
}
