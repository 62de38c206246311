//! Audit: what is already there is judged by the same engine and counted. Objects are read in pages and dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kube::api::ListParams;
use kube::core::Request;
use portcullis_api::{Enforcement, Severity, WorkloadCounts};
use portcullis_engine::mutation::{self, Scope};
use portcullis_engine::object::Object;
use portcullis_engine::{CompiledPolicy, Facts, PolicyName, Subject, Text, evaluate, references, select};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Leading;
use crate::error::describe;
use crate::facts::{Backends, pods_behind};
use crate::metrics::Reconciled;

/// Objects that are listed at a time.
const PAGE: u32 = 100;

/// Changes within this time lead to one audit.
const DEBOUNCE: Duration = Duration::from_secs(1);

/// Shortest and longest time between two audits of a namespace; in between it grows with their number, so that the
/// load on the API server does not.
const PERIOD: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(300)];

/// What one governed namespace adds to the time between two audits.
const PER_NAMESPACE: Duration = Duration::from_secs(2);

/// What the pods behind one Ingress may take to be found.
const LOOK_UP: Duration = Duration::from_secs(5);

/// One kind that is audited.
struct Listed {
    /// Group and version, as in `apiVersion`.
    api_version: &'static str,
    kind: &'static str,
    plural: &'static str,
    /// Leaves out what has ended.
    fields: Option<&'static str>,
}

const fn listed(api_version: &'static str, kind: &'static str, plural: &'static str) -> Listed {
    Listed {
        api_version,
        kind,
        plural,
        fields: None,
    }
}

/// Everything that runs pods.
const WORKLOADS: &[Listed] = &[
    listed("apps/v1", "Deployment", "deployments"),
    listed("apps/v1", "StatefulSet", "statefulsets"),
    listed("apps/v1", "DaemonSet", "daemonsets"),
    listed("apps/v1", "ReplicaSet", "replicasets"),
    listed("batch/v1", "CronJob", "cronjobs"),
    listed("batch/v1", "Job", "jobs"),
    listed("v1", "ReplicationController", "replicationcontrollers"),
    Listed {
        fields: Some("status.phase!=Succeeded,status.phase!=Failed"),
        ..listed("v1", "Pod", "pods")
    },
];

const INGRESSES: Listed = listed("networking.k8s.io/v1", "Ingress", "ingresses");

/// What one audit found of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// Its workloads by outcome.
    pub counts: WorkloadCounts,
    /// The components that at least one workload belongs to.
    pub components: BTreeSet<String>,
}

/// Audits the governed namespaces while this replica leads: each when its policies or facts changed, and all in turn.
/// Never ends.
pub async fn keep(leading: &Leading) {
    let context = &leading.context;
    let (mut policies, mut watched) = (context.policies.subscribe(), context.watched.subscribe());
    let mut last: BTreeMap<String, Last> = BTreeMap::new();
    loop {
        policies.borrow_and_update();
        drop(watched.borrow_and_update());
        let governed = context.policies.governed();
        forget(leading, &mut last, &governed);
        let period = period(governed.len());
        for namespace in governed {
            let policies = context.policies.in_force(&namespace);
            // Before it judges, so that what changes meanwhile is judged by the next one.
            let facts = context.watched.revision(&namespace);
            let is_due = last
                .get(&namespace)
                .is_none_or(|it| it.is_due(&policies, facts, period));
            if is_due {
                if let Err(error) = audit(leading, &namespace, &policies).await {
                    context.metrics.reconcile_error(Reconciled::Audit);
                    warn!(error = describe(error.as_ref()), namespace, "Failed to audit");
                }
                // Also after a failure: an API server in trouble is not asked more often.
                let at = Instant::now();
                last.insert(namespace, Last { policies, facts, at });
            }
        }
        tokio::select! {
            _ = policies.changed() => {}
            _ = watched.changed() => {}
            () = tokio::time::sleep(period / 4) => {}
        }
        tokio::time::sleep(DEBOUNCE).await;
    }
}

/// The last audit of a namespace.
struct Last {
    /// Policies by which it judged.
    policies: Vec<Arc<CompiledPolicy>>,
    /// Revision of the facts by which it judged.
    facts: u64,
    at: Instant,
}

