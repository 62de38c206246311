//! No credential stands in plain text.
//!
//! Reads: `env[].value`, `command` and `args` as the process gets them, `fieldRef`, annotations of object and pods, and
//! the texts of ConfigMaps that reach variables. A credential is recognised by the name (declared in the policy, or
//! credential-like), by its own form, as a password in a URL or in a connection string. A value that is overridden by a
//! later one still stands in the object.
//! Source: S0-13, S0-19, S0-22, S0-50, S0-68, S0-88, S1-05, S1-06, S1-07, S1-09, S1-76, S2-49, S2-52, S2-53, S4-13,
//! S4-19, S4-32.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use portcullis_api::RuleId;

use super::{commands, credentials, entries};
use crate::environment::{Budget, Environment, RestsOn, Value, Variable};
use crate::facts::FactKey;
use crate::object::{EnvVar, Metadata};
use crate::path::FieldPath;
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::subject::ContainerRef;
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::SecretLiteral,
    title: "literal secret",
    meaning: "no credential stands in plain text",
    section: Section::Secrets,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/secret/literal.md"),
    check,
};

/// A copy of the whole object: what it repeats is reported where it stands.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

const REQUIRED: &str = "a reference to a Secret";

/// What is seen where a value is too long to be judged.
pub(super) const TOO_LONG: &str = "more than is expanded";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let mut unknown = BTreeSet::new();
    let budget = Budget::default();
    for it in context.subject.containers() {
        let environment = context.variables_of(&it, &budget);
        for (index, variable) in it.container.env.iter().enumerate() {
            check_variable(context, &it, index, variable, &environment, findings);
            check_config_map_key(
                context,
                &it,
                index,
                variable,
                &environment,
                &mut unknown,
                findings,
            );
        }
        check_sources(context, &it, &environment, &mut unknown, findings);
        check_command_line(context, &it, &environment, findings);
        if let Some(environment) = environment.without_optional() {
            let entries = it.container.env.iter().enumerate();
            for (index, variable) in entries.filter(|(_, it)| it.value.is_some()) {
                check_variable(context, &it, index, variable, &environment, findings);
            }
            check_command_line(context, &it, &environment, findings);
        }
    }
    let root = FieldPath::root();
    check_annotations(&context.subject.object().metadata, root, findings);
    if let (Some((metadata, _)), false) = (context.subject.pod(), context.subject.is_pod()) {
        check_annotations(metadata, context.subject.template_path(), findings);
    }
}

fn declares(context: &Context<'_, '_>, name: &str) -> bool {
    entries::named(context, name).next().is_some()
}

fn check_variable<'e, 'a>(
    context: &Context<'_, '_>,
    it: &ContainerRef<'_, '_>,
    index: usize,
    variable: &'e EnvVar<'a>,
    environment: &Environment<'e, 'a, '_>,
    findings: &mut Findings<'_>,
) {
    let Some((what, value, rests_on)) = literal(context, index, variable, environment) else {
        return;
    };
    let name = variable.name.as_str();
    let path = context.subject.env_path(it, index, variable);
    let is_field = variable.value_from.is_some();
    let (path, replaced) = match is_field {
        true => (path.fields(&["valueFrom", "fieldRef"]), "fieldRef"),
        false => (path, "value"),
    };
    let observed = Observed::withheld(what, &value);
    findings.violation(path, observed, REQUIRED, fix_variable(context, name, replaced));
    findings.rests_on_all(&rests_on);
}

/// What credential an entry of `env` holds in plain text, by itself or with the literals that it refers to; the text,
/// and what decides it beside the object.
fn literal<'e, 'a>(
    context: &Context<'_, '_>,
    index: usize,
    variable: &'e EnvVar<'a>,
    environment: &Environment<'e, 'a, '_>,
) -> Option<(&'static str, Cow<'e, str>, RestsOn<'e>)> {
    let source = variable.value_from.as_ref();
    let written = variable.value.as_deref().unwrap_or_default();
    if written.is_empty() && source.is_none_or(|it| it.field_ref.is_none()) {
        return None;
    }
    let (value, rests_on) = environment.entry(index, variable)?;
    let text = match value {
        Value::Text(text) => text,
        Value::Partial { text, .. } => Cow::Owned(text),
        Value::TooLong => return Some((TOO_LONG, Cow::Borrowed(written), rests_on)),
        Value::Secret(_) | Value::Hidden | Value::Unknown { .. } => return None,
    };
    let name = variable.name.as_str();
    let what = credentials::named(name, &text, declares(context, name))?;
    Some((what, text, rests_on))
}

/// The declared variables that take effect and of which this rule says that they are in plain text, or that it cannot
/// know.
pub(super) fn declared<'s>(context: &Context<'s, '_>) -> HashSet<Cow<'s, str>> {
    let mut found = HashSet::new();
    let budget = Budget::default();
    for it in context.subject.containers() {
        let environment = context.variables_of(&it, &budget);
        let variables = environment.variables(|name| declares(context, name)).into_iter();
        let is_literal = |it: &Variable<'_>| match &it.value {
            Value::Text(text) => credentials::named(&it.name, text, true).is_some(),
            Value::Partial { text, .. } => credentials::named(&it.name, text, true).is_some(),
            Value::Unknown { .. } | Value::TooLong => true,
            Value::Secret(_) | Value::Hidden => false,
        };
        found.extend(variables.filter(is_literal).map(|it| it.name));
    }
    found
}

