//! What comes out: all violations, what could not be known, and the decision that follows.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use portcullis_api::{RuleId, Severity};

use crate::facts::FactKey;
use crate::path::FieldPath;
use crate::policy::PolicyName;
use crate::text::printable;

/// What a rule saw.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Observed {
    /// The field is not set; the text says what follows from that, and may be empty.
    Unset(&'static str),
    /// This value; never one that could be a credential.
    Shown(String),
    /// A credential: only what kind it looks like is said. `digest` tells a changed one from an old one within one
    /// request and is never shown.
    Withheld {
        /// What it looks like, such as `a password in a URL`.
        what: &'static str,
        /// Process-local digest of the value.
        digest: u64,
    },
}

impl Observed {
    /// A credential that looks like `what`; only a digest of its value is kept.
    #[must_use]
    pub fn withheld(what: &'static str, value: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self::Withheld {
            what,
            digest: hasher.finish(),
        }
    }

    /// As it may stand in a message, with at most `limit` characters.
    pub(crate) fn printable(self, limit: usize) -> Self {
        match self {
            Self::Shown(text) => Self::Shown(printable(&text, limit).into_owned()),
            other => other,
        }
    }
}

impl std::fmt::Display for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unset("") => f.write_str("unset"),
            Self::Unset(consequence) => write!(f, "unset, {consequence}"),
            Self::Shown(text) => f.write_str(text),
            Self::Withheld { what, .. } => write!(f, "{what} (value withheld)"),
        }
    }
}

/// One broken demand at one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// The rule.
    pub rule: RuleId,
    /// What follows from it, after the rule's, the policy's and the cluster's ceiling.
    pub severity: Severity,
    /// The policies that demand it, sorted.
    pub policies: Vec<PolicyName>,
    /// Where.
    pub path: FieldPath,
    /// What was seen.
    pub observed: Observed,
    /// What is asked for.
    pub required: String,
    /// A sentence or a command that can be pasted.
    pub remedy: String,
    /// What offends there, where more than one thing could: origins, Secrets and keys, capabilities, names of entries.
    /// What makes it the same violation in another version of the object, and never shown.
    pub about: BTreeSet<String>,
    /// Where containers would have the same violation themselves, had they not inherited it.
    pub inherited_at: Vec<FieldPath>,
    /// The facts that it rests on: looked up live before a denial.
    pub facts: BTreeSet<FactKey>,
    /// Whether the object had it before: then it warns and no longer denies.
    pub ratcheted: bool,
}

impl Violation {
    /// Severity after ratcheting.
    #[must_use]
    pub fn effective_severity(&self) -> Severity {
        if self.ratcheted {
            self.severity.min(Severity::Warn)
        } else {
            self.severity
        }
    }

    /// What it is sorted by; equal for the same finding of two policies.
    fn key(&self) -> (RuleId, &FieldPath, &Observed, &str) {
        (self.rule, &self.path, &self.observed, &self.required)
    }

    /// Rule and place, by which it is looked for in another version of the object or in its owner.
    fn place(&self) -> Place<'_> {
        (self.rule, self.path.identity())
    }

    /// The places at which it makes the same violation known.
    fn places(&self) -> impl Iterator<Item = Place<'_>> {
        let inherited = self.inherited_at.iter().map(|it| (self.rule, it.identity()));
        std::iter::once(self.place()).chain(inherited)
    }

    /// What offends there. Where the rule does not say so, a changed literal is another one: which part of it is the
    /// credential, and whether it holds one more, is not known.
    fn offenders(&self) -> impl Iterator<Item = Offender<'_>> {
        let literal = match self.observed {
            Observed::Withheld { digest, .. } if self.about.is_empty() => Some(Offender::Literal(digest)),
            Observed::Withheld { .. } | Observed::Unset(_) | Observed::Shown(_) => None,
        };
        self.about.iter().map(|it| Offender::Named(it)).chain(literal)
    }
}

/// Rule and path by which a demand is recognised, whatever became of the object around it.
type Place<'v> = (RuleId, Vec<&'v str>);

/// One of the things that break a demand at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Offender<'v> {
    Named(&'v str),
    Literal(u64),
}

/// What offended before, for each policy that demanded otherwise and each place.
#[derive(Default)]
struct Known<'v>(HashMap<(&'v PolicyName, Place<'v>), HashSet<Offender<'v>>>);

impl<'v> Known<'v> {
    fn of(before: impl IntoIterator<Item = &'v Violation>) -> Self {
        let mut known = Self::default();
        for it in before {
            for (policy, place) in it
                .policies
                .iter()
                .flat_map(|by| it.places().map(move |at| (by, at)))
            {
                known.0.entry((policy, place)).or_default().extend(it.offenders());
            }
        }
        known
    }

    /// Whether all that offends offended at `places` before, whichever of the policies is asked.
    fn covers<'n>(&self, violation: &'n Violation, mut places: impl Iterator<Item = Place<'n>>) -> bool {
        places.all(|place| {
            violation.policies.iter().all(|policy| {
                let before = self.0.get(&(policy, place.clone()));
                before.is_some_and(|it| violation.offenders().all(|offender| it.contains(&offender)))
            })
        })
    }

    /// As the object before: containers that did not inherit it are the worse when they do.
    fn of_the_same(&self, violation: &Violation) -> bool {
        self.covers(violation, violation.places())
    }

    /// As the owner's template: containers that were injected inherit what the pod says, and nobody chose that.
    fn of_the_owner(&self, violation: &Violation) -> bool {
        self.covers(violation, std::iter::once(violation.place()))
    }
}

