//! Keeps the webhook configurations: as the policies demand, and put back when somebody changes or deletes them.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

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

use super::entries::{self, Inputs};
use super::naming::{MANAGED_BY, MANAGER};
use super::{Leading, owner};

/// Pause between two writes: changes of many policies become one.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest pause while somebody else keeps changing a configuration, or the API server refuses it.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Writes in a row that are not slowed down.
const FREE: u32 = 5;

/// Keeps both configurations while this replica leads. Never ends.
pub async fn keep(leading: &Leading) {
    let context = &leading.context;
    let mut policies = context.policies.subscribe();
    let mut ca_bundle = context.ca_bundle.clone();
    let mut changed = pin!(changes(leading));
    let mut contest = Contest::default();
    loop {
        policies.borrow_and_update();
        let bundle = ca_bundle.borrow_and_update().clone();
        if let Some(bundle) = bundle {
            let governed = context.policies.governed();
            let demand = Demand {
                delivering: delivering(leading, &governed),
                governed,
                ca_bundle: bundle,
            };
            match bring(leading, &demand).await {
                Ok(wrote) => {
                    leading.listed.send_replace(Some(demand.governed.clone()));
                    contest.note(wrote, demand);
                }
                Err(error) => {
                    contest.note(true, demand);
                    let error = format!("{error:#}");
                    warn!(error, "Failed to keep the webhook configurations");
                    tokio::time::sleep(contest.pause()).await;
                    continue;
                }
            }
        }
        tokio::time::sleep(contest.pause()).await;
        tokio::select! {
            changed = policies.changed() => if changed.is_err() { return },
            // The certificates' keeper may end before us at the end of the process.
            changed = ca_bundle.changed() => if changed.is_err() { return },
            _ = changed.next() => {}
        }
    }
}

/// What the configurations have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Demand {
    /// Namespaces with a policy in force.
    governed: BTreeSet<String>,
    /// Those of them with a policy that states `delivery`.
    delivering: BTreeSet<String>,
    /// Certificates, in PEM.
    ca_bundle: Vec<u8>,
}

/// How often the same had to be written again, because somebody else writes something different or the API server
/// refuses it. Policies that come and go are no contest.
#[derive(Debug, Default)]
struct Contest {
    demand: Option<Demand>,
    writes: u32,
    last: Option<Instant>,
}

impl Contest {
    /// One look at the configurations, and whether they had to be written. A long rest lets the count begin anew.
    fn note(&mut self, wrote: bool, demand: Demand) {
        let now = Instant::now();
        let rested = self.last.is_none_or(|it| now - it > MAX_PAUSE * 2);
        if rested || self.demand.as_ref() != Some(&demand) {
            self.writes = 0;
        }
        self.demand = Some(demand);
        if wrote {
            self.writes = self.writes.saturating_add(1);
            self.last = Some(now);
        }
    }

    fn pause(&self) -> Duration {
        let doublings = self.writes.saturating_sub(FREE);
        (PAUSE * 2_u32.saturating_pow(doublings)).min(MAX_PAUSE)
    }
}

/// Tells whenever one of the configurations changed in the cluster, by whoever.
fn changes(leading: &Leading) -> impl Stream<Item = ()> + use<> {
    let client = &leading.context.client;
    let name = &leading.context.args.webhook_configuration_name;
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let validating = watcher(validating, only.clone())
        .default_backoff()
        .touched_objects()
        .filter_map(async |it| told(it));
    let mutating = watcher(mutating, only)
        .default_backoff()
        .touched_objects()
        .filter_map(async |it| told(it));
    stream::select(validating.boxed(), mutating.boxed())
}

fn told<K>(event: Result<K, watcher::Error>) -> Option<()> {
    match event {
        Ok(_) => Some(()),
        Err(error) => {
            warn!(%error, "Failed to watch the webhook configurations");
            None
        }
    }
}

/// Brings both configurations to what is demanded. Whether anything had to be written.
async fn bring(leading: &Leading, demand: &Demand) -> anyhow::Result<bool> {
    let context = &leading.context;
    let inputs = Inputs {
        args: &context.args,
        ca_bundle: &demand.ca_bundle,
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

    fn demand(namespaces: usize) -> Demand {
        Demand {
            governed: (0..namespaces).map(|it| it.to_string()).collect(),
            delivering: BTreeSet::new(),
            ca_bundle: Vec::new(),
        }
    }

    #[test]
    fn r12_a_contest_is_slowed_down() {
        let mut contest = Contest::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            contest.note(true, demand(1));
            pauses.push(contest.pause().as_secs());
        }
        assert_eq!(pauses, [1, 1, 1, 1, 1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn policies_that_come_and_go_are_never_slowed_down() {
        let mut contest = Contest::default();
        for namespaces in 0..100 {
            contest.note(true, demand(namespaces));
            assert_eq!(contest.pause(), PAUSE);
        }
    }
}
