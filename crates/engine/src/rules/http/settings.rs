//! Where a subject says which origins it allows: variables, flags, annotations of an Ingress.

use std::borrow::Cow;
use std::collections::HashSet;

use super::names::{self, Form};
use super::origins;
use crate::environment::{Budget, Environment, Place, RestsOn, Value, Variable};
use crate::facts::FactKey;
use crate::path::FieldPath;
use crate::rules::secret::{credentials, names as credential_names};
use crate::rules::{Context, Findings};
use crate::subject::{ContainerRef, Kind};
use crate::verdict::Observed;
use crate::words::{Word, command_line};

/// Switches CORS on in ingress-nginx; without it the other annotations do nothing.
const NGINX_ENABLE: &str = "nginx.ingress.kubernetes.io/enable-cors";

/// The origins in ingress-nginx; absent means `*`.
const NGINX_ORIGIN: &str = "nginx.ingress.kubernetes.io/cors-allow-origin";

/// Whether credentials are allowed in ingress-nginx; absent means yes.
const NGINX_CREDENTIALS: &str = "nginx.ingress.kubernetes.io/cors-allow-credentials";

/// More settings with regular expressions than this are not tried: each costs up to a millisecond, and it is the
/// object's author who writes them.
const MAX_PATTERNS: usize = 32;

/// Longest origin that is kept as it is, in bytes: names of hosts have at most 253.
const MAX_ORIGIN: usize = 300;

/// One place that sets allowed origins.
#[derive(Debug)]
pub(in crate::rules) struct Setting<'s> {
    /// Where.
    pub(super) path: FieldPath,
    /// How the value is to be read.
    pub(super) form: Form,
    /// What it holds.
    pub(super) value: Value<'s>,
    /// What stands in the object, where that may be shown and `value` may not: a variable that it refers to may hold a
    /// credential.
    pub(super) written: Option<Cow<'s, str>>,
    /// Whether what names the value says that it is a credential.
    pub(super) is_credential: bool,
    /// What names the setting where the path does not, such as `--cors-origins=`.
    pub(super) label: Option<String>,
    /// What decides the value, beside the object.
    pub(super) rests_on: RestsOn<'s>,
}

impl<'s> Setting<'s> {
    /// What makes it the same setting where another reference is absent.
    fn identity(&self) -> (&FieldPath, Form, Option<&str>, &Value<'s>) {
        (&self.path, self.form, self.label.as_deref(), &self.value)
    }

    /// `text`, the value, as it may be shown.
    pub(super) fn shown(&self, text: &str) -> Observed {
        self.as_is(self.written.as_deref().unwrap_or(text))
    }

    /// `entries`, origins of the value, as they may be shown: the whole value where one of them does not stand in the
    /// object as it is.
    pub(super) fn shown_entries(&self, entries: &[String]) -> Observed {
        match self.written.as_deref() {
            Some(written) if !origins::stand_in(entries, written) => self.as_is(written),
            _ => self.as_is(&entries.join(", ")),
        }
    }

    fn as_is(&self, text: &str) -> Observed {
        if self.is_credential {
            return Observed::withheld("what is named like a credential", text);
        }
        match credentials::anywhere(text) {
            Some(what) => Observed::withheld(what, text),
            None => origins::shown(self.label.as_deref(), text),
        }
    }

    /// What tells `entry`, one origin of the value, from others. A digest where the value may not be shown or is long.
    pub(super) fn about(&self, entry: &str) -> String {
        let is_shown = entry.len() <= MAX_ORIGIN && !self.is_credential && self.written.is_none();
        if is_shown && credentials::anywhere(entry).is_none() {
            return format!("{}{entry}", self.label.as_deref().unwrap_or_default());
        }
        self.digest(entry)
    }

    /// Says of the violation recorded last what offends: each of `entries`, origins of the value `text`.
    pub(super) fn name_offenders<'t>(
        &self,
        entries: impl Iterator<Item = &'t str>,
        text: &str,
        findings: &mut Findings<'_>,
    ) {
        findings.about_each(entries.map(|it| self.about(it)), || self.digest(text));
    }

    fn digest(&self, text: &str) -> String {
        let name = self.label.as_deref().unwrap_or_default();
        match Observed::withheld("", text) {
            Observed::Withheld { digest, .. } => format!("{name}{digest:x}"),
            Observed::Unset(_) | Observed::Shown(_) => name.to_owned(),
        }
    }
}

