//! Every Secret that a workload refers to is there, and every declared entry is wired to its workload.
//!
//! Reads: `secretKeyRef`, `envFrom.secretRef`, mounted volumes (`secret`, `projected`, `csi.nodePublishSecretRef`) of
//! all containers. Allowed: an absent Secret behind `optional: true`, unless the policy declares the entry.
//! Source: S0-13, S0-19, S0-44, S1-08, S1-16, S1-18, S1-19, S1-25, S1-41, S1-58, S1-74, S1-76, S1-77, S1-78, S2-49,
//! S4-30.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use portcullis_api::RuleId;

use super::entries::{self, Override, Wiring};
use super::literal;
use super::remedies;
use super::uses::{Keys, Use, uses};
use crate::facts::{Fact, FactKey};
use crate::policy::CompiledEntry;
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::SecretMissing,
    title: "missing secret",
    meaning: "every Secret that a workload refers to is there",
    section: Section::Secrets,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/secret/missing.md"),
    check,
};

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let Some((_, spec)) = context.subject.pod() else {
        return;
    };
    let uses = uses(context);
    let mut unknown = BTreeSet::new();
    let mut absent: BTreeMap<&str, Vec<&Use<'_, '_>>> = BTreeMap::new();
    for it in &uses {
        if it.optional {
            check_optional(context, it, findings);
            continue;
        }
        match context.facts.secret(it.secret) {
            Fact::Known(_) => {}
            Fact::Absent => absent.entry(it.secret).or_default().push(it),
            Fact::Unknown(cause) if unknown.insert(it.secret) => {
                let fact = FactKey::Secret(it.secret.to_owned());
                findings.unknown(it.path(context.subject), fact, &*cause);
            }
            Fact::Unknown(_) => {}
        }
    }
    for (secret, uses) in absent {
        let command = remedies::create(context, secret, &uses);
        for it in uses {
            report_absent(context, it, &command, findings);
        }
    }
    if entries::all(context).is_empty() {
        return;
    }
    let misdirected = check_references(context, findings);
    let wiring = Wiring::new(context, spec);
    let literals = LazyCell::new(|| literals(context));
    let is_literal = |name: &str| literals.contains(name);
    for (index, entry) in entries::all(context).iter().enumerate() {
        if entries::is_needed(context, entry) && !misdirected.contains(&index) {
            check_entry(context, &wiring, index, entry, &is_literal, findings);
        }
    }
}

fn report_absent(context: &Context<'_, '_>, it: &Use<'_, '_>, command: &str, findings: &mut Findings<'_>) {
    let required = match it.keys {
        Keys::Variable { key, .. } => format!("key `{key}`"),
        Keys::Files(items) => {
            let keys: Vec<String> = items.iter().map(|it| format!("`{}`", it.key)).collect();
            format!("keys {}", keys.join(", "))
        }
        Keys::AllFiles | Keys::AllVariables => {
            "the Secret, with the keys that the application reads".to_owned()
        }
    };
    let observed = format!("Secret {} does not exist", remedies::name(context, it.secret));
    findings.violation(
        it.path(context.subject),
        Observed::Shown(observed),
        required,
        command,
    );
    for key in it.keys.named() {
        findings.about(format!("{} {key}", it.secret));
    }
    findings.about(it.secret);
    findings.rests_on(FactKey::Secret(it.secret.to_owned()));
}

/// An absent Secret behind `optional` is legal, but then a declared credential may be absent.
fn check_optional(context: &Context<'_, '_>, it: &Use<'_, '_>, findings: &mut Findings<'_>) {
    let is_declared = |entry: &&CompiledEntry| {
        let is_same = it.keys.include(&entry.key);
        let is_its_name = !matches!(it.keys, Keys::Variable { name, .. } if !entry.is_named(name));
        is_same && is_its_name && entries::concerns(context, entry)
    };
    if let Some(entry) = entries::of_secret(context, it.secret).find(is_declared) {
        findings.violation(
            it.path(context.subject).field("optional"),
            Observed::Shown("true".to_owned()),
            format!("false, as the policy declares secret entry {}", entry.name),
            "remove optional",
        );
        findings.about(entry.name.as_str());
    }
}

