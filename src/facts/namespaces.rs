//! Facts of exactly those namespaces whose policies need them. Secrets are watched in each namespace, where the operator
//! is bound to read them; ConfigMaps by one watch for all.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, Client, ResourceExt};
use portcullis_engine::{ConfigMapFact, SecretFact};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use super::config_maps::{self, Stands};
use super::connections::PAGE_TIME;
use super::shelf::{Kept, Shelf};
use super::sources::{PAGE, SecretKeys};
use super::watch::code;
use super::watched::Namespace;
use crate::context::Context;
use crate::error::describe;

/// Longest pause before Secrets that we may not read are asked for again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
    let mut pauses = DefaultBackoff::default();
    loop {
        let cause = follow_secrets(&context, &connection.client, &namespace, &shelf).await;
        if lose(&cause, &namespace, &shelf) {
            context.watched.announce(&namespace);
        }
        // Begun anew, with a list: a watch that went on would not tell of what was there before.
        tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

/// Follows the Secrets of one namespace until the API server refuses that or does not list them in time; the cause.
async fn follow_secrets(
    context: &Context,
    client: &Client,
    namespace: &str,
    shelf: &Shelf<SecretFact>,
) -> Cause {
    let api: Api<SecretKeys> = Api::namespaced(client.clone(), namespace);
    let pages = watcher::Config::default().page_size(PAGE);
    let mut events = pin!(watcher(api, pages).default_backoff());
    let (mut listed, mut turn) = (Kept::default(), None);
    loop {
        let event = if turn.is_none() {
            events.next().await
        } else {
            match timeout(PAGE_TIME, events.next()).await {
                Ok(event) => event,
                Err(_) => return Cause::Slow,
            }
        };
        let news = match event {
            None => return Cause::Slow,
            Some(Ok(Event::Init)) => {
                listed = Kept::default();
                // It is told before anything is asked for.
                turn = context.connections.turn().await;
                false
            }
            Some(Ok(Event::InitApply(object))) => {
                listed.put(object);
                false
            }
            Some(Ok(Event::InitDone)) => {
                turn = None;
                shelf.replace(std::mem::take(&mut listed))
            }
            Some(Ok(Event::Apply(object))) => shelf.put(object),
            Some(Ok(Event::Delete(object))) => shelf.remove::<SecretKeys>(&object.name_any()),
            Some(Err(error)) if code(&error) == Some(403) => return Cause::Refused(error),
            Some(Err(error)) => {
                turn = None;
                lose(&Cause::Failed(error), namespace, shelf)
            }
        };
        if news {
            context.watched.announce(namespace);
        }
    }
}

/// Why Secrets cannot be followed.
enum Cause {
    /// The API server says that we may not.
    Refused(watcher::Error),
    /// It did not give a list in time.
    Slow,
    /// Anything else.
    Failed(watcher::Error),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) | Self::Failed(error) => f.write_str(&describe(error)),
            Self::Slow => f.write_str("the API server did not answer in time"),
        }
    }
}

/// What was listed before stays known while the API server is away, but not once it refuses us. Whether anything is
/// known that was not before.
fn lose(cause: &Cause, namespace: &str, shelf: &Shelf<SecretFact>) -> bool {
    if shelf.is_listed() && !matches!(cause, Cause::Refused(_)) {
        warn!(error = %cause, namespace, "Failed to watch Secrets");
        return false;
    }
    let news = shelf.lose(&format!(
        "Secrets of namespace {namespace} cannot be listed: {cause}"
    ));
    if news {
        warn!(error = %cause, namespace, "Failed to list Secrets");
    }
    news
}
