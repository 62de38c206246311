//! What a process will see: the variables of one container by the kubelet's own rules.
//!
//! `env` wins over `envFrom`, a later source over an earlier one, and a reference that is absent leaves the earlier
//! value. `$(NAME)` in a literal expands to what `envFrom` and earlier entries of `env` define, `$$` is an escape, and
//! a name that nothing defines stays as it is written. Values of Secrets are never known here.
//! Source: `makeEnvironmentVariables` of the kubelet and `k8s.io/kubernetes/third_party/forked/golang/expansion`.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::facts::{Fact, FactKey, Facts};
use crate::object::{Container, EnvFrom, EnvVar, Metadata};

/// Linux refuses to start a process with a longer variable (`MAX_ARG_STRLEN`), in bytes.
const MAX_VALUE: usize = 128 * 1024;

/// What is copied in all for one container, in bytes: four times what Linux starts a process with. It bounds the work
/// and not the variables, as an entry that a later one overrides costs time, too.
const MAX_COPIED: usize = 8 * 1024 * 1024;

/// Stands in a [`Value::Partial`] for what is not known. No variable holds it: a C string ends there.
pub(crate) const GAP: char = '\0';

/// What is known of a variable's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'e> {
    /// This text.
    Text(Cow<'e, str>),
    /// It comes from the Secret of this name.
    Secret(&'e str),
    /// It is known only where the pod runs, such as the pod's address.
    Hidden,
    /// It expands to more than a process can start with, or than is expanded for one container.
    TooLong,
    /// Some of it is known.
    Partial {
        /// The value, with a [`GAP`] for each part that is not known.
        text: String,
        /// What the first such part is.
        gap: Box<Self>,
    },
    /// It depends on a fact that is unknown.
    Unknown {
        /// The fact.
        fact: FactKey,
        /// Why it is unknown.
        cause: Arc<str>,
    },
}

/// Where a variable is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `env[index]`
    Env(usize),
    /// `envFrom[index]`
    EnvFrom(usize),
}

/// A variable that takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable<'e> {
    /// Its name, with the prefix of its source.
    pub name: Cow<'e, str>,
    /// Where it is set.
    pub place: Place,
    /// What it holds.
    pub value: Value<'e>,
}

/// The variables of one container. Nothing is computed before it is asked for.
#[derive(Debug)]
pub(crate) struct Environment<'e, 'a> {
    container: &'e Container<'a>,
    metadata: Option<&'e Metadata<'a>>,
    facts: &'e Facts,
    expanded: OnceCell<Expanded<'e>>,
    /// Bytes that may still be copied.
    budget: Cell<usize>,
}

/// All values, with references replaced.
#[derive(Debug, Default)]
struct Expanded<'e> {
    /// By index in `env`; `None` where the entry sets nothing.
    entries: Vec<Option<Value<'e>>>,
    /// By name, as the process gets them.
    by_name: BTreeMap<Cow<'e, str>, Value<'e>>,
    /// The prefixes of sources whose content is unknown.
    unknown: Vec<(&'e str, FactKey, Arc<str>)>,
}

impl<'e, 'a> Environment<'e, 'a> {
    /// The environment of `container` in a pod with this `metadata`, to which `fieldRef` may lead.
    pub(crate) fn new(
        container: &'e Container<'a>,
        metadata: Option<&'e Metadata<'a>>,
        facts: &'e Facts,
    ) -> Self {
        Self {
            container,
            metadata,
            facts,
            expanded: OnceCell::new(),
            budget: Cell::new(MAX_COPIED),
        }
    }

    /// The variables that take effect and whose name `is_wanted`. Those that a source of unknown content may set are
    /// not among them: see [`Environment::unknown_sources`].
    pub(crate) fn variables(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<Variable<'e>> {
        let mut seen = BTreeSet::new();
        let mut variables = Vec::new();
        for (index, it) in self.container.env.iter().enumerate().rev() {
            if !is_wanted(&it.name) || seen.contains(it.name.as_str()) {
                continue;
            }
            let Some(value) = self.entry(index, it) else {
                continue;
            };
            let name = Cow::Borrowed(it.name.as_str());
            seen.insert(name.clone());
            variables.push(Variable {
                name,
                place: Place::Env(index),
                value,
            });
        }
        for (index, source) in self.container.env_from.iter().enumerate().rev() {
            for (name, value) in self.of_source(source) {
                if is_wanted(&name) && seen.insert(name.clone()) {
                    let place = Place::EnvFrom(index);
                    variables.push(Variable { name, place, value });
                }
            }
        }
        variables
    }

