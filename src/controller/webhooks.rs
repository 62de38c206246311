//! Keeps the webhook configurations: as the policies demand, and put back when somebody changes or deletes them.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::{Pin, pin};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use portcullis_api::FIELD_MANAGER;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;
use tracing::{info, warn};

use super::contest::{Contest, Listed, Look, REST};
use super::entries::{self, Inputs};
use super::naming::{MANAGED_BY, MANAGER};
use super::{Leading, owner};
use crate::error::describe;
use crate::metrics::Reconciled;
use crate::webhook::Trust;

/// Keeps both configurations while this replica leads. Never ends.
pub async fn keep(leading: &Leading) {
    let context = &leading.context;
    let mut policies = context.policies.subscribe();
    let mut trust = context.trust.clone();
    let mut changed = pin!(changes(leading));
    let mut contest = Contest::new();
    let mut is_told = false;
    loop {
        policies.borrow_and_update();
        let known = trust.borrow_and_update().clone();
        if let Some(known) = known {
            let governed = context.policies.governed();
            let demand = Demand {
                delivering: delivering(leading, &governed),
                governed,
                trust: known,
            };
            match bring(leading, &demand).await {
                Ok(wrote) => {
                    let governed = demand.governed.clone();
                    contest.note(if wrote { Look::Wrote } else { Look::Right }, demand);
                    let is_contested = contest.is_contested();
                    if is_contested && !is_told {
                        warn!("The webhook configurations are changed or deleted again and again");
                    }
                    is_told = is_contested;
                    set_listed(leading, contest.listed(governed));
                }
                Err(error) => {
                    contest.note(Look::Failed, demand);
                    context.metrics.reconcile_error(Reconciled::WebhookConfiguration);
                    warn!(
                        error = describe(error.as_ref()),
                        "Failed to keep the webhook configurations"
                    );
                    rest(leading, &mut contest, changed.as_mut()).await;
                    continue;
                }
            }
        }
        if rest(leading, &mut contest, changed.as_mut()).await {
            continue;
        }
        tokio::select! {
            changed = policies.changed() => if changed.is_err() { return },
            // The certificates' keeper may end before us at the end of the process.
            changed = trust.changed() => if changed.is_err() { return },
            change = changed.next() => heed(leading, &mut contest, change),
            // That a contest is over is seen only by looking.
            () = tokio::time::sleep(REST), if contest.is_contested() => {}
        }
    }
}

/// Pauses as long as the contest asks for; whether something changed meanwhile. A deletion cuts the pause short.
async fn rest(
    leading: &Leading,
    contest: &mut Contest<Demand>,
    mut changed: Pin<&mut impl Stream<Item = Change>>,
) -> bool {
    let begin = Instant::now();
    let mut has_changed = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(begin + contest.pause()) => return has_changed,
            change = changed.next() => {
                has_changed = true;
                heed(leading, contest, change);
            }
        }
    }
}

/// Takes a configuration that was deleted for one that lists no namespace, before it is put back.
fn heed(leading: &Leading, contest: &mut Contest<Demand>, change: Option<Change>) {
    if change == Some(Change::Gone) {
        warn!("A webhook configuration is not there");
        contest.note_missing();
        set_listed(leading, contest.listed(BTreeSet::new()));
    }
}

fn set_listed(leading: &Leading, now: Listed) {
    leading.listed.send_if_modified(|listed| {
        let is_news = *listed != now;
        *listed = now;
        is_news
    });
}

/// What the configurations have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Demand {
    /// Namespaces with a policy in force.
    governed: BTreeSet<String>,
    /// Those of them with a policy that states `delivery`.
    delivering: BTreeSet<String>,
    /// By what the API server calls the webhook.
    trust: Trust,
}

/// What a watch tells of one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It is there, perhaps with another content.
    There,
    /// It is not there.
    Gone,
}

/// Tells whenever one of the configurations changed in the cluster, by whoever.
fn changes(leading: &Leading) -> impl Stream<Item = Change> + use<> {
    let client = &leading.context.client;
    let name = &leading.context.args.webhook_configuration_name;
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let validating = told(watcher(validating, only.clone()).default_backoff());
    let mutating = told(watcher(mutating, only).default_backoff());
    stream::select(validating.boxed(), mutating.boxed())
}

/// What the events of a watch of one object say. A list without it tells of a deletion that the watch missed.
fn told<K>(events: impl Stream<Item = watcher::Result<watcher::Event<K>>>) -> impl Stream<Item = Change> {
    let mut is_there = false;
    events.filter_map(move |event| std::future::ready(change(event, &mut is_there)))
}

