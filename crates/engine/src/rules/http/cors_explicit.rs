//! Allowed origins are set, are full origins, and lie in the policy's list.
//!
//! Reads what `http/cors-wildcard` reads. The policy's `http.cors.env` must be set on workloads of role `HttpService`,
//! in at least one container. A value with a wildcard is reported by `http/cors-wildcard` alone, unless that rule is
//! milder in this policy.
//! Source: S0-45, S2-33, S2-43, S2-44, S2-57, S4-23.

use portcullis_api::{Role, RuleId};

use super::cors_wildcard::{allowed, is_wildcard};
use super::names::Form;
use super::settings::{Setting, of_ingress, settings, source_path};
use super::{origins, pattern};
use crate::environment::{Environment, Place, Value};
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
        check_setting(context, &setting, allowed, findings);
    }
}

fn check_setting(
    context: &Context<'_, '_>,
    setting: &Setting<'_>,
    allowed: Option<&[String]>,
    findings: &mut Findings<'_>,
) {
    let path = setting.path.clone();
    let before = findings.violations.len();
    let value = match &setting.value {
        Value::Partial { text, .. } if is_wildcard(setting.form, text, allowed) => {
            return check_text(context, setting, text, allowed, findings);
        }
        Value::Partial { gap, .. } => gap,
        value => value,
    };
    match value {
        Value::Text(text) => check_text(context, setting, text, allowed, findings),
        Value::Secret(name) => {
            let name_of = setting.label.as_deref().unwrap_or_default().trim_end_matches('=');
            let observed = format!("{name_of} from Secret {name}, which is not read");
            let fix = "origins are no secret: set them as value, or from a ConfigMap";
            let observed = Observed::Shown(observed.trim_start().to_owned());
            findings.violation(path, observed, origins::required(allowed), fix);
            findings.about(format!("{name_of} {name}"));
        }
        Value::Hidden => {
            let observed = Observed::Shown("known only where the pod runs".to_owned());
            let fix = "write the origins themselves: set them as value, or from a ConfigMap";
            findings.violation(path, observed, origins::required(allowed), fix);
            findings.about(setting.label.clone().unwrap_or_default());
        }
        Value::TooLong if !is_left_to_wildcard(context) => {
            let observed = Observed::Shown("more than is expanded".to_owned());
            let fix = "write the origins without references to long variables";
            findings.violation(path, observed, origins::required(allowed), fix);
        }
        Value::Unknown { fact, cause } if !is_left_to_wildcard(context) => {
            findings.unknown(path, fact.clone(), &**cause);
        }
        Value::Unknown { .. } | Value::TooLong | Value::Partial { .. } => {}
    }
    if let (Some(fact), true) = (&setting.fact, findings.violations.len() > before) {
        findings.rests_on(fact.clone());
    }
}

fn check_text(
    context: &Context<'_, '_>,
    setting: &Setting<'_>,
    text: &str,
    allowed: Option<&[String]>,
    findings: &mut Findings<'_>,
) {
    let form = setting.form;
    if is_wildcard(form, text, allowed) && is_left_to_wildcard(context) {
        return;
    }
    let offending = offending(form, text, allowed);
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
    let observed = setting.shown(&offending.join(", "));
    findings.violation(setting.path.clone(), observed, required, fix);
    for entry in &offending {
        findings.about(setting.about(entry));
    }
}

/// Whether `http/cors-wildcard` reports wildcards at least as severely as this rule would.
fn is_left_to_wildcard(context: &Context<'_, '_>) -> bool {
    context.policy.severity(RuleId::HttpCorsWildcard) >= context.policy.severity(RuleId::HttpCorsExplicit)
}

/// The parts of a value that are no full origins out of the list.
fn offending(form: Form, text: &str, allowed: Option<&[String]>) -> Vec<String> {
    let normal: Option<Vec<String>> =
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
            .map(String::from)
            .collect(),
        Form::Origins | Form::IngressOrigins => origins::entries(text)
            .into_iter()
            .filter(|it| !is_fine(origins::normal(it)))
            .filter(|it| form == Form::Origins || normal.is_some() || !it.contains("://*."))
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
    let mut empty = Vec::new();
    let mut unknown = Vec::new();
    for it in context
        .subject
        .containers()
        .filter(|it| it.kind == ContainerKind::Main)
    {
        match state(context, &it, name) {
            State::Set => return,
            State::Unset => {}
            State::Empty(path) => empty.push(path),
            State::Unknown(path, fact, cause) => unknown.push((path, fact, cause)),
        }
    }
    // The same place whatever the order of the containers.
    if let Some((path, fact, cause)) = unknown.into_iter().min_by_key(|(path, ..)| path.display()) {
        return findings.unknown(path, fact, cause);
    }
    let (path, observed) = match empty.into_iter().min_by_key(FieldPath::display) {
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
}

/// Whether one container sets the policy's variable.
enum State {
    Set,
    Unset,
    Empty(FieldPath),
    Unknown(FieldPath, FactKey, String),
}

fn state(context: &Context<'_, '_>, it: &ContainerRef<'_, '_>, name: &str) -> State {
    let environment = Environment::new(
        it.container,
        context.subject.pod().map(|(metadata, _)| metadata),
        context.facts,
    );
    let path = context.subject.container_path(it);
    let variables = environment.variables(|found| found == name);
    let Some(variable) = variables.first() else {
        let mut sources = environment.unknown_sources();
        return match sources.next() {
            Some((index, fact, cause)) => {
                State::Unknown(source_path(context, it, index), fact, cause.to_string())
            }
            None => State::Unset,
        };
    };
    match &variable.value {
        Value::Text(text) if text.trim().is_empty() => {
            let path = match variable.place {
                Place::Env(index) => path.field("env").item(index, Some(name)),
                Place::EnvFrom(index) => source_path(context, it, index),
            };
            State::Empty(path)
        }
        Value::Unknown { fact, cause } => State::Unknown(path.field("env"), fact.clone(), cause.to_string()),
        _ => State::Set,
    }
}
