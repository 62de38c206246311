//! Apply: brings the cluster to what was built, by server-side apply. What is not ours is left alone.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use portcullis_api::{FIELD_MANAGER, ProposedNetworkPolicy, SecurityPolicy};
use serde_json::json;
use tokio::time::Instant;
use tracing::info;

use super::build::Desired;
use super::leader::NotLeader;
use super::{Leading, is_labelled, is_managed, is_ours, naming};

/// Times that an object is put back at once before the pauses begin.
const FREE: u32 = 5;

/// Longest pause between two attempts to put an object back.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// What stands after `apply`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// NetworkPolicies that are as they should be.
    pub in_place: usize,
    /// Names of NetworkPolicies that somebody else's object holds.
    pub conflicts: Vec<String>,
    /// NetworkPolicies that somebody else changes again and again.
    pub contested: Vec<Contested>,
    /// With `DryRun`: what would be written.
    pub proposed: Vec<ProposedNetworkPolicy>,
}

/// An object that is not put back at once any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contested {
    /// Its name.
    pub name: String,
    /// Field manager that changed it last, where the object is still there.
    pub by: Option<String>,
    /// Until it is put back again.
    pub pause: Duration,
}

/// Something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// This replica must not write.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The API server refused an object.
    #[error("failed to apply NetworkPolicy `{name}`")]
    Patch {
        /// Its name.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// The API server refused to delete an object.
    #[error("failed to delete NetworkPolicy `{name}`")]
    Delete {
        /// Its name.
        name: String,
        /// Why.
        source: kube::Error,
    },
}

/// How often each object of a namespace had to be written for the same generation of its policy.
pub type Contests = HashMap<(String, String), Contest>;

/// The writes of one object.
#[derive(Clone, Copy, Debug)]
pub struct Contest {
    generation: i64,
    writes: u32,
    last: Instant,
}

impl Contest {
    /// How long the object is to be left alone at `now`; zero once it may be written.
    fn pause(&self, generation: i64, now: Instant) -> Duration {
        if self.generation != generation || self.writes < FREE {
            return Duration::ZERO;
        }
        let pause = Duration::from_secs(1) * 2_u32.saturating_pow(self.writes - FREE + 1);
        pause.min(MAX_PAUSE).saturating_sub(now - self.last)
    }

    /// One more write. After a long rest the count begins anew.
    fn count(&mut self, generation: i64, now: Instant) {
        if self.generation != generation || now - self.last > MAX_PAUSE * 2 {
            self.writes = 0;
        }
        self.generation = generation;
        self.writes = self.writes.saturating_add(1);
        self.last = now;
    }
}

/// Writes what `desired` demands and differs from `existing`, and deletes what is ours and no longer demanded.
///
/// # Errors
/// When the API server refuses a write, or this replica does not lead any more.
pub async fn apply(
    leading: &Leading,
    policy: &SecurityPolicy,
    desired: Desired,
    existing: &BTreeMap<String, NetworkPolicy>,
) -> Result<Applied, ApplyError> {
    let mut applied = Applied::default();
    if desired.dry_run {
        applied.proposed = propose(&desired);
    }
    let wanted = if desired.dry_run {
        BTreeMap::new()
    } else {
        desired.network_policies
    };
    prune(leading, policy, existing, |name| wanted.contains_key(name)).await?;
    for (name, mut planned) in wanted {
        planned.object.metadata.owner_references = policy.controller_owner_ref(&()).map(|it| vec![it]);
        let present = existing.get(&name);
        if present.is_some_and(|it| !may_take(it, policy)) {
            applied.conflicts.push(name);
        } else if present.is_some_and(|it| is_right(it, &planned.object)) {
            applied.in_place += 1;
        } else if let Some(pause) = pause(leading, policy, &name) {
            let by = present.and_then(|it| last_manager(&it.metadata));
            applied.contested.push(Contested { name, by, pause });
        } else {
            leading.leadership.confirm().await?;
            write(leading, &name, &planned.object).await?;
            count(leading, policy, &name);
            applied.in_place += 1;
        }
    }
    Ok(applied)
}

fn propose(desired: &Desired) -> Vec<ProposedNetworkPolicy> {
    let proposals = desired.network_policies.iter();
    let proposals = proposals.map(|(name, planned)| ProposedNetworkPolicy {
        name: name.clone(),
        summary: planned.summary.clone(),
    });
    proposals.collect()
}

