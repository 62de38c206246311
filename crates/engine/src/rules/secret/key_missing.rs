//! Every Secret holds the keys that workloads ask of it, and a credential's key is not empty.
//!
//! Reads: `secretKeyRef` and the `items` of mounted volumes. A reference with `optional: true` may lead nowhere. Only
//! the key that was asked for is named, never those that the Secret has.
//! Source: S0-13, S0-19, S1-16, S1-18, S1-29, S1-77, S2-49.

use std::collections::BTreeSet;

use portcullis_api::RuleId;

use super::uses::{Keys, Use, uses};
use super::{entries, names, remedies};
use crate::facts::{Fact, FactKey};
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::SecretKeyMissing,
    title: "missing key",
    meaning: "every Secret holds the keys that workloads refer to",
    section: Section::Secrets,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/secret/key-missing.md"),
    check,
};

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let mut unknown = BTreeSet::new();
    for it in uses(context).iter().filter(|it| !it.optional) {
        match context.facts.secret(it.secret) {
            Fact::Known(secret) => {
                for key in it.keys.named() {
                    let empty = secret.keys.get(key).map(|it| it.empty);
                    check_key(context, it, key, empty, findings);
                }
            }
            Fact::Unknown(cause) if !is_left_to_missing(context) && unknown.insert(it.secret) => {
                let fact = FactKey::Secret(it.secret.to_owned());
                findings.unknown(it.path(context.subject), fact, &*cause);
            }
            // An absent Secret is for `secret/missing` to report.
            Fact::Unknown(_) | Fact::Absent => {}
        }
    }
}

/// Whether `secret/missing` says of the same unknown Secret at least as severely that it cannot be judged.
fn is_left_to_missing(context: &Context<'_, '_>) -> bool {
    context.policy.severity(RuleId::SecretMissing) >= context.policy.severity(RuleId::SecretKeyMissing)
}

/// `empty` is `None` where the Secret does not have the key.
fn check_key(
    context: &Context<'_, '_>,
    it: &Use<'_, '_>,
    key: &str,
    empty: Option<bool>,
    findings: &mut Findings<'_>,
) {
    let secret = remedies::name(context, it.secret);
    let (observed, required) = match empty {
        None => (
            format!("Secret {secret} has no key `{key}`"),
            format!("key `{key}`"),
        ),
        Some(true) if is_credential(context, it, key) => (
            format!("key `{key}` of Secret {secret} is empty"),
            "a value".to_owned(),
        ),
        Some(_) => return,
    };
    findings.violation(
        it.path(context.subject),
        Observed::Shown(observed),
        required,
        remedies::set_key(context, it, key),
    );
    findings.about(format!("{} {key}", it.secret));
    findings.rests_on(FactKey::Secret(it.secret.to_owned()));
}

/// An empty user name is usual with Redis; an empty credential is none.
fn is_credential(context: &Context<'_, '_>, it: &Use<'_, '_>, key: &str) -> bool {
    let variable = match it.keys {
        Keys::Variable { name, .. } => name,
        Keys::Files(_) | Keys::AllFiles | Keys::AllVariables => key,
    };
    let mut entries = entries::of_secret(context, it.secret);
    names::strength(variable).is_some() || entries.any(|entry| entry.key == key)
}
