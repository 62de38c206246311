//! Allowed origins are set, are full origins, and lie in the policy's list.
//!
//! Reads what `http/cors-wildcard` reads. The policy's `http.cors.env` must be set on workloads of role `HttpService`,
//! in at least one container. A value with a wildcard is reported by `http/cors-wildcard` alone, unless that rule is
//! milder in this policy.
//! Source: S0-45, S2-33, S2-43, S2-44, S2-57, S4-23.

use std::collections::HashSet;

use portcullis_api::{Role, RuleId};

use super::cors_wildcard::{allowed, is_wildcard};
use super::names::Form;
use super::settings::{Setting, of_ingress, settings, source_path};
use super::{origins, pattern};
use crate::environment::{Budget, Place, RestsOn, Value, has_gap};
use crate::facts::FactKey;
use crate::path::FieldPath;
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::subject::{ContainerKind, ContainerRef};
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::HttpCorsExplicit,
    title: "CORS origins",
    meaning: "allowed origins are set and lie in the policy's list",
    section: Section::Http,
    severities: Severities::OFF_DENY_DENY,
    page: include_str!("../../../../../docs/rules/http/cors-explicit.md"),
    check,
};

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    check_set(context, findings);
    let allowed = allowed(context);
    if let Some(it) = of_ingress(context) {
        check_setting(context, &it.setting(), allowed, findings);
    }
    for setting in settings(context) {
        check_setting(context, setting, allowed, findings);
    }
}

fn check_setting(
    context: &Context<'_, '_>,
    setting: &Setting<'_>,
    allowed: Option<&[String]>,
    findings: &mut Findings<'_>,
) {
    let (text, gap) = match &setting.value {
        Value::Text(text) => (Some(&**text), None),
        Value::Partial { text, gap } => (Some(text.as_str()), Some(&**gap)),
        gap => (None, Some(gap)),
    };
    if let Some(text) = text {
        if is_wildcard(setting.form, text, allowed) && is_left_to_wildcard(context) {
            return;
        }
        check_text(setting, text, allowed, findings);
    }
    if let Some(gap) = gap {
        check_gap(context, setting, gap, allowed, findings);
    }
}

/// Judges what no text is known of.
fn check_gap(
    context: &Context<'_, '_>,
    setting: &Setting<'_>,
    gap: &Value<'_>,
    allowed: Option<&[String]>,
    findings: &mut Findings<'_>,
) {
    let name = setting.label.as_deref().unwrap_or_default();
    let (observed, fix, about) = match gap {
        Value::Secret(secret) => {
            let name = name.trim_end_matches('=');
            (
                format!("{name} from Secret {secret}, which is not read"),
                "origins are no secret: set them as value, or from a ConfigMap",
                format!("{name} {secret}"),
            )
        }
        Value::Hidden => (
            "known only where the pod runs".to_owned(),
            "write the origins themselves: set them as value, or from a ConfigMap",
            name.to_owned(),
        ),
        Value::TooLong if !is_left_to_wildcard(context) => (
            origins::TOO_LONG.to_owned(),
            origins::FIX_TOO_LONG,
            origins::TOO_LONG.to_owned(),
        ),
        Value::Unknown { fact, cause } if !is_left_to_wildcard(context) => {
            findings.unknown(setting.path.clone(), fact.clone(), &**cause);
            return findings.unknown_beside(&setting.rests_on);
        }
        _ => return,
    };
    let observed = Observed::Shown(observed.trim_start().to_owned());
    findings.violation(setting.path.clone(), observed, origins::required(allowed), fix);
    findings.about(about);
    findings.rests_on_all(&setting.rests_on);
}

fn check_text(setting: &Setting<'_>, text: &str, allowed: Option<&[String]>, findings: &mut Findings<'_>) {
    let offending = offending(setting.form, text, allowed);
    if offending.is_empty() {
        return;
    }
    let (required, fix) = match allowed {
        Some(_) => (
            origins::required(allowed),
            "remove it, or add it to http.cors.allowedOrigins of the policy",
        ),
        None => (
            "full origins, such as https://app.example.com".to_owned(),
            "write each origin with its scheme and without a path",
        ),
    };
    let observed = setting.shown_entries(&offending);
    findings.violation(setting.path.clone(), observed, required, fix);
    setting.name_offenders(offending.iter().map(String::as_str), text, findings);
    findings.rests_on_all(&setting.rests_on);
}

/// Whether `http/cors-wildcard` reports wildcards at least as severely as this rule would.
fn is_left_to_wildcard(context: &Context<'_, '_>) -> bool {
    context.policy.severity(RuleId::HttpCorsWildcard) >= context.policy.severity(RuleId::HttpCorsExplicit)
}