/// All settings of the subject, worker or not: a variable is one contract, whoever reads it. What cannot be known is
/// among them as [`Value::Unknown`], and what takes effect where an optional reference is absent stands beside that.
pub(super) fn settings<'c, 's>(context: &'c Context<'s, '_>) -> &'c [Setting<'s>] {
    context.origins.get_or_init(|| all(context))
}

fn all<'s>(context: &Context<'s, '_>) -> Vec<Setting<'s>> {
    let mut settings = Vec::new();
    let budget = Budget::default();
    for it in context.subject.containers() {
        let environment = context.variables_of(&it, &budget);
        let mut own = Vec::new();
        of_container(context, &it, &environment, &mut own);
        if let Some(environment) = environment.without_optional() {
            let mut others = Vec::new();
            of_container(context, &it, &environment, &mut others);
            let known: HashSet<_> = own.iter().map(Setting::identity).collect();
            others.retain(|it| !known.contains(&it.identity()));
            own.append(&mut others);
        }
        settings.append(&mut own);
    }
    let patterns = settings.iter_mut().filter(|it| it.form == Form::Patterns);
    for excess in patterns.skip(MAX_PATTERNS) {
        excess.form = Form::UntriedPatterns;
    }
    settings
}

fn of_container<'s>(
    context: &Context<'s, '_>,
    it: &ContainerRef<'s, '_>,
    environment: &Environment<'s, '_, '_>,
    settings: &mut Vec<Setting<'s>>,
) {
    of_variables(context, it, environment, settings);
    of_command_line(context, it, environment, settings);
}

fn declared<'s>(context: &Context<'s, '_>) -> Option<&'s str> {
    context.policy.http.as_ref().and_then(|it| it.cors_env.as_deref())
}

fn of_variables<'s>(
    context: &Context<'s, '_>,
    it: &ContainerRef<'s, '_>,
    environment: &Environment<'s, '_, '_>,
    settings: &mut Vec<Setting<'s>>,
) {
    let declared = declared(context);
    for variable in environment.variables(|name| names::of_variable(name, declared).is_some()) {
        let Some(form) = names::of_variable(&variable.name, declared) else {
            continue;
        };
        let path = place(context, it, &variable);
        let label = matches!(variable.place, Place::EnvFrom(_)).then(|| format!("{}=", variable.name));
        let (written, is_credential) = written(it, &variable);
        settings.push(Setting {
            path,
            form,
            value: variable.value,
            written,
            is_credential,
            label,
            rests_on: variable.rests_on,
        });
    }
    let unread = environment.unread_source();
    settings.extend(unread.map(|index| of_source(source_path(context, it, index), Value::TooLong)));
    for (index, fact, cause) in environment.unknown_sources() {
        if matches!(fact, FactKey::ConfigMap(_)) {
            let path = source_path(context, it, index).field("configMapRef");
            settings.push(of_source(path, Value::Unknown { fact, cause }));
        }
    }
}

/// Stands for whatever a source of `envFrom` sets that was not read.
fn of_source<'s>(path: FieldPath, value: Value<'s>) -> Setting<'s> {
    Setting {
        path,
        form: Form::Origins,
        value,
        written: None,
        is_credential: false,
        label: None,
        rests_on: RestsOn::default(),
    }
}

/// What may be shown instead of a variable's value, and whether the value's source is named like a credential.
fn written<'s>(it: &ContainerRef<'s, '_>, variable: &Variable<'_>) -> (Option<Cow<'s, str>>, bool) {
    let Place::Env(index) = variable.place else {
        return (None, false);
    };
    let Some(entry) = it.container.env.get(index) else {
        return (None, false);
    };
    let written = entry.value.as_deref().filter(|it| it.contains("$("));
    let source = entry.value_from.as_ref();
    let key = source
        .and_then(|it| it.config_map_key_ref.as_ref())
        .map(|it| it.key.as_str());
    let field = source.and_then(|it| it.field_ref.as_ref());
    let field = field.map(|it| it.field_path.trim_end_matches(['\'', ']']));
    let is_credential = key.or(field).and_then(credential_names::strength).is_some();
    (written.map(Cow::Borrowed), is_credential)
}