fn check_entry(
    context: &Context<'_, '_>,
    wiring: &Wiring<'_, '_>,
    index: usize,
    entry: &CompiledEntry,
    is_literal: &dyn Fn(&str) -> bool,
    findings: &mut Findings<'_>,
) {
    let mut overrides = Vec::new();
    if wiring.fulfils(index, entry, &mut overrides) {
        return;
    }
    let mut names = std::iter::once(&entry.env).chain(&entry.aliases);
    if names.any(|it| is_literal(it)) {
        return;
    }
    if overrides.is_empty() {
        report_unwired(context, entry, findings);
    }
    for it in &overrides {
        report_override(context, entry, it, findings);
    }
}

/// References under names of entries that lead elsewhere; the indices of these entries.
fn check_references(context: &Context<'_, '_>, findings: &mut Findings<'_>) -> HashSet<usize> {
    let mut misdirected = HashSet::new();
    for it in context.subject.containers() {
        for (index, variable) in it.container.env.iter().enumerate() {
            let source = variable.value_from.as_ref();
            let Some(reference) = source.and_then(|it| it.secret_key_ref.as_ref()) else {
                continue;
            };
            let (secret, key) = (reference.name.as_str(), reference.key.as_str());
            let entries =
                || entries::named(context, &variable.name).filter(|(_, it)| entries::concerns(context, it));
            // Two entries may share a variable's name, such as one for each component.
            if entries().any(|(_, it)| it.secret == secret && it.key == key) {
                continue;
            }
            for (place, entry) in entries() {
                misdirected.insert(place);
                let path = context.subject.env_path(&it, index, variable);
                findings.violation(
                    path.fields(&["valueFrom", "secretKeyRef"]),
                    Observed::Shown(format!("key `{key}` of Secret {secret}")),
                    format!("key `{}` of Secret {}", entry.key, entry.secret),
                    format!("refer to {{name: {}, key: {}}}", entry.secret, entry.key),
                );
                findings.about(format!("{secret} {key}"));
            }
        }
    }
    misdirected
}

/// The declared variables that are left to `secret/literal`: those that it reports at least as severely.
fn literals<'s>(context: &Context<'s, '_>) -> HashSet<Cow<'s, str>> {
    let severity = |rule| context.policy.severity(rule);
    if severity(RuleId::SecretLiteral) < severity(RuleId::SecretMissing) {
        return HashSet::new();
    }
    literal::declared(context)
}

fn report_override(
    context: &Context<'_, '_>,
    entry: &CompiledEntry,
    it: &Override<'_, '_>,
    findings: &mut Findings<'_>,
) {
    let path = context.subject.container_path(&it.container);
    let path = path.field("envFrom").item(it.index, None);
    let Some(source) = it.container.container.env_from.get(it.index) else {
        return;
    };
    let (path, object, fact) = match (&source.secret_ref, &source.config_map_ref) {
        (Some(reference), _) => (
            path.field("secretRef"),
            format!("Secret {}", reference.name),
            FactKey::Secret(reference.name.to_string()),
        ),
        (None, Some(reference)) => (
            path.field("configMapRef"),
            format!("ConfigMap {}", reference.name),
            FactKey::ConfigMap(reference.name.to_string()),
        ),
        (None, None) => return,
    };
    findings.violation(
        path,
        Observed::Shown(format!(
            "key `{}` of {object}, which wins as the later source",
            it.key
        )),
        format!("key `{}` of Secret {}", entry.key, entry.secret),
        format!("move Secret {} to the end of envFrom", entry.secret),
    );
    findings.about(format!("{object} {}", it.key));
    findings.rests_on(fact);
}

fn report_unwired(context: &Context<'_, '_>, entry: &CompiledEntry, findings: &mut Findings<'_>) {
    let path = context.subject.new_variable_path();
    let reference = format!(
        "{{name: {}, valueFrom: {{secretKeyRef: {{name: {}, key: {}}}}}}}",
        entry.env, entry.secret, entry.key
    );
    let fix = match entry.deliver_to.as_slice() {
        [] => format!(
            "add {reference}, or state delivery in the policy's secret entry {}",
            entry.name
        ),
        names => format!("add {reference} to container {}", names.join(" or ")),
    };
    findings.violation(
        path,
        Observed::Unset(""),
        format!(
            "{} from key `{}` of Secret {}",
            entry.env, entry.key, entry.secret
        ),
        fix,
    );
    findings.about(entry.name.as_str());
}