    /// The `envFrom` entries whose content is unknown, by index.
    pub(crate) fn unknown_sources(&self) -> impl Iterator<Item = (usize, FactKey, Arc<str>)> {
        self.container
            .env_from
            .iter()
            .enumerate()
            .filter_map(|(index, source)| {
                let (fact, cause) = self.unknown_source(source)?;
                Some((index, fact, cause))
            })
    }

    /// `text` of `command` or `args` as the process gets it: every variable expands there.
    pub(crate) fn argument<'t: 'e>(&self, text: Cow<'t, str>) -> Value<'e> {
        if !text.contains('$') {
            return Value::Text(text);
        }
        let expanded = self.expanded();
        expand(text, &self.budget, |name| expanded.resolve(name))
    }

    /// The value of `env[index]`, which is `variable`; `None` where it sets nothing, as its reference is absent.
    pub(crate) fn entry(&self, index: usize, variable: &'e EnvVar<'a>) -> Option<Value<'e>> {
        match self.unexpanded(variable)? {
            Value::Text(text) if is_literal(variable) && text.contains('$') => {
                self.expanded().entries.get(index).cloned().flatten()
            }
            value => Some(value),
        }
    }

    fn unexpanded(&self, variable: &'e EnvVar<'a>) -> Option<Value<'e>> {
        if is_literal(variable) || variable.value_from.is_none() {
            let text = variable.value.as_ref().map_or("", |it| it.as_str());
            return Some(Value::Text(Cow::Borrowed(text)));
        }
        let source = variable.value_from.as_ref()?;
        if let Some(it) = &source.secret_key_ref {
            return match self.facts.secret(&it.name) {
                Fact::Absent => None,
                Fact::Known(secret) if !secret.keys.contains_key(it.key.as_str()) => None,
                _ => Some(Value::Secret(&it.name)),
            };
        }
        if let Some(it) = &source.field_ref {
            let text = self.metadata.and_then(|metadata| field(metadata, &it.field_path));
            return Some(text.map_or(Value::Hidden, |it| Value::Text(Cow::Borrowed(it))));
        }
        let Some(it) = &source.config_map_key_ref else {
            return Some(Value::Hidden);
        };
        match self.facts.config_map(&it.name) {
            Fact::Absent => None,
            Fact::Known(map) => map
                .data
                .get(it.key.as_str())
                .map(|text| Value::Text(Cow::Borrowed(text))),
            Fact::Unknown(cause) => Some(Value::Unknown {
                fact: FactKey::ConfigMap(it.name.to_string()),
                cause,
            }),
        }
    }

    /// What one `envFrom` entry sets, as far as it is known.
    fn of_source(&self, source: &'e EnvFrom<'a>) -> Vec<(Cow<'e, str>, Value<'e>)> {
        let name = |key: &'e String| match source.prefix.as_str() {
            "" => Cow::Borrowed(key.as_str()),
            prefix => Cow::Owned(format!("{prefix}{key}")),
        };
        if let Some(it) = &source.config_map_ref
            && let Fact::Known(map) = self.facts.config_map(&it.name)
        {
            let text = |(key, text): (&'e String, &'e String)| (name(key), Value::Text(Cow::Borrowed(text)));
            return map.data.iter().map(text).collect();
        }
        if let Some(it) = &source.secret_ref
            && let Fact::Known(secret) = self.facts.secret(&it.name)
        {
            let keys = secret.keys.keys();
            return keys.map(|key| (name(key), Value::Secret(&it.name))).collect();
        }
        Vec::new()
    }

    fn unknown_source(&self, source: &EnvFrom<'_>) -> Option<(FactKey, Arc<str>)> {
        if let Some(it) = &source.config_map_ref
            && let Fact::Unknown(cause) = self.facts.config_map(&it.name)
        {
            return Some((FactKey::ConfigMap(it.name.to_string()), cause));
        }
        if let Some(it) = &source.secret_ref
            && let Fact::Unknown(cause) = self.facts.secret(&it.name)
        {
            return Some((FactKey::Secret(it.name.to_string()), cause));
        }
        None
    }

    fn expanded(&self) -> &Expanded<'e> {
        self.expanded.get_or_init(|| self.expand_all())
    }

    fn expand_all(&self) -> Expanded<'e> {
        let mut all = Expanded::default();
        for source in &self.container.env_from {
            all.by_name.extend(self.of_source(source));
            let unknown = self.unknown_source(source);
            all.unknown
                .extend(unknown.map(|(fact, cause)| (source.prefix.as_str(), fact, cause)));
        }
        for variable in &self.container.env {
            let value = match self.unexpanded(variable) {
                Some(Value::Text(text)) if is_literal(variable) => {
                    Some(expand(text, &self.budget, |name| all.resolve(name)))
                }
                value => value,
            };
            if let Some(value) = &value {
                let name = Cow::Borrowed(variable.name.as_str());
                all.by_name.insert(name, value.clone());
            }
            all.entries.push(value);
        }
        all
    }
}

