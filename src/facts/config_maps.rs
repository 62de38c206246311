//! One watch for the ConfigMaps of all governed namespaces: they may be read everywhere, and with a thousand namespaces a
//! watch for each costs more memory than what it tells of.
//!
//! The watch is not begun anew when a namespace comes under a policy: the namespace is listed, while the watch tells of
//! what changes meanwhile. What it told counts for more than the list, which may be older.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::ListParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, ResourceExt};
use portcullis_engine::ConfigMapFact;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use super::connections::PAGE_TIME;
use super::shelf::{Kept, Shelf};
use super::sources::{ConfigMapTexts, PAGE};
use super::watch::code;
use crate::context::Context;
use crate::error::describe;

/// Pause after a list failed.
const RETRY: Duration = Duration::from_secs(5);

/// By what is told whether the watch tells of every change by now: the number of its list, `None` while it lists.
#[derive(Clone, Debug)]
pub(super) struct Stands(watch::Receiver<Option<u64>>);

impl Stands {
    /// Does not stand yet.
    pub(super) fn new() -> (watch::Sender<Option<u64>>, Self) {
        let (standing, stands) = watch::channel(None);
        (standing, Self(stands))
    }

    /// Waits until it stands; `None` when it never will again.
    async fn wait(&mut self) -> Option<u64> {
        *self.0.wait_for(Option::is_some).await.ok()?
    }
}

/// Keeps the ConfigMaps of all namespaces on their shelves. Never ends.
pub(super) async fn keep(context: Context, standing: watch::Sender<Option<u64>>) {
    let (mut pauses, mut lists) = (DefaultBackoff::default(), 0);
    loop {
        follow(&context, &standing, &mut lists).await;
        standing.send_replace(None);
        // Begun anew, with a list: a watch that went on would not tell of what was there before.
        tokio::time::sleep(pauses.next().unwrap_or(RETRY)).await;
    }
}

/// Follows the ConfigMaps until the API server refuses that.
async fn follow(context: &Context, standing: &watch::Sender<Option<u64>>, lists: &mut u64) {
    let watched = &context.watched;
    let api: Api<ConfigMapTexts> = Api::all(context.client.clone());
    let pages = watcher::Config::default().page_size(PAGE);
    let mut events = pin!(watcher(api, pages).default_backoff());
    let mut list = List::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                standing.send_replace(None);
                list = List::of(watched.config_map_shelves());
            }
            Ok(Event::InitApply(object)) => list.put(object),
            Ok(Event::InitDone) => {
                let news = std::mem::take(&mut list).shelve();
                news.iter().for_each(|namespace| watched.announce(namespace));
                *lists += 1;
                standing.send_replace(Some(*lists));
            }
            Ok(Event::Apply(object)) => change(context, object, |shelf, it| shelf.put(it)),
            Ok(Event::Delete(object)) => change(context, object, |shelf, it| {
                shelf.remove::<ConfigMapTexts>(&it.name_any())
            }),
            Err(error) => {
                lose_all(context, &error);
                if code(&error) == Some(403) {
                    return;
                }
            }
        }
    }
}

fn change(
    context: &Context,
    object: ConfigMapTexts,
    change: impl FnOnce(&Shelf<ConfigMapFact>, ConfigMapTexts) -> bool,
) {
    let namespace = object.namespace().unwrap_or_default();
    if let Some(shelf) = context.watched.config_map_shelf(&namespace)
        && change(&shelf, object)
    {
        context.watched.announce(&namespace);
    }
}

/// What was listed before stays known while the API server is away, but not once it refuses us.
fn lose_all(context: &Context, error: &watcher::Error) {
    warn!(error = describe(error), "Failed to watch ConfigMaps");
    for (namespace, shelf) in context.watched.config_map_shelves() {
        if (!shelf.is_listed() || code(error) == Some(403)) && shelf.lose(&cause(&namespace, error)) {
            context.watched.announce(&namespace);
        }
    }
}

fn cause(namespace: &str, error: &(dyn std::error::Error + 'static)) -> String {
    format!(
        "ConfigMaps of namespace {namespace} cannot be listed: {}",
        describe(error)
    )
}

/// A list of all namespaces that is on its way, of those that had a shelf when it began.
#[derive(Default)]
struct List(HashMap<String, (Arc<Shelf<ConfigMapFact>>, Kept<ConfigMapFact>)>);

impl List {
    fn of(shelves: Vec<(String, Arc<Shelf<ConfigMapFact>>)>) -> Self {
        let empty = |(namespace, shelf)| (namespace, (shelf, Kept::default()));
        Self(shelves.into_iter().map(empty).collect())
    }

    fn put(&mut self, object: ConfigMapTexts) {
        if let Some((_, kept)) = self.0.get_mut(&object.namespace().unwrap_or_default()) {
            kept.put(object);
        }
    }

    /// Puts all on the shelves; the namespaces for which it is news.
    fn shelve(self) -> Vec<String> {
        let all = self.0.into_iter();
        all.filter_map(|(namespace, (shelf, kept))| shelf.replace(kept).then_some(namespace))
            .collect()
    }
}

/// Fills the shelf of a namespace that came under a policy after the watch had begun. Ends when it is filled, by whom ever.
pub(super) async fn fill(
    context: Context,
    namespace: String,
    shelf: Arc<Shelf<ConfigMapFact>>,
    mut stands: Stands,
) {
    loop {
        let Some(number) = stands.wait().await else {
            return;
        };
        if shelf.is_listed() {
            return;
        }
        shelf.await_list();
        let turn = context.connections.turn().await;
        let listed = list(&context, &namespace).await;
        drop(turn);
        // A list of all namespaces that began meanwhile has this one as well, or calls for another look.
        if *stands.0.borrow() != Some(number) {
            continue;
        }
        let news = match listed {
            Ok(kept) => shelf.complete::<ConfigMapTexts>(kept),
            Err(error) => shelf.lose_pending(&cause(&namespace, error.as_ref())),
        };
        if news {
            context.watched.announce(&namespace);
        }
        if !shelf.is_listed() {
            warn!(namespace, "Failed to list ConfigMaps");
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn list(context: &Context, namespace: &str) -> anyhow::Result<Kept<ConfigMapFact>> {
    let api: Api<ConfigMapTexts> = Api::namespaced(context.client.clone(), namespace);
    let mut params = ListParams::default().limit(PAGE);
    let mut kept = Kept::default();
    loop {
        let page = timeout(PAGE_TIME, api.list(&params)).await??;
        for object in page.items {
            kept.put(object);
        }
        match page.metadata.continue_.filter(|it| !it.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(kept),
        }
    }
}