impl Last {
    fn is_due(&self, policies: &[Arc<CompiledPolicy>], facts: u64, period: Duration) -> bool {
        // Index and audit share the compiled policies, so that the same address means no change.
        let same = self.policies.len() == policies.len()
            && policies
                .iter()
                .all(|it| self.policies.iter().any(|known| Arc::ptr_eq(known, it)));
        let age = self.at.elapsed();
        !same || age >= period || (facts != self.facts && age >= PERIOD[0] / 10)
    }
}

fn period(namespaces: usize) -> Duration {
    let [shortest, longest] = PERIOD;
    let namespaces = u32::try_from(namespaces).unwrap_or(u32::MAX);
    PER_NAMESPACE.saturating_mul(namespaces).clamp(shortest, longest)
}

/// Drops what was counted in namespaces that are not governed any more.
fn forget(leading: &Leading, last: &mut BTreeMap<String, Last>, governed: &BTreeSet<String>) {
    last.retain(|namespace, _| governed.contains(namespace));
    let mut audited = leading.audited.lock().unwrap_or_else(PoisonError::into_inner);
    audited.retain(|policy, _| governed.contains(&policy.namespace));
}

/// Judges what is in `namespace` and keeps the counts; policies whose counts changed are reconciled.
async fn audit(leading: &Leading, namespace: &str, policies: &[Arc<CompiledPolicy>]) -> anyhow::Result<()> {
    let mut tally = Tally::new(policies);
    for kind in WORKLOADS {
        let mut pages = Pages::of(kind, namespace);
        while let Some(page) = pages.next(leading).await? {
            for object in parse(&page)? {
                if !is_made_by_controller(&object) {
                    judge_workload(leading, namespace, policies, kind, object, &mut tally);
                }
            }
        }
    }
    let mut pages = Pages::of(&INGRESSES, namespace);
    while let Some(page) = pages.next(leading).await? {
        audit_ingresses(leading, namespace, policies, &page, &mut tally).await?;
    }
    let mut changed = Vec::new();
    {
        let mut audited = leading.audited.lock().unwrap_or_else(PoisonError::into_inner);
        for (policy, found) in tally.finish() {
            if audited.get(&policy) != Some(&found) {
                audited.insert(policy.clone(), found);
                changed.push(policy);
            }
        }
    }
    debug!(namespace, changed = changed.len(), "Audited namespace");
    changed.iter().for_each(|it| leading.request(it));
    Ok(())
}

fn judge_workload(
    leading: &Leading,
    namespace: &str,
    policies: &[Arc<CompiledPolicy>],
    kind: &Listed,
    object: Object<'_>,
    tally: &mut Tally,
) {
    let mut subject = subject(kind, object, namespace);
    let mut facts = Facts::default();
    let governing = select(policies.iter().map(AsRef::as_ref), &subject, None, &facts);
    if governing.is_empty() {
        tally.unmatched += 1;
        return;
    }
    // A template is judged as if its pods had been admitted; that may add references.
    mutation::apply(&governing, &mut subject, Scope::All);
    leading
        .context
        .watched
        .fill(namespace, references(&subject), &mut facts);
    // The cluster's brake stops denials, not what is counted.
    let verdict = evaluate(&governing, &subject, &facts, Enforcement::Deny);
    tally.count(&governing, &verdict);
}

async fn audit_ingresses(
    leading: &Leading,
    namespace: &str,
    policies: &[Arc<CompiledPolicy>],
    page: &str,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let backends: Page<Backends> = serde_json::from_str(page)?;
    for (object, backends) in parse(page)?.into_iter().zip(backends.items) {
        let deadline = Instant::now() + LOOK_UP;
        let services = backends.services();
        let behind = pods_behind(&leading.context, namespace, &services, deadline).await;
        let facts = Facts {
            pods_behind: Some(behind),
            ..Facts::default()
        };
        let subject = subject(&INGRESSES, object, namespace);
        let governing = select(policies.iter().map(AsRef::as_ref), &subject, None, &facts);
        let verdict = evaluate(&governing, &subject, &facts, Enforcement::Deny);
        tally.count(&governing, &verdict);
    }
    Ok(())
}

/// Counts of one namespace while it is audited.
struct Tally {
    by_policy: BTreeMap<PolicyName, Audited>,
    /// Severity from which a violation counts: in mode Audit all are capped to it, and they are what one looks for.
    thresholds: BTreeMap<PolicyName, Severity>,
    unmatched: usize,
}

