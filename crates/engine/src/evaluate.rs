//! The one function that decides.

use std::sync::Arc;

use portcullis_api::{Enforcement, RuleId, Severity};

use crate::facts::{Fact, Facts};
use crate::policy::{CompiledComponent, CompiledPolicy, PolicyName};
use crate::rules::{self, Context, Findings};
use crate::subject::{Kind, Subject};
use crate::verdict::Verdict;

/// A policy that governs a subject, with the components that the subject belongs to.
#[derive(Clone, Debug)]
pub struct Governing<'p> {
    /// The policy.
    pub policy: &'p CompiledPolicy,
    /// Its components that match; empty when it states none.
    pub components: Vec<&'p CompiledComponent>,
    /// By what it governs the subject.
    pub selection: Selection,
}

/// By what a policy governs a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// It selects the subject, or the pods behind it.
    Known,
    /// Nobody can tell yet whether it will: the pods behind the subject are still to come, as the text says in a part of
    /// a sentence. It governs until they are there, or the order of `kubectl apply` would decide what is admitted.
    Presumed(Arc<str>),
    /// The pods behind the subject could not be looked up; the text says why. What breaks the policy cannot be judged.
    Unknown(Arc<str>),
}

/// The policies among `policies` that govern `subject`, or `old`, the object that it replaces: dropping a label is no
/// way out. Policies of other namespaces must not be among them.
///
/// What runs pods is selected by its pods' labels. An Ingress is selected by the pods behind it, as `facts` tells, and while
/// these are not known by every policy. Anything else is selected by a policy for the whole namespace alone.
#[must_use]
pub fn select<'p>(
    policies: impl IntoIterator<Item = &'p CompiledPolicy>,
    subject: &Subject<'_>,
    old: Option<&Subject<'_>>,
    facts: &Facts,
) -> Vec<Governing<'p>> {
    let governs = |policy: &'p CompiledPolicy| {
        let of_new = governing(policy, subject, facts);
        let of_old = old.and_then(|it| governing(policy, it, facts));
        match (of_new, of_old) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(one),
            (Some(mut new), Some(old)) => {
                let missing: Vec<_> = old
                    .components
                    .into_iter()
                    .filter(|it| !new.components.iter().any(|known| known.name == it.name))
                    .collect();
                new.components.extend(missing);
                Some(new)
            }
        }
    };
    policies.into_iter().filter_map(governs).collect()
}

/// The policies among `policies` by which what `old` had counts as having been there before, for a subject that `now`
/// governs: those that selected it. One that is presumed to, or of which nobody knows, counts only where it is still no
/// more than that, as an Ingress whose pods were not known then was never judged by it. What is unknown of `old` must be
/// what is unknown of the subject: `facts` of an Ingress that led elsewhere must say that it led to no pods.
#[must_use]
pub fn select_before<'p>(
    policies: impl IntoIterator<Item = &'p CompiledPolicy>,
    old: &Subject<'_>,
    facts: &Facts,
    now: &[Governing<'_>],
) -> Vec<Governing<'p>> {
    let selection_now = |name: &PolicyName| {
        let policy = now.iter().find(|it| it.policy.name == *name);
        policy.map(|it| &it.selection)
    };
    let mut before = select(policies, old, None, facts);
    before.retain(|it| {
        let now = selection_now(&it.policy.name);
        match it.selection {
            Selection::Known => true,
            Selection::Presumed(_) => matches!(now, Some(Selection::Presumed(_))),
            Selection::Unknown(_) => matches!(now, Some(Selection::Unknown(_))),
        }
    });
    before
}

/// `policy` with what of it governs the subject; `None` when it does not.
fn governing<'p>(policy: &'p CompiledPolicy, subject: &Subject<'_>, facts: &Facts) -> Option<Governing<'p>> {
    let by = |components, selection| Governing {
        policy,
        components,
        selection,
    };
    let components = policy.components.iter();
    if let Some((metadata, _)) = subject.pod() {
        let labels = &metadata.labels;
        let components = components.filter(|it| it.selector.matches(labels)).collect();
        return policy.selects(labels).then(|| by(components, Selection::Known));
    }
    if subject.kind() != Kind::Ingress {
        // A controller without a template, too: only a policy for the whole namespace can speak of it.
        let whole_namespace = policy.workloads.is_none();
        return whole_namespace.then(|| by(Vec::new(), Selection::Known));
    }
    let (labels, otherwise) = match &facts.pods_behind {
        Some(Fact::Known(it)) => (it.labels.as_slice(), it.awaited.clone().map(Selection::Presumed)),
        Some(Fact::Unknown(cause)) => (&[][..], Some(Selection::Unknown(Arc::clone(cause)))),
        Some(Fact::Absent) | None => {
            let cause = "the pods behind the Ingress were not looked up";
            (&[][..], Some(Selection::Unknown(cause.into())))
        }
    };
    let selected: Vec<_> = labels.iter().filter(|labels| policy.selects(*labels)).collect();
    if policy.workloads.is_none() || !selected.is_empty() {
        let is_component =
            |it: &&CompiledComponent| selected.iter().any(|labels| it.selector.matches(*labels));
        return Some(by(components.filter(is_component).collect(), Selection::Known));
    }
    otherwise.map(|selection| by(Vec::new(), selection))
}

/// Judges `subject` by every rule of the policies that govern it. `ceiling` is the whole cluster's.
///
/// Pure: the same input gives the same verdict, in the webhook, in the background audit and on the command line.
#[must_use]
pub fn evaluate(
    governing: &[Governing<'_>],
    subject: &Subject<'_>,
    facts: &Facts,
    ceiling: Enforcement,
) -> Verdict {
    let mut verdict = Verdict::default();
    for Governing {
        policy,
        components,
        selection,
    } in governing
    {
        let context = Context::new(policy, components, subject, facts);
        for id in RuleId::ALL {
            let severity = policy.severity(*id).capped(ceiling);
            if severity == Severity::Disabled {
                continue;
            }
            let mut findings = Findings::new(policy, *id, severity);
            (rules::rule(*id).check)(&context, &mut findings);
            if let Selection::Unknown(cause) = selection {
                findings.cannot_be_judged(cause);
            }
            verdict.violations.append(&mut findings.violations);
            verdict.unknowns.append(&mut findings.unknowns);
        }
    }
    verdict.settle();
    verdict
}
