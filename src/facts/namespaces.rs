//! Facts of exactly those namespaces whose policies need them. Secrets are watched in each namespace, where the operator
//! is bound to read them; ConfigMaps by one watch for all.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use portcullis_engine::{ConfigMapFact, SecretFact};
use tokio::task::JoinHandle;
use tracing::warn;

use super::config_maps::{self, Stands};
use super::sources::{PAGE, SecretKeys};
use super::watch::code;
use super::watched::{Kept, Namespace, Shelf};
use crate::context::Context;
use crate::error::describe;

/// Keeps the facts of the namespaces. Never ends.
pub async fn watch_namespaces(context: Context) {
    let mut changes = context.policies.subscribe();
    let mut namespaces: HashMap<String, Governed> = HashMap::new();
    let mut config_maps = None;
    loop {
        changes.borrow_and_update();
        let needs = needs(&context);
        namespaces.retain(|namespace, it| needs.get(namespace) == Some(&it.need));
        for (namespace, need) in needs {
            namespaces
                .entry(namespace)
                .or_insert_with_key(|namespace| Governed::new(namespace, need));
        }
        let kept = namespaces
            .iter()
            .map(|(name, it)| (name.clone(), it.facts.clone()));
        context.watched.keep(kept.collect());
        // Only now: what a watch tells is put on the shelves that are kept.
        if !namespaces.values().any(|it| it.need.config_maps) {
            config_maps = None;
        } else if config_maps.is_none() {
            config_maps = Some(ConfigMaps::watch(&context));
        }
        for (namespace, it) in &mut namespaces {
            it.start(&context, namespace, config_maps.as_ref().map(|it| &it.stands));
        }
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

/// A running task; dropping it ends the task.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Task {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The watch of the ConfigMaps of all namespaces.
struct ConfigMaps {
    stands: Stands,
    _task: Task,
}

impl ConfigMaps {
    fn watch(context: &Context) -> Self {
        let (standing, stands) = Stands::new();
        Self {
            stands,
            _task: Task::spawn(config_maps::keep(context.clone(), standing)),
        }
    }
}

/// The facts of one namespace, and what fills them.
struct Governed {
    need: Need,
    facts: Namespace,
    /// Empty until it is started.
    tasks: Vec<Task>,
}

impl Governed {
    fn new(namespace: &str, need: Need) -> Self {
        let cause = |kind| format!("{kind} of namespace {namespace} have not been listed yet");
        let secrets = || Arc::new(Shelf::<SecretFact>::unknown(&cause("Secrets")));
        let config_maps = || Arc::new(Shelf::<ConfigMapFact>::unknown(&cause("ConfigMaps")));
        Self {
            need,
            facts: Namespace {
                secrets: need.secrets.then(secrets),
                config_maps: need.config_maps.then(config_maps),
            },
            tasks: Vec::new(),
        }
    }

    fn start(&mut self, context: &Context, namespace: &str, config_maps: Option<&Stands>) {
        if !self.tasks.is_empty() {
            return;
        }
        let place = || (context.clone(), namespace.to_owned());
        if let Some(shelf) = &self.facts.secrets {
            let (context, namespace) = place();
            self.tasks
                .push(Task::spawn(keep_secrets(context, namespace, Arc::clone(shelf))));
        }
        if let Some((shelf, stands)) = self.facts.config_maps.as_ref().zip(config_maps) {
            let (context, namespace) = place();
            let fill = config_maps::fill(context, namespace, Arc::clone(shelf), stands.clone());
            self.tasks.push(Task::spawn(fill));
        }
    }
}

/// Keeps the Secrets of one namespace on their shelf. Never ends.
async fn keep_secrets(context: Context, namespace: String, shelf: Arc<Shelf<SecretFact>>) {
    let connection = context.connections.share();
    let api: Api<SecretKeys> = Api::namespaced(connection.client.clone(), &namespace);
    let pages = watcher::Config::default().page_size(PAGE);
    let mut turn = context.connections.turn().await;
    let mut events = pin!(watcher(api, pages).default_backoff());
    let mut listed = Kept::default();
    while let Some(event) = events.next().await {
        if matches!(event, Ok(Event::InitDone) | Err(_)) {
            drop(turn.take());
        }
        let news = match event {
            Ok(Event::Init) => {
                listed = Kept::default();
                false
            }
            Ok(Event::InitApply(object)) => {
                listed.put(object);
                false
            }
            Ok(Event::InitDone) => shelf.replace(std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => shelf.put(object),
            Ok(Event::Delete(object)) => shelf.remove::<SecretKeys>(&object.name_any()),
            Err(error) => lose(&error, &namespace, &shelf),
        };
        if news {
            context.watched.announce(&namespace);
        }
    }
}

/// What was listed before stays known while the API server is away, but not once it refuses us. Whether anything is
/// known that was not before.
fn lose(error: &watcher::Error, namespace: &str, shelf: &Shelf<SecretFact>) -> bool {
    if shelf.is_listed() && code(error) != Some(403) {
        warn!(error = describe(error), namespace, "Failed to watch Secrets");
        return false;
    }
    let error = describe(error);
    let news = shelf.lose(&format!(
        "Secrets of namespace {namespace} cannot be listed: {error}"
    ));
    if news {
        warn!(error, namespace, "Failed to list Secrets");
    }
    news
}
