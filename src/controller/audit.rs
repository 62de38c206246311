//! Audit: what is already there is judged by the same engine and counted. Objects are read in pages and dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use portcullis_api::{Enforcement, Severity, WorkloadCounts};
use portcullis_engine::mutation::{self, Scope};
use portcullis_engine::object::Object;
use portcullis_engine::{
    CompiledPolicy, Fact, Facts, Governing, Labels, PolicyName, Selection, Subject, Verdict, evaluate,
    references, select,
};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Leading, to_i32};
use crate::error::describe;
use crate::facts::{
    Backends, Backing, INGRESSES, Pages, WORKLOADS, is_made_by_controller, items, template_labels,
};
use crate::metrics::Reconciled;

/// Changes within this time lead to one audit.
const DEBOUNCE: Duration = Duration::from_secs(1);

/// Shortest and longest time between two audits of a namespace; in between it grows with their number, so that the
/// load on the API server does not.
const PERIOD: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(300)];

/// What one governed namespace adds to the time between two audits.
const PER_NAMESPACE: Duration = Duration::from_secs(2);

/// What the pods behind one Ingress may take to be found.
const LOOK_UP: Duration = Duration::from_secs(5);

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
    let client = &leading.context.client;
    let mut tally = Tally::new(policies);
    let mut templates = BTreeSet::new();
    for kind in WORKLOADS {
        let mut pages = Pages::of(client, kind, namespace);
        while let Some(page) = pages.next().await? {
            for object in items(&page)? {
                if !is_made_by_controller(&object) {
                    let subject = kind.subject(object, namespace);
                    templates.extend(template_labels(&subject));
                    judge_workload(leading, policies, subject, &mut tally);
                }
            }
        }
    }
    let mut pages = Pages::of(client, &INGRESSES, namespace);
    while let Some(page) = pages.next().await? {
        audit_ingresses(leading, namespace, policies, (&page, &templates), &mut tally).await?;
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
    policies: &[Arc<CompiledPolicy>],
    mut subject: Subject<'_>,
    tally: &mut Tally,
) {
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
        .fill(subject.namespace(), references(&subject), &mut facts);
    // The cluster's brake stops denials, not what is counted.
    let verdict = evaluate(&governing, &subject, &facts, Enforcement::Deny);
    tally.count(&governing, &verdict);
}

async fn audit_ingresses(
    leading: &Leading,
    namespace: &str,
    policies: &[Arc<CompiledPolicy>],
    (page, templates): (&str, &BTreeSet<Labels>),
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let client = &leading.context.client;
    for (object, backends) in items::<Object<'_>>(page)?
        .into_iter()
        .zip(items::<Backends>(page)?)
    {
        let deadline = Instant::now() + LOOK_UP;
        let services = backends.services();
        let backing = Backing::look_up(client, namespace, &services, Some(templates), deadline).await;
        let facts = Facts {
            pods_behind: Some(backing.map_or_else(Fact::Unknown, |it| Fact::Known(it.behind(&backends)))),
            ..Facts::default()
        };
        let subject = INGRESSES.subject(object, namespace);
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

    /// An Ingress whose pods are not there yet is violating, though perhaps another policy will select it; but where there
    /// is nothing to find, nobody knows whose it is, and it is not counted.
    fn count(&mut self, governing: &[Governing<'_>], verdict: &Verdict) {
        for it in governing {
            let is_selected = it.selection == Selection::Known;
            let name = &it.policy.name;
            let threshold = self.thresholds.get(name).copied().unwrap_or(Severity::Warn);
            let Some(audited) = self.by_policy.get_mut(name) else {
                continue;
            };
            audited
                .components
                .extend(it.components.iter().map(|it| it.name.clone()));
            let violations = verdict.violations.iter();
            let mut violations =
                violations.filter(|it| it.severity >= threshold && it.policies.contains(name));
            let mut unknowns = verdict
                .unknowns
                .iter()
                .filter(|it| it.severity >= threshold && it.policies.contains(name));
            let is_violating = violations.next().is_some();
            // What could not be judged is neither.
            let is_unknown = unknowns.next().is_some();
            if is_violating || is_selected {
                audited.counts.matched += 1;
            }
            if is_violating {
                audited.counts.violating += 1;
            } else if is_selected && !is_unknown {
                audited.counts.compliant += 1;
            }
        }
    }

    fn finish(self) -> BTreeMap<PolicyName, Audited> {
        let unmatched = to_i32(self.unmatched);
        let mut by_policy = self.by_policy;
        by_policy
            .values_mut()
            .for_each(|it| it.counts.unmatched = unmatched);
        by_policy
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