impl<'e> Expanded<'e> {
    /// The value of `name` among those that are known so far; `None` where nothing defines it.
    fn resolve(&self, name: &str) -> Option<Cow<'_, Value<'e>>> {
        if let Some(value) = self.by_name.get(name) {
            return Some(Cow::Borrowed(value));
        }
        if is_service_variable(name) {
            return Some(Cow::Owned(Value::Hidden));
        }
        let mut unknown = self.unknown.iter();
        let (_, fact, cause) = unknown.find(|(prefix, ..)| name.starts_with(prefix))?;
        Some(Cow::Owned(Value::Unknown {
            fact: fact.clone(),
            cause: Arc::clone(cause),
        }))
    }
}

/// The label or annotation that a field path such as `metadata.annotations['origins']` leads to, where the object
/// states it: others may be added until the pod runs.
fn field<'e>(metadata: &'e Metadata<'_>, path: &str) -> Option<&'e str> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    let map = match map {
        "metadata.annotations" => &metadata.annotations,
        "metadata.labels" => &metadata.labels,
        _ => return None,
    };
    map.get(key).map(|it| it.as_str())
}

/// Whether the kubelet takes the entry's `value` and expands it.
fn is_literal(variable: &EnvVar<'_>) -> bool {
    variable.value.as_ref().is_some_and(|it| !it.is_empty())
}

/// Variables that the kubelet adds for Services.
fn is_service_variable(name: &str) -> bool {
    name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT")
}

/// Replaces each `$(NAME)`; what is no text leaves a gap. Takes what it copies from `budget`, so that many references
/// to one long value stay cheap.
fn expand<'e, 'k>(
    text: Cow<'e, str>,
    budget: &Cell<usize>,
    resolve: impl Fn(&str) -> Option<Cow<'k, Value<'e>>>,
) -> Value<'e>
where
    'e: 'k,
{
    if !text.contains('$') {
        return Value::Text(text);
    }
    if text.len() > MAX_VALUE {
        return Value::TooLong;
    }
    let mut copy = Copy {
        text: String::with_capacity(text.len()),
        budget,
    };
    match copy.expand(&text, resolve) {
        None => Value::TooLong,
        Some(None) => Value::Text(Cow::Owned(copy.text)),
        Some(Some(gap)) if copy.text.chars().all(|it| it == GAP) => gap,
        Some(Some(gap)) => Value::Partial {
            text: copy.text,
            gap: Box::new(gap),
        },
    }
}

/// A value while it is expanded.
struct Copy<'b> {
    text: String,
    budget: &'b Cell<usize>,
}