fn check_config_map_key<'e, 'a>(
    context: &Context<'_, '_>,
    it: &ContainerRef<'_, '_>,
    index: usize,
    variable: &'e EnvVar<'a>,
    environment: &Environment<'e, 'a, '_>,
    unknown: &mut BTreeSet<FactKey>,
    findings: &mut Findings<'_>,
) {
    let source = variable.value_from.as_ref();
    if source.is_none_or(|it| it.config_map_key_ref.is_none()) {
        return;
    }
    let name = variable.name.as_str();
    let path = || {
        let path = context.subject.env_path(it, index, variable);
        path.fields(&["valueFrom", "configMapKeyRef"])
    };
    let Some((value, rests_on)) = environment.entry(index, variable) else {
        return;
    };
    let (what, text) = match &value {
        Value::Text(text) => (credentials::named(name, text, declares(context, name)), &**text),
        Value::TooLong => (Some(TOO_LONG), ""),
        Value::Unknown { fact, cause } if unknown.insert(fact.clone()) => {
            return findings.unknown(path(), fact.clone(), &**cause);
        }
        _ => return,
    };
    if let Some(what) = what {
        let fix = fix_variable(context, name, "configMapKeyRef");
        findings.violation(path(), Observed::withheld(what, text), REQUIRED, fix);
        findings.rests_on_all(&rests_on);
    }
}

fn check_sources(
    context: &Context<'_, '_>,
    it: &ContainerRef<'_, '_>,
    environment: &Environment<'_, '_, '_>,
    unknown: &mut BTreeSet<FactKey>,
    findings: &mut Findings<'_>,
) {
    let path = |index| {
        let path = context.subject.container_path(it).field("envFrom");
        path.item(index, None)
    };
    for (index, fact, cause) in environment.unknown_sources() {
        if matches!(fact, FactKey::ConfigMap(_)) && unknown.insert(fact.clone()) {
            findings.unknown(path(index).field("configMapRef"), fact, &*cause);
        }
    }
    for source in environment.known_sources() {
        for (name, value) in source.variables() {
            let Value::Text(text) = value else {
                continue;
            };
            if let Some(what) = credentials::named(&name, &text, declares(context, &name)) {
                let required = format!("{name} from a Secret");
                let fix = fix_variable(context, &name, "the ConfigMap's key");
                let path = path(source.index).field("configMapRef");
                findings.violation(path, Observed::withheld(what, &text), required, fix);
                findings.about(format!("{} {name}", source.object().name()));
                findings.rests_on(source.object().key());
            }
        }
    }
    if let Some(index) = environment.unread_source() {
        let seen = "more than is read";
        let observed = Observed::Shown(seen.to_owned());
        let required = "no more variables than a process can start with";
        let fix = "take only the keys that the application reads, by configMapKeyRef and secretKeyRef";
        findings.violation(path(index), observed, required, fix);
        findings.about(seen);
    }
}

fn check_command_line<'e>(
    context: &Context<'_, '_>,
    it: &ContainerRef<'e, '_>,
    environment: &Environment<'e, '_, '_>,
    findings: &mut Findings<'_>,
) {
    for leak in commands::leaks(it.container, environment) {
        let path = context
            .subject
            .container_path(it)
            .field(leak.field)
            .item(leak.index, None);
        let fix = "rotate it, set a variable by secretKeyRef, and write $(NAME) in its place";
        findings.violation(path, leak.observed, REQUIRED, fix);
        findings.rests_on_all(&leak.rests_on);
    }
}

fn check_annotations(metadata: &Metadata<'_>, base: FieldPath, findings: &mut Findings<'_>) {
    for (key, text) in metadata
        .annotations
        .iter()
        .filter(|(key, _)| key.as_str() != LAST_APPLIED)
    {
        if let Some(what) = credentials::anywhere(text) {
            let path = base
                .clone()
                .fields(&["metadata", "annotations"])
                .key(key.as_str());
            let fix = "rotate it and remove it: whoever reads the object reads its annotations";
            findings.violation(path, Observed::withheld(what, text), "no credential", fix);
        }
    }
}

/// Names the declared Secret, or one after the object and the variable.
fn fix_variable(context: &Context<'_, '_>, name: &str, replaced: &str) -> String {
    let (secret, key) = match entries::named(context, name).next() {
        Some((_, it)) => (it.secret.clone(), it.key.clone()),
        None => {
            let secret = context.subject.name();
            let key = name.to_ascii_lowercase().replace('_', "-");
            (secret.trim_end_matches(['*', '-']).to_owned(), key)
        }
    };
    format!(
        "rotate it, put the new one into a Secret, and replace {replaced} by valueFrom: {{secretKeyRef: {{name: {secret}, key: {key}}}}}"
    )
}