impl Tally {
    fn new(policies: &[Arc<CompiledPolicy>]) -> Self {
        let thresholds = policies
            .iter()
            .map(|it| (it.name.clone(), Severity::Warn.capped(it.enforcement)));
        Self {
            by_policy: policies
                .iter()
                .map(|it| (it.name.clone(), Audited::default()))
                .collect(),
            thresholds: thresholds.collect(),
            unmatched: 0,
        }
    }

    fn count(
        &mut self,
        governing: &[portcullis_engine::Governing<'_>],
        verdict: &portcullis_engine::Verdict,
    ) {
        for it in governing {
            let name = &it.policy.name;
            let threshold = self.thresholds.get(name).copied().unwrap_or(Severity::Warn);
            let Some(audited) = self.by_policy.get_mut(name) else {
                continue;
            };
            audited
                .components
                .extend(it.components.iter().map(|it| it.name.clone()));
            audited.counts.matched += 1;
            let violations = verdict.violations.iter();
            let mut violations =
                violations.filter(|it| it.severity >= threshold && it.policies.contains(name));
            let mut unknowns = verdict
                .unknowns
                .iter()
                .filter(|it| it.severity >= threshold && it.policies.contains(name));
            if violations.next().is_some() {
                audited.counts.violating += 1;
            } else if unknowns.next().is_none() {
                // What could not be judged is neither.
                audited.counts.compliant += 1;
            }
        }
    }

    fn finish(self) -> BTreeMap<PolicyName, Audited> {
        let unmatched = super::status::to_i32(self.unmatched);
        let mut by_policy = self.by_policy;
        by_policy
            .values_mut()
            .for_each(|it| it.counts.unmatched = unmatched);
        by_policy
    }
}

/// Items of a list do not say their kind themselves.
fn subject<'a>(kind: &Listed, mut object: Object<'a>, namespace: &str) -> Subject<'a> {
    object.api_version = Text::from(kind.api_version);
    object.kind = Text::from(kind.kind);
    Subject::new(object, namespace)
}

/// Whether a built-in controller made it from something that is audited itself. What other controllers make is audited:
/// nobody else speaks for it.
fn is_made_by_controller(object: &Object<'_>) -> bool {
    let audited = |api_version: &str, kind: &str| {
        WORKLOADS
            .iter()
            .any(|it| it.api_version == api_version && it.kind == kind)
    };
    let owners = object.metadata.owner_references.iter();
    let mut controllers = owners.filter(|it| it.controller);
    controllers.any(|it| audited(it.api_version.as_str(), it.kind.as_str()))
}

/// A page of a list, of each item only what is read.
#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: PageMetadata,
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    continue_token: String,
}

fn parse(page: &str) -> Result<Vec<Object<'_>>, serde_json::Error> {
    serde_json::from_str::<Page<Object<'_>>>(page).map(|it| it.items)
}

/// Lists one kind of one namespace, page by page, as text.
struct Pages {
    url: String,
    /// `None` after the last page.
    params: Option<ListParams>,
}

impl Pages {
    fn of(kind: &Listed, namespace: &str) -> Self {
        let root = match kind.api_version {
            "v1" => "/api/v1".to_owned(),
            group => format!("/apis/{group}"),
        };
        let params = ListParams {
            field_selector: kind.fields.map(str::to_owned),
            ..ListParams::default().limit(PAGE)
        };
        Self {
            url: format!("{root}/namespaces/{namespace}/{}", kind.plural),
            params: Some(params),
        }
    }

    async fn next(&mut self, leading: &Leading) -> anyhow::Result<Option<String>> {
        let Some(params) = self.params.take() else {
            return Ok(None);
        };
        let request = Request::new(&self.url).list(&params)?;
        let text = leading.context.client.request_text(request).await?;
        /// Nothing of an item is read.
        #[derive(Deserialize)]
        struct Ignored {}
        let page: Page<Ignored> = serde_json::from_str(&text)?;
        let token = page.metadata.continue_token;
        self.params = (!token.is_empty()).then(|| params.continue_token(&token));
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_judged_anew_only_where_they_changed() {
        let last = |seconds: u64| Last {
            policies: Vec::new(),
            facts: 7,
            at: Instant::now() - Duration::from_secs(seconds),
        };
        let period = Duration::from_secs(30);
        assert!(!last(5).is_due(&[], 7, period), "nothing changed");
        assert!(last(5).is_due(&[], 8, period), "a fact of this namespace changed");
        assert!(!last(1).is_due(&[], 8, period), "it was judged just now");
        assert!(last(30).is_due(&[], 7, period), "it is its turn");
    }
}