/// A demand that could not be judged because a fact is unknown.
#[derive(Clone, Debug, PartialEq)]
pub struct Unknown {
    /// The rule.
    pub rule: RuleId,
    /// What would follow if it were broken.
    pub severity: Severity,
    /// The policies that demand it, sorted.
    pub policies: Vec<PolicyName>,
    /// Where.
    pub path: FieldPath,
    /// The fact that is missing; `None` when the pods behind the object are, which were looked up live already.
    pub fact: Option<FactKey>,
    /// Why it is unknown.
    pub cause: String,
    /// What else would decide, once the fact is known: looked up with it, so that no denial rests on what is cached.
    pub beside: BTreeSet<FactKey>,
    /// The violations that there are if the policies select the object, where the pods behind it are what is missing.
    pub violations: Vec<Violation>,
}

impl Unknown {
    /// What makes it the same demand in another version of the object or in its owner.
    fn identity(&self) -> (RuleId, Vec<&str>, Option<&FactKey>) {
        (self.rule, self.path.identity(), self.fact.as_ref())
    }

    /// What it is sorted by; equal for the same finding of two policies.
    fn key(&self) -> (RuleId, &FieldPath, Option<&FactKey>) {
        (self.rule, &self.path, self.fact.as_ref())
    }
}

/// What follows from a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decision {
    /// Admitted.
    Allow,
    /// Admitted with warnings.
    Warn,
    /// Refused because a fact that a denial may rest on is unknown: an error of ours.
    Error,
    /// Refused.
    Deny,
}

impl Decision {
    /// Word for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Deny => "deny",
        }
    }
}

/// Everything that was found about one object, sorted by rule and path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Broken demands.
    pub violations: Vec<Violation>,
    /// Demands that could not be judged.
    pub unknowns: Vec<Unknown>,
}

impl Verdict {
    /// What follows.
    #[must_use]
    pub fn decision(&self) -> Decision {
        let strictest = self
            .violations
            .iter()
            .map(Violation::effective_severity)
            .max()
            .unwrap_or(Severity::Disabled);
        if strictest == Severity::Deny {
            return Decision::Deny;
        }
        let unknown = self
            .unknowns
            .iter()
            .map(|it| it.severity)
            .max()
            .unwrap_or(Severity::Disabled);
        if unknown == Severity::Deny {
            return Decision::Error;
        }
        if strictest.max(unknown) == Severity::Warn {
            Decision::Warn
        } else {
            Decision::Allow
        }
    }

    /// The facts that are to be looked up live before the verdict is given: what a denial would rest on, and what is
    /// unknown where the author would be refused or told that it could not be judged.
    #[must_use]
    pub fn deciding_facts(&self) -> BTreeSet<FactKey> {
        let broken = self
            .violations
            .iter()
            .filter(|it| it.effective_severity() == Severity::Deny)
            .flat_map(|it| &it.facts);
        let unknown = self
            .unknowns
            .iter()
            .filter(|it| it.severity >= Severity::Warn)
            .flat_map(|it| it.beside.iter().chain(&it.fact));
        broken.chain(unknown).cloned().collect()
    }

    /// Lowers what `before` had too, for each policy that demands it now: such a violation warns and no longer denies,
    /// unless more offends than before. A demand that cannot be judged now and could not be judged before rests on the
    /// same fact at the same place: whatever the fact is, the object is no worse. Where the pods behind it are missing,
    /// it is no worse when it had the violations before that it has if a policy selects it.
    pub fn ratchet(&mut self, before: &Self) {
        self.lower(before, |known, it| known.of_the_same(it));
    }

    /// As [`Verdict::ratchet`], by the verdict on the template of which the object is made. It may have more containers.
    pub fn ratchet_by_owner(&mut self, owner: &Self) {
        self.lower(owner, |known, it| known.of_the_owner(it));
    }

    fn lower(&mut self, before: &Self, covers: impl Fn(&Known<'_>, &Violation) -> bool) {
        let known = Known::of(&before.violations);
        for violation in &mut self.violations {
            violation.ratcheted |= covers(&known, violation);
        }
        let offended = Known::of(before.unknowns.iter().flat_map(|it| &it.violations));
        let unknowns = before.unknowns.iter();
        let known: HashSet<_> = unknowns
            .flat_map(|it| it.policies.iter().map(|by| (by, it.identity())))
            .collect();
        for unknown in &mut self.unknowns {
            let mut policies = unknown.policies.iter();
            if policies.all(|by| known.contains(&(by, unknown.identity())))
                && unknown.violations.iter().all(|it| covers(&offended, it))
            {
                unknown.severity = unknown.severity.min(Severity::Warn);
            }
        }
    }

    /// Sorts what was found; the same finding of two policies becomes one that names both.
    pub(crate) fn settle(&mut self) {
        self.violations.sort_by(|a, b| a.key().cmp(&b.key()));
        self.violations.dedup_by(|next, kept| {
            let same = next.key() == kept.key();
            if same {
                kept.severity = kept.severity.max(next.severity);
                kept.policies.append(&mut next.policies);
                kept.about.append(&mut next.about);
                kept.facts.append(&mut next.facts);
                kept.inherited_at.append(&mut next.inherited_at);
            }
            same
        });
        self.unknowns.sort_by(|a, b| a.key().cmp(&b.key()));
        self.unknowns.dedup_by(|next, kept| {
            let same = next.key() == kept.key();
            if same {
                kept.severity = kept.severity.max(next.severity);
                kept.policies.append(&mut next.policies);
                kept.beside.append(&mut next.beside);
                kept.violations.append(&mut next.violations);
            }
            same
        });
        let policies = self.violations.iter_mut().map(|it| &mut it.policies);
        for policies in policies.chain(self.unknowns.iter_mut().map(|it| &mut it.policies)) {
            policies.sort();
            policies.dedup();
        }
    }
}
