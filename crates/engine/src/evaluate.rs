//! The one function that decides.

use portcullis_api::{Enforcement, RuleId, Severity};

use crate::facts::Facts;
use crate::policy::{CompiledComponent, CompiledPolicy};
use crate::rules::{self, Context, Findings};
use crate::subject::Subject;
use crate::verdict::Verdict;

/// A policy that governs a subject, with the components that the subject belongs to.
#[derive(Clone, Debug)]
pub struct Governing<'p> {
    /// The policy.
    pub policy: &'p CompiledPolicy,
    /// Its components that match; empty when it states none.
    pub components: Vec<&'p CompiledComponent>,
}

/// The policies among `policies` that govern `subject`, or `old`, the object that it replaces: dropping a label is no
/// way out. Policies of other namespaces must not be among them.
///
/// What runs pods is selected by its pods' labels. Anything else is selected by the pods behind it, as `facts` tells,
/// and by a policy for the whole namespace in any case.
#[must_use]
pub fn select<'p>(
    policies: impl IntoIterator<Item = &'p CompiledPolicy>,
    subject: &Subject<'_>,
    old: Option<&Subject<'_>>,
    facts: &Facts,
) -> Vec<Governing<'p>> {
    let governs = |policy: &'p CompiledPolicy| {
        let of_new = components(policy, subject, facts);
        let of_old = old.and_then(|it| components(policy, it, facts));
        let components = match (of_new, of_old) {
            (None, None) => return None,
            (Some(one), None) | (None, Some(one)) => one,
            (Some(mut new), Some(old)) => {
                let missing: Vec<_> = old
                    .into_iter()
                    .filter(|it| !new.iter().any(|known| known.name == it.name))
                    .collect();
                new.extend(missing);
                new
            }
        };
        Some(Governing { policy, components })
    };
    policies.into_iter().filter_map(governs).collect()
}

/// The components of `policy` that the subject belongs to; `None` when the policy does not select it.
fn components<'p>(
    policy: &'p CompiledPolicy,
    subject: &Subject<'_>,
    facts: &Facts,
) -> Option<Vec<&'p CompiledComponent>> {
    if let Some((metadata, _)) = subject.pod() {
        let labels = &metadata.labels;
        let of = || {
            policy
                .components
                .iter()
                .filter(|it| it.selector.matches(labels))
                .collect()
        };
        return policy.selects(labels).then(of);
    }
    if subject.kind().template_fields().is_some() {
        // A controller without a template: only a policy for the whole namespace can speak of it.
        return policy.workloads.is_none().then(Vec::new);
    }
    let behind = match &facts.pods_behind {
        Some(crate::facts::Fact::Known(pods)) => pods.as_slice(),
        _ => &[],
    };
    let selected: Vec<_> = behind.iter().filter(|labels| policy.selects(*labels)).collect();
    let is_component = |it: &&CompiledComponent| selected.iter().any(|labels| it.selector.matches(*labels));
    let governed = policy.workloads.is_none() || !selected.is_empty();
    governed.then(|| policy.components.iter().filter(is_component).collect())
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
    for Governing { policy, components } in governing {
        for id in RuleId::ALL {
            let severity = policy.severity(*id).capped(ceiling);
            if severity == Severity::Disabled {
                continue;
            }
            let context = Context {
                policy,
                components,
                subject,
                facts,
            };
            let mut findings = Findings::new(policy, *id, severity);
            (rules::rule(*id).check)(&context, &mut findings);
            verdict.violations.append(&mut findings.violations);
            verdict.unknowns.append(&mut findings.unknowns);
        }
    }
    verdict.settle();
    verdict
}
