//! Every Secret that a workload refers to is there, and every declared entry is wired to its workload.
//!
//! Reads: `secretKeyRef`, `envFrom.secretRef`, mounted volumes (`secret`, `projected`, `csi.nodePublishSecretRef`) of
//! all containers. Allowed: an absent Secret behind `optional: true`, unless the policy declares the entry.
//! Source: S0-13, S0-19, S0-44, S1-08, S1-16, S1-18, S1-19, S1-25, S1-41, S1-58, S1-74, S1-76, S1-77, S1-78, S2-49,
//! S4-30.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_api::RuleId;

use super::credentials;
use super::entries;
use super::remedies;
use super::uses::{Keys, Use, uses};
use crate::facts::{Fact, FactKey};
use crate::object::PodSpec;
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
    for entry in entries::all(context)
        .iter()
        .filter(|it| entries::concerns(context, it))
    {
        check_entry(context, entry, spec, findings);
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
    findings.rests_on(FactKey::Secret(it.secret.to_owned()));
}

/// An absent Secret behind `optional` is legal, but then a declared credential may be absent.
fn check_optional(context: &Context<'_, '_>, it: &Use<'_, '_>, findings: &mut Findings<'_>) {
    let is_declared = |entry: &&CompiledEntry| {
        let is_same = entry.secret == it.secret && it.keys.include(&entry.key);
        let is_its_name = !matches!(it.keys, Keys::Variable { name, .. } if !entry.is_named(name));
        is_same && is_its_name && entries::concerns(context, entry)
    };
    if let Some(entry) = entries::all(context).iter().find(is_declared) {
        findings.violation(
            it.path(context.subject).field("optional"),
            Observed::Shown("true".to_owned()),
            format!("false, as the policy declares secret entry {}", entry.name),
            "remove optional",
        );
    }
}

fn check_entry(
    context: &Context<'_, '_>,
    entry: &CompiledEntry,
    spec: &PodSpec<'_>,
    findings: &mut Findings<'_>,
) {
    let is_misdirected = check_references(context, entry, findings);
    if is_misdirected || !entries::is_needed(context, entry) {
        return;
    }
    let is_fulfilled =
        entries::candidates(context, entry).any(|it| entries::is_fulfilled_by(entry, it.container, spec));
    if !is_fulfilled && !has_literal(context, entry) {
        report_unwired(context, entry, findings);
    }
}

/// References under the entry's names that lead elsewhere; whether there are any.
fn check_references(context: &Context<'_, '_>, entry: &CompiledEntry, findings: &mut Findings<'_>) -> bool {
    let mut found = false;
    for it in context.subject.containers() {
        for (index, variable) in it
            .container
            .env
            .iter()
            .enumerate()
            .filter(|(_, it)| entry.is_named(&it.name))
        {
            let source = variable.value_from.as_ref();
            let Some(reference) = source.and_then(|it| it.secret_key_ref.as_ref()) else {
                continue;
            };
            let (secret, key) = (reference.name.as_str(), reference.key.as_str());
            // Two entries may share a variable's name, such as one for each component.
            let is_declared = entries::all(context).iter().any(|it| {
                it.is_named(&variable.name)
                    && it.secret == secret
                    && it.key == key
                    && entries::concerns(context, it)
            });
            if is_declared {
                continue;
            }
            found = true;
            let path = context.subject.env_path(&it, index, variable);
            findings.violation(
                path.fields(&["valueFrom", "secretKeyRef"]),
                Observed::Shown(format!("key `{key}` of Secret {secret}")),
                format!("key `{}` of Secret {}", entry.key, entry.secret),
                format!("refer to {{name: {}, key: {}}}", entry.secret, entry.key),
            );
        }
    }
    found
}

/// Whether the entry's names hold something that `secret/literal` speaks of: a literal, or a ConfigMap's text.
fn has_literal(context: &Context<'_, '_>, entry: &CompiledEntry) -> bool {
    let mut variables = context.subject.containers().flat_map(|it| &it.container.env);
    variables.any(|it| {
        let value = it.value.as_ref().map_or("", |it| it.as_str());
        let source = it.value_from.as_ref();
        let is_config = source.is_some_and(|it| it.config_map_key_ref.is_some());
        entry.is_named(&it.name) && (is_config || credentials::named(&it.name, value, true).is_some())
    })
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
}