/// Path of a variable's value.
fn place(context: &Context<'_, '_>, it: &ContainerRef<'_, '_>, variable: &Variable<'_>) -> FieldPath {
    match variable.place {
        Place::Env(index) => {
            let Some(entry) = it.container.env.get(index) else {
                return context.subject.container_path(it).field("env");
            };
            let path = context.subject.env_path(it, index, entry);
            match &entry.value_from {
                Some(it) if it.config_map_key_ref.is_some() => path.fields(&["valueFrom", "configMapKeyRef"]),
                Some(it) if it.field_ref.is_some() => path.fields(&["valueFrom", "fieldRef"]),
                _ => path,
            }
        }
        Place::EnvFrom(index) => {
            let source = it.container.env_from.get(index);
            let is_map = source.is_some_and(|it| it.config_map_ref.is_some());
            source_path(context, it, index).field(if is_map { "configMapRef" } else { "secretRef" })
        }
    }
}

pub(super) fn source_path(context: &Context<'_, '_>, it: &ContainerRef<'_, '_>, index: usize) -> FieldPath {
    context
        .subject
        .container_path(it)
        .field("envFrom")
        .item(index, None)
}

/// `--cors-origins=*`, `--allow-origin '*'`, also inside the text of a shell, and variables that it sets.
fn of_command_line<'s>(
    context: &Context<'s, '_>,
    it: &ContainerRef<'s, '_>,
    environment: &Environment<'s, '_, '_>,
    settings: &mut Vec<Setting<'s>>,
) {
    let declared = declared(context);
    let mut waiting: Option<(Form, String)> = None;
    for Word { field, index, text } in command_line(it.container) {
        let mut push = |form, label, written: Cow<'s, str>, (value, rests_on)| {
            settings.push(Setting {
                path: context.subject.container_path(it).field(field).item(index, None),
                form,
                value,
                written: written.contains("$(").then_some(written),
                is_credential: false,
                label: Some(label),
                rests_on,
            });
        };
        if let Some((form, flag)) = waiting.take()
            && !text.starts_with('-')
        {
            let value = environment.argument(text.clone());
            // `--cors` alone is a switch in most programs, and the next word is something else.
            if !names::is_switch(&flag) || origins::may_be_origins(&value.0) {
                push(form, format!("{flag} "), text, value);
                continue;
            }
        }
        let name = text.trim_start_matches('-');
        match name.split_once('=') {
            Some((name, value)) => {
                if let Some(form) = names::of_flag(name, declared) {
                    let flag = text.len() - value.len();
                    let label = text.get(..flag).unwrap_or_default().to_owned();
                    let written: Cow<'s, str> = Cow::Owned(value.to_owned());
                    push(form, label, written.clone(), environment.argument(written));
                }
            }
            None if text.starts_with('-') => {
                waiting = names::of_flag(name, declared).map(|form| (form, text.to_string()));
            }
            None => {}
        }
    }
}

/// The origins that an Ingress allows by ingress-nginx' annotations.
#[derive(Debug)]
pub(super) struct IngressOrigins<'s> {
    /// Where.
    pub path: FieldPath,
    /// The annotation's value; `None` means that it is not set.
    pub value: Option<&'s str>,
    /// Whether credentials are allowed.
    pub credentials: bool,
}

/// The origins of an Ingress that has CORS switched on.
pub(super) fn of_ingress<'s>(context: &Context<'s, '_>) -> Option<IngressOrigins<'s>> {
    if context.subject.kind() != Kind::Ingress {
        return None;
    }
    let annotations = &context.subject.object().metadata.annotations;
    let value = |name: &str| annotations.get(name).map(|it| it.as_str());
    if value(NGINX_ENABLE).and_then(parse_bool) != Some(true) {
        return None;
    }
    Some(IngressOrigins {
        path: FieldPath::root()
            .fields(&["metadata", "annotations"])
            .key(NGINX_ORIGIN),
        value: value(NGINX_ORIGIN).filter(|it| !it.trim().is_empty()),
        credentials: value(NGINX_CREDENTIALS).and_then(parse_bool) != Some(false),
    })
}

impl<'s> IngressOrigins<'s> {
    /// The same as a setting; an absent list means every origin.
    pub(super) fn setting(self) -> Setting<'s> {
        Setting {
            path: self.path,
            form: Form::IngressOrigins,
            value: Value::Text(Cow::Borrowed(self.value.unwrap_or("*"))),
            written: None,
            is_credential: false,
            label: None,
            rests_on: RestsOn::default(),
        }
    }
}

/// What ingress-nginx reads in a switch. Source: Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