impl Copy<'_> {
    /// What the first gap is, if there is one; `None` where the whole is too long.
    fn expand<'e, 'k>(
        &mut self,
        text: &str,
        resolve: impl Fn(&str) -> Option<Cow<'k, Value<'e>>>,
    ) -> Option<Option<Value<'e>>>
    where
        'e: 'k,
    {
        let mut first_gap = None;
        let mut rest = text;
        // Where no parenthesis closes any more, looking for one at every `$(` would be quadratic.
        let last_close = text.rfind(')').map_or(usize::MAX, |at| text.len() - at);
        while let Some((before, after)) = rest.split_once('$') {
            self.push(before)?;
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                self.push("$")?;
                rest = after;
                continue;
            }
            let inner = rest.strip_prefix('(').filter(|it| it.len() >= last_close);
            let Some((name, after)) = inner.and_then(|it| it.split_once(')')) else {
                self.push("$")?;
                continue;
            };
            rest = after;
            match resolve(name).as_deref() {
                Some(Value::Text(value)) => self.push(value)?,
                Some(Value::TooLong) => return None,
                Some(Value::Partial { text, gap }) => {
                    self.push(text)?;
                    first_gap.get_or_insert_with(|| (**gap).clone());
                }
                Some(other) => {
                    self.push(GAP.encode_utf8(&mut [0; 4]))?;
                    first_gap.get_or_insert_with(|| other.clone());
                }
                None => {
                    self.push("$(")?;
                    self.push(name)?;
                    self.push(")")?;
                }
            }
        }
        self.push(rest)?;
        Some(first_gap)
    }

    /// Appends `part`; `None` where that makes the text too long.
    fn push(&mut self, part: &str) -> Option<()> {
        if self.text.len() + part.len() > MAX_VALUE {
            return None;
        }
        self.budget.set(self.budget.get().checked_sub(part.len())?);
        self.text.push_str(part);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{ConfigMapFact, SecretFact};
    use serde_json::json;

    fn facts() -> Facts {
        let mut facts = Facts::default();
        let data = [("HOST", "a.example.com"), ("PORT", "1")];
        let data = data.map(|(key, text)| (key.to_owned(), text.to_owned())).into();
        let known = Fact::Known(Arc::new(ConfigMapFact { data }));
        facts.config_maps.insert("settings".into(), known);
        facts.config_maps.insert("absent".into(), Fact::Absent);
        let keys = [("PASSWORD".to_owned(), Default::default())].into();
        let known = Fact::Known(Arc::new(SecretFact { keys }));
        facts.secrets.insert("credentials".into(), known);
        facts
    }

    /// `NAME=value` of each variable that the process sees, sorted.
    fn seen(container: serde_json::Value) -> Vec<String> {
        let json = container.to_string();
        let container: Container<'_> = serde_json::from_str(&json).unwrap();
        let facts = facts();
        let environment = Environment::new(&container, None, &facts);
        let show = |it: Variable<'_>| match it.value {
            Value::Text(text) => format!("{}={text}", it.name),
            other => format!("{}: {other:?}", it.name),
        };
        let mut seen: Vec<_> = environment.variables(|_| true).into_iter().map(show).collect();
        seen.sort();
        seen
    }

    #[test]
    fn env_wins_over_env_from_and_later_over_earlier() {
        let container = json!({
            "env": [{"name": "A", "value": "1"}, {"name": "HOST", "value": "b"}, {"name": "A", "value": "2"}],
            "envFrom": [{"configMapRef": {"name": "settings"}}, {"prefix": "X_", "configMapRef": {"name": "settings"}}],
        });
        assert_eq!(
            seen(container),
            ["A=2", "HOST=b", "PORT=1", "X_HOST=a.example.com", "X_PORT=1"]
        );
    }

    #[test]
    fn only_what_is_defined_earlier_expands() {
        let container = json!({
            "env": [
                {"name": "A", "value": "$(B)-$(HOST)-$$(HOST)-${HOST}-$HOST-$(HOST"},
                {"name": "B", "value": "b"},
                {"name": "C", "value": "$(A)$(B)"},
            ],
            "envFrom": [{"configMapRef": {"name": "settings"}}],
        });
        let a = "$(B)-a.example.com-$(HOST)-${HOST}-$HOST-$(HOST";
        assert_eq!(
            seen(container),
            [
                &format!("A={a}"),
                "B=b",
                &format!("C={a}b"),
                "HOST=a.example.com",
                "PORT=1"
            ]
        );
    }

    #[test]
    fn an_absent_reference_leaves_the_earlier_value() {
        let container = json!({
            "env": [
                {"name": "HOST", "value": "first"},
                {"name": "HOST", "valueFrom": {"configMapKeyRef": {"name": "absent", "key": "HOST", "optional": true}}},
                {"name": "HOST", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "NONE", "optional": true}}},
            ],
        });
        assert_eq!(seen(container), ["HOST=first"]);
    }

    #[test]
    fn what_holds_a_part_of_a_secret_is_no_text() {
        let container = json!({
            "env": [{"name": "URL", "value": "redis://:$(PASSWORD)@redis"}],
            "envFrom": [{"secretRef": {"name": "credentials"}}],
        });
        assert_eq!(
            seen(container),
            [
                r#"PASSWORD: Secret("credentials")"#,
                r#"URL: Partial { text: "redis://:\0@redis", gap: Secret("credentials") }"#
            ]
        );
    }

    #[test]
    fn unknown_is_never_taken_for_absent() {
        let container = json!({
            "env": [{"name": "A", "value": "$(X)"}],
            "envFrom": [{"configMapRef": {"name": "not-looked-up"}}],
        });
        let [a] = seen(container).try_into().unwrap();
        assert!(a.starts_with("A: Unknown"), "{a}");
    }

    #[test]
    fn doubling_references_stay_small() {
        let mut env = vec![json!({"name": "A0", "value": "xxxxxxxxxxxxxxxx"})];
        for it in 1..64 {
            let previous = it - 1;
            env.push(json!({"name": format!("A{it}"), "value": format!("$(A{previous})$(A{previous})")}));
        }
        let seen = seen(json!({"env": env}));
        assert!(seen.iter().map(String::len).sum::<usize>() < MAX_COPIED);
    }

    #[test]
    fn what_is_known_beside_a_gap_is_kept() {
        let container = json!({
            "env": [
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "A", "value": "$(POD),*"},
                {"name": "B", "value": "$(NO_SERVICE_HOST) and $(A)"},
                {"name": "C", "value": "$(POD)"},
            ],
        });
        assert_eq!(
            seen(container),
            [
                r#"A: Partial { text: "\0,*", gap: Hidden }"#,
                r#"B: Partial { text: "\0 and \0,*", gap: Hidden }"#,
                "C: Hidden",
                "POD: Hidden",
            ]
        );
    }

    /// Were the rest searched at every `$(`, this would take minutes.
    #[test]
    fn references_that_nothing_closes_cost_no_more_than_other_text() {
        let open = "$(".repeat(512 * 1024);
        let closed_first = format!("$(A){}", "$(".repeat(60 * 1024));
        let env = json!([{"name": "A", "value": ""}, {"name": "B", "value": open}, {"name": "C", "value": closed_first}]);
        let seen = seen(json!({"env": env}));
        assert_eq!(seen.get(1).map(String::as_str), Some("B: TooLong"));
        assert_eq!(seen.get(2).map(String::len), Some("C=".len() + 120 * 1024));
    }

    /// Each would copy 128 KiB: 80,000 of them 10 GB.
    #[test]
    fn many_references_to_one_long_value_are_bounded() {
        let mut env = vec![json!({"name": "A", "value": "x".repeat(100 * 1024)})];
        env.extend((0..80_000).map(|it| json!({"name": format!("B{it}"), "value": "$(A)$(A)"})));
        let long = seen(json!({"env": env}));
        assert!(long.iter().filter(|it| it.ends_with(": TooLong")).count() == 80_000);
        let mut arguments = Vec::new();
        let json = json!({"env": [{"name": "A", "value": "x".repeat(100 * 1024)}]}).to_string();
        let container: Container<'_> = serde_json::from_str(&json).unwrap();
        let facts = facts();
        let environment = Environment::new(&container, None, &facts);
        for _ in 0..1000 {
            arguments.push(environment.argument(Cow::Borrowed("$(A)")));
        }
        let copied = arguments.iter().filter(|it| matches!(it, Value::Text(_))).count();
        assert!(copied <= MAX_COPIED / (100 * 1024), "{copied}");
    }

    #[test]
    fn what_is_overridden_takes_nothing_from_what_counts() {
        let mut env = vec![json!({"name": "A", "value": "x".repeat(100 * 1024)})];
        env.extend((0..40).map(|_| json!({"name": "B", "value": "$(A)"})));
        env.push(json!({"name": "ANY", "value": "*"}));
        env.push(json!({"name": "C", "value": "$(ANY)"}));
        assert!(seen(json!({"env": env})).contains(&"C=*".to_owned()));
    }
}