fn change<K>(event: watcher::Result<watcher::Event<K>>, is_there: &mut bool) -> Option<Change> {
    match event {
        Ok(watcher::Event::Init) => {
            *is_there = false;
            None
        }
        Ok(watcher::Event::InitApply(_)) => {
            *is_there = true;
            Some(Change::There)
        }
        Ok(watcher::Event::InitDone) => (!*is_there).then_some(Change::Gone),
        Ok(watcher::Event::Apply(_)) => Some(Change::There),
        Ok(watcher::Event::Delete(_)) => Some(Change::Gone),
        Err(error) => {
            warn!(
                error = describe(&error),
                "Failed to watch the webhook configurations"
            );
            None
        }
    }
}

/// Brings both configurations to what is demanded. Whether anything had to be written.
async fn bring(leading: &Leading, demand: &Demand) -> anyhow::Result<bool> {
    let context = &leading.context;
    let inputs = Inputs {
        args: &context.args,
        trust: &demand.trust,
        governed: &demand.governed,
        delivering: &demand.delivering,
    };
    let metadata = metadata(
        &context.args.webhook_configuration_name,
        owner::references(context).await?,
    );
    let validating = ValidatingWebhookConfiguration {
        metadata: metadata.clone(),
        webhooks: Some(entries::validating(&inputs)),
    };
    let mutating = MutatingWebhookConfiguration {
        metadata,
        webhooks: Some(entries::mutating(&inputs)),
    };
    // Fields of Pods are set before they are judged: what is set first must be there first.
    let wrote_mutating = bring_one(leading, &mutating).await?;
    let wrote_validating = bring_one(leading, &validating).await?;
    Ok(wrote_mutating || wrote_validating)
}

/// The governed namespaces with a policy that states `delivery`.
fn delivering(leading: &Leading, governed: &BTreeSet<String>) -> BTreeSet<String> {
    let policies = &leading.context.policies;
    let delivers = |namespace: &&String| {
        let policies = policies.in_force(namespace);
        let mut entries = policies
            .iter()
            .flat_map(|it| it.secrets.iter().flat_map(|it| &it.entries));
        entries.any(|it| !it.deliver_to.is_empty())
    };
    governed.iter().filter(delivers).cloned().collect()
}

fn metadata(name: &str, owners: Option<Vec<OwnerReference>>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some([(MANAGED_BY.to_owned(), MANAGER.to_owned())].into()),
        owner_references: owners,
        ..ObjectMeta::default()
    }
}

/// A kind of webhook configuration.
trait Configuration:
    Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
    /// One entry.
    type Entry: PartialEq + Serialize;

    /// Its entries.
    fn entries(&self) -> &[Self::Entry];
}

impl Configuration for ValidatingWebhookConfiguration {
    type Entry = k8s_openapi::api::admissionregistration::v1::ValidatingWebhook;

    fn entries(&self) -> &[Self::Entry] {
        self.webhooks.as_deref().unwrap_or_default()
    }
}

impl Configuration for MutatingWebhookConfiguration {
    type Entry = k8s_openapi::api::admissionregistration::v1::MutatingWebhook;

    fn entries(&self) -> &[Self::Entry] {
        self.webhooks.as_deref().unwrap_or_default()
    }
}

/// Writes `desired`, unless it stands there already. Whether it had to be written.
async fn bring_one<K: Configuration>(leading: &Leading, desired: &K) -> anyhow::Result<bool> {
    let api: Api<K> = Api::all(leading.context.client.clone());
    let name = desired.meta().name.as_deref().unwrap_or_default();
    let present = api.get_opt(name).await?;
    if present.is_some_and(|it| is_right(&it, desired)) {
        return Ok(false);
    }
    leading.leadership.confirm().await?;
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = api.patch(name, &params, &Patch::Apply(desired)).await?;
    if !is_right(&written, desired) {
        // Server-side apply keeps what others added to our entries, such as a match condition that lets all through.
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let whole = json!({"webhooks": desired.entries()});
        api.patch(name, &params, &Patch::Merge(whole)).await?;
    }
    info!(kind = %K::kind(&()), name, "Applied webhook configuration");
    Ok(true)
}

fn is_right<K: Configuration>(present: &K, desired: &K) -> bool {
    let owners = present.meta().owner_references.as_deref().unwrap_or_default();
    let mut wanted = desired.meta().owner_references.iter().flatten();
    present.entries() == desired.entries() && wanted.all(|it| owners.contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_without_the_configuration_tells_of_its_deletion() {
        let mut is_there = false;
        let mut told = |event| change::<()>(Ok(event), &mut is_there);
        let events = [
            (watcher::Event::Init, None),
            (watcher::Event::InitApply(()), Some(Change::There)),
            (watcher::Event::InitDone, None),
            (watcher::Event::Delete(()), Some(Change::Gone)),
            (watcher::Event::Apply(()), Some(Change::There)),
            (watcher::Event::Init, None),
            (watcher::Event::InitDone, Some(Change::Gone)),
        ];
        for (event, expected) in events {
            let seen = format!("{event:?}");
            assert_eq!(told(event), expected, "{seen}");
        }
    }
}