/// The known parts of a value that are no full origins out of the list.
fn offending(form: Form, text: &str, allowed: Option<&[String]>) -> Vec<String> {
    let normal: Option<HashSet<String>> =
        allowed.map(|it| it.iter().filter_map(|it| origins::normal(it)).collect());
    let is_fine = |origin: Option<String>| match (&normal, origin) {
        (Some(normal), Some(origin)) => normal.contains(&origin),
        (None, origin) => origin.is_some(),
        (Some(_), None) => false,
    };
    match form {
        Form::AllowAll => origins::is_true(text)
            .then(|| text.to_owned())
            .into_iter()
            .collect(),
        Form::UntriedPatterns => vec![text.to_owned()],
        Form::Patterns if text.trim().is_empty() || normal.is_none() => Vec::new(),
        Form::Patterns => pattern::patterns(text)
            .into_iter()
            .filter(|it| !is_fine(pattern::only_origin(it).and_then(|it| origins::normal(&it))))
            .filter(|it| !has_gap(it))
            .map(String::from)
            .collect(),
        Form::Origins | Form::IngressOrigins => origins::entries(text)
            .into_iter()
            .filter(|it| !is_fine(origins::normal(it)))
            .filter(|it| form == Form::Origins || normal.is_some() || !it.contains("://*."))
            .filter(|it| !has_gap(it))
            .map(String::from)
            .collect(),
    }
}

/// The policy's variable must be set on what serves HTTP: an application's own default is often `*`.
fn check_set(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let Some(name) = context.policy.http.as_ref().and_then(|it| it.cors_env.as_deref()) else {
        return;
    };
    if !context.components.iter().any(|it| it.role == Role::HttpService) {
        return;
    }
    let budget = Budget::default();
    let mut unset = Vec::new();
    let mut empty = Vec::new();
    let mut unknown = Vec::new();
    for it in context
        .subject
        .containers()
        .filter(|it| it.kind == ContainerKind::Main)
    {
        match state(context, &it, name, &budget) {
            State::Set => return,
            State::Unset(rests_on) => unset.push(rests_on),
            State::Empty(path, rests_on) => empty.push((path, rests_on)),
            State::Unknown(path, fact, cause) => unknown.push((path, fact, cause)),
        }
    }
    // The same place whatever the order of the containers.
    if let Some((path, fact, cause)) = unknown.into_iter().min_by_key(|(path, ..)| path.display()) {
        return findings.unknown(path, fact, cause);
    }
    let rests_on = unset.into_iter().chain(empty.iter().map(|(_, it)| it.clone()));
    let rests_on: Vec<RestsOn<'_>> = rests_on.collect();
    let (path, observed) = match empty
        .into_iter()
        .map(|(path, _)| path)
        .min_by_key(FieldPath::display)
    {
        Some(path) => (path, Observed::Shown("empty".to_owned())),
        None => match context.subject.pod() {
            Some((_, spec)) if !spec.containers.is_empty() => {
                (context.subject.new_variable_path(), Observed::Unset(""))
            }
            _ => return,
        },
    };
    let required = origins::required(allowed(context));
    findings.violation(
        path,
        observed,
        required,
        format!("set {name} to the list of origins"),
    );
    // No origin at all is another violation than the wrong ones that stood there.
    findings.about("");
    rests_on.iter().for_each(|it| findings.rests_on_all(it));
}

/// Whether one container sets the policy's variable.
enum State<'s> {
    Set,
    Unset(RestsOn<'s>),
    Empty(FieldPath, RestsOn<'s>),
    Unknown(FieldPath, FactKey, String),
}

fn state<'s, 'a>(
    context: &Context<'s, 'a>,
    it: &ContainerRef<'s, 'a>,
    name: &str,
    budget: &Budget,
) -> State<'s> {
    let environment = context.variables_of(it, budget);
    let path = context.subject.container_path(it);
    let variables = environment.variables(|found| found == name);
    let Some(variable) = variables.into_iter().next() else {
        // What was not read is reported for itself.
        if environment.unread_source().is_some() {
            return State::Set;
        }
        let mut sources = environment.unknown_sources();
        return match sources.next() {
            Some((index, fact, cause)) => {
                State::Unknown(source_path(context, it, index), fact, cause.to_string())
            }
            None => State::Unset(environment.could_set(name)),
        };
    };
    match &variable.value {
        Value::Text(text) if text.trim().is_empty() => {
            let path = match variable.place {
                Place::Env(index) => path.field("env").item(index, Some(name)),
                Place::EnvFrom(index) => source_path(context, it, index),
            };
            State::Empty(path, variable.rests_on)
        }
        Value::Unknown { fact, cause } => State::Unknown(path.field("env"), fact.clone(), cause.to_string()),
        _ => State::Set,
    }
}