/// Deletes what label and field manager show as ours, generated from this policy and no longer wanted.
async fn prune(
    leading: &Leading,
    policy: &SecurityPolicy,
    existing: &BTreeMap<String, NetworkPolicy>,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<(), ApplyError> {
    let api: Api<NetworkPolicy> = api(leading, policy);
    for (name, object) in existing {
        if is_wanted(name) || !is_ours(&object.metadata) || !is_of(object, policy) {
            continue;
        }
        leading.leadership.confirm().await?;
        let only_this = DeleteParams {
            preconditions: Some(Preconditions {
                uid: object.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(name, &only_this).await {
            Ok(_) => info!(name, namespace = policy.namespace(), "Deleted NetworkPolicy"),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(source) => {
                return Err(ApplyError::Delete {
                    name: name.clone(),
                    source,
                });
            }
        }
    }
    Ok(())
}

/// Writes one object.
async fn write(leading: &Leading, name: &str, desired: &NetworkPolicy) -> Result<(), ApplyError> {
    let namespace = desired.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<NetworkPolicy> = Api::namespaced(leading.context.client.clone(), namespace);
    let stated = state_empty_lists(desired);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let failed = |source| ApplyError::Patch {
        name: name.to_owned(),
        source,
    };
    match api.patch(name, &params, &Patch::Apply(&stated)).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 422 => {
            // A restored backup still names the policy's old UID as its controller, and there can be only one.
            let owner = json!({"metadata": {"ownerReferences": desired.metadata.owner_references}});
            let merge = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            api.patch(name, &merge, &Patch::Merge(owner))
                .await
                .map_err(failed)?;
            api.patch(name, &params, &Patch::Apply(&stated))
                .await
                .map_err(failed)?;
        }
        Err(source) => return Err(failed(source)),
    }
    info!(name, namespace, "Applied NetworkPolicy");
    Ok(())
}

/// A list that is not stated is not owned, and a rule that somebody adds to it would stay.
fn state_empty_lists(desired: &NetworkPolicy) -> NetworkPolicy {
    let mut stated = desired.clone();
    if let Some(spec) = &mut stated.spec {
        spec.ingress.get_or_insert_default();
        spec.egress.get_or_insert_default();
    }
    stated
}

/// Whether an object of a name that we generate may be written: it bears our label for this policy, as a restored
/// backup does, or our fields, as one does whose labels were taken away.
fn may_take(object: &NetworkPolicy, policy: &SecurityPolicy) -> bool {
    if is_labelled(&object.metadata) {
        return is_of(object, policy);
    }
    is_managed(&object.metadata)
}

/// Whether the label says that `object` was generated from `policy`.
fn is_of(object: &NetworkPolicy, policy: &SecurityPolicy) -> bool {
    let expected = naming::labels(&policy.name_any());
    object.labels().get(naming::POLICY) == expected.get(naming::POLICY)
}

/// Whether nothing is to be written.
fn is_right(existing: &NetworkPolicy, desired: &NetworkPolicy) -> bool {
    let has_label = |(key, value): (&String, &String)| existing.labels().get(key) == Some(value);
    let has_owner = |it: &OwnerReference| existing.owner_references().contains(it);
    normal(existing.spec.as_ref()) == normal(desired.spec.as_ref())
        && desired.labels().iter().all(has_label)
        && desired.owner_references().iter().all(has_owner)
}

/// A spec as the API server gives it back: without empty lists.
fn normal(spec: Option<&NetworkPolicySpec>) -> NetworkPolicySpec {
    let mut spec = spec.cloned().unwrap_or_default();
    spec.ingress = spec.ingress.filter(|it| !it.is_empty());
    spec.egress = spec.egress.filter(|it| !it.is_empty());
    spec.pod_selector.get_or_insert_default();
    spec
}

/// The field manager that wrote last, beside ours.
fn last_manager(metadata: &ObjectMeta) -> Option<String> {
    let others = metadata.managed_fields.iter().flatten();
    let others = others.filter(|it| it.manager.as_deref() != Some(FIELD_MANAGER));
    others
        .max_by_key(|it| it.time.as_ref().map(|time| time.0))
        .and_then(|it| it.manager.clone())
}

fn api(leading: &Leading, policy: &SecurityPolicy) -> Api<NetworkPolicy> {
    Api::namespaced(
        leading.context.client.clone(),
        &policy.namespace().unwrap_or_default(),
    )
}

/// How long an object is to be left alone because others fight for it.
fn pause(leading: &Leading, policy: &SecurityPolicy, name: &str) -> Option<Duration> {
    let contests = leading.contests();
    let key = (policy.namespace().unwrap_or_default(), name.to_owned());
    let pause = contests
        .get(&key)?
        .pause(policy.metadata.generation.unwrap_or_default(), Instant::now());
    (!pause.is_zero()).then_some(pause)
}

fn count(leading: &Leading, policy: &SecurityPolicy, name: &str) {
    let now = Instant::now();
    let generation = policy.metadata.generation.unwrap_or_default();
    let mut contests = leading.contests();
    // What rests is forgotten, so that the map does not outgrow the objects that are written at present.
    contests.retain(|_, it| now - it.last <= MAX_PAUSE * 2);
    let fresh = Contest {
        generation,
        writes: 0,
        last: now,
    };
    let key = (policy.namespace().unwrap_or_default(), name.to_owned());
    contests.entry(key).or_insert(fresh).count(generation, now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r46_a_fight_is_answered_with_growing_pauses_until_the_policy_changes() {
        let start = Instant::now();
        let mut contest = Contest {
            generation: 1,
            writes: 0,
            last: start,
        };
        let mut pauses = Vec::new();
        for _ in 0..8 {
            contest.count(1, start);
            pauses.push(contest.pause(1, start).as_secs());
        }
        assert_eq!(pauses, [0, 0, 0, 0, 2, 4, 8, 16]);
        assert_eq!(contest.pause(1, start + Duration::from_secs(17)), Duration::ZERO);
        assert_eq!(contest.pause(2, start), Duration::ZERO);
        contest.count(1, start + MAX_PAUSE * 3);
        assert_eq!(contest.pause(1, start + MAX_PAUSE * 3), Duration::ZERO);
    }
}
