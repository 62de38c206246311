//! No wildcard stands among the allowed origins, in any notation.
//!
//! Reads: the policy's `http.cors.env` and variables with usual names, from `env`, `configMapKeyRef` and `envFrom`;
//! flags in `command` and `args`; ingress-nginx' annotations of an Ingress. Not allowed: `*` anywhere in an origin,
//! `null`, a regular expression that matches strangers, a switch for all origins.
//! Source: S0-46, S2-33, S2-45, S4-23; Fetch standard, "CORS protocol".

use std::collections::BTreeSet;

use portcullis_api::RuleId;

use super::names::Form;
use super::settings::{Setting, of_ingress, settings};
use super::{origins, pattern};
use crate::environment::Value;
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::HttpCorsWildcard,
    title: "wildcard CORS",
    meaning: "no wildcard among the allowed origins, in any notation",
    section: Section::Http,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/http/cors-wildcard.md"),
    check,
};

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let allowed = allowed(context);
    check_ingress(context, allowed, findings);
    let mut unknown = BTreeSet::new();
    for setting in settings(context) {
        let value = match &setting.value {
            Value::Text(text) if is_wildcard(setting.form, text, allowed) => {
                report(setting, text, allowed, findings);
                continue;
            }
            Value::Partial { text, .. } if is_wildcard(setting.form, text, allowed) => {
                report(setting, text, allowed, findings);
                continue;
            }
            Value::Partial { gap, .. } => gap,
            value => value,
        };
        match value {
            Value::TooLong => report_too_long(setting, allowed, findings),
            Value::Unknown { fact, cause } => {
                let is_new = unknown.insert(fact.clone());
                if is_new || setting.rests_on.iter().nth(1).is_some() {
                    findings.unknown(setting.path.clone(), fact.clone(), &**cause);
                    findings.unknown_beside(&setting.rests_on);
                }
            }
            _ => {}
        }
    }
}

/// No process starts with such a value, unless it is one that hides what would be found.
fn report_too_long(setting: &Setting<'_>, allowed: Option<&[String]>, findings: &mut Findings<'_>) {
    findings.violation(
        setting.path.clone(),
        Observed::Shown(origins::TOO_LONG.to_owned()),
        origins::required(allowed),
        origins::FIX_TOO_LONG,
    );
    findings.about(origins::TOO_LONG);
    findings.rests_on_all(&setting.rests_on);
}

/// The policy's list, where it states one.
pub(super) fn allowed<'c>(context: &Context<'c, '_>) -> Option<&'c [String]> {
    let http = context.policy.http.as_ref()?;
    http.allowed_origins.as_deref()
}

/// Whether a value allows origins that nobody named.
pub(super) fn is_wildcard(form: Form, text: &str, allowed: Option<&[String]>) -> bool {
    match form {
        Form::Origins => origins::entries(text).iter().any(|it| origins::is_wildcard(it)),
        Form::IngressOrigins => origins::entries(text).iter().any(|it| origins::is_everything(it)),
        Form::Patterns => !text.trim().is_empty() && pattern::lets_strangers_in(text, allowed),
        Form::UntriedPatterns => true,
        Form::AllowAll => origins::is_true(text),
    }
}

fn report(setting: &Setting<'_>, text: &str, allowed: Option<&[String]>, findings: &mut Findings<'_>) {
    let fix = match setting.form {
        Form::AllowAll => "set it to false and list each origin",
        Form::Patterns | Form::UntriedPatterns => {
            "list each origin, or anchor the expression with ^ and $ and escape its dots"
        }
        Form::Origins | Form::IngressOrigins => "list each origin",
    };
    findings.violation(
        setting.path.clone(),
        setting.shown(text),
        origins::required(allowed),
        fix,
    );
    match setting.form {
        Form::Origins | Form::IngressOrigins => {
            let entries = origins::entries(text);
            let wildcards = entries.iter().map(|it| &**it);
            let wildcards = wildcards.filter(|it| origins::is_wildcard(it));
            setting.name_offenders(wildcards, text, findings);
        }
        Form::Patterns | Form::UntriedPatterns | Form::AllowAll => findings.about(setting.about(text)),
    }
    findings.rests_on_all(&setting.rests_on);
}

fn check_ingress(context: &Context<'_, '_>, allowed: Option<&[String]>, findings: &mut Findings<'_>) {
    let Some(it) = of_ingress(context) else {
        return;
    };
    let observed = match it.value {
        Some(text) => {
            let setting = it.setting();
            if is_wildcard(setting.form, text, allowed) {
                report(&setting, text, allowed, findings);
            }
            return;
        }
        None if it.credentials => Observed::Unset("which means *, with credentials"),
        None => Observed::Unset("which means *"),
    };
    findings.violation(it.path, observed, origins::required(allowed), "list each origin");
}
