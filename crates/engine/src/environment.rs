//! What a process will see: the variables of one container by the kubelet's own rules.
//!
//! `env` wins over `envFrom`, a later source over an earlier one, and a reference that is absent leaves the earlier
//! value. `$(NAME)` in a literal expands to what `envFrom` and earlier entries of `env` define, `$$` is an escape, and
//! a name that nothing defines stays as it is written. Values of Secrets are never known here.
//! Source: `makeEnvironmentVariables` of the kubelet and `k8s.io/kubernetes/third_party/forked/golang/expansion`.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::facts::{Fact, FactKey, Facts};
use crate::object::{Container, EnvFrom, EnvVar};

/// Linux refuses to start a process with a longer variable (`MAX_ARG_STRLEN`), in bytes.
const MAX_VALUE: usize = 128 * 1024;

/// Linux refuses to start a process with more than this in all variables and arguments, in bytes.
const MAX_VALUES: usize = 2 * 1024 * 1024;

/// What is known of a variable's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'e> {
    /// This text.
    Text(Cow<'e, str>),
    /// It comes, as a whole or in part, from the Secret of this name.
    Secret(&'e str),
    /// It is known only where the pod runs, such as a field of the pod.
    Hidden,
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
    facts: &'e Facts,
    expanded: OnceCell<Expanded<'e>>,
}

/// All values, with references replaced.
#[derive(Debug, Default)]
struct Expanded<'e> {
    /// By index in `env`; `None` where the entry sets nothing.
    entries: Vec<Option<Value<'e>>>,
    /// By name, as the process gets them.
    by_name: BTreeMap<Cow<'e, str>, Value<'e>>,
}

impl<'e, 'a> Environment<'e, 'a> {
    /// The environment of `container`.
    pub(crate) fn new(container: &'e Container<'a>, facts: &'e Facts) -> Self {
        Self {
            container,
            facts,
            expanded: OnceCell::new(),
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
        expand(text, |name| self.by_name(name, &self.expanded().by_name))
    }

    /// The value of `env[index]`; `None` where it sets nothing, as its reference is absent.
    fn entry(&self, index: usize, variable: &'e EnvVar<'a>) -> Option<Value<'e>> {
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
        let mut size = 0;
        for source in &self.container.env_from {
            all.by_name.extend(self.of_source(source));
        }
        for variable in &self.container.env {
            let value = match self.unexpanded(variable) {
                Some(Value::Text(text)) if is_literal(variable) && size <= MAX_VALUES => {
                    Some(expand(text, |name| self.by_name(name, &all.by_name)))
                }
                Some(Value::Text(_)) if size > MAX_VALUES => Some(Value::Hidden),
                value => value,
            };
            if let Some(value) = &value {
                if let Value::Text(Cow::Owned(text)) = value {
                    size += text.len();
                }
                let name = Cow::Borrowed(variable.name.as_str());
                all.by_name.insert(name, value.clone());
            }
            all.entries.push(value);
        }
        all
    }

    /// The value of `name` among those that are `known`; `None` where nothing defines it.
    fn by_name(&self, name: &str, known: &BTreeMap<Cow<'e, str>, Value<'e>>) -> Option<Value<'e>> {
        if let Some(value) = known.get(name) {
            return Some(value.clone());
        }
        if is_service_variable(name) {
            return Some(Value::Hidden);
        }
        let may_set = |it: &&'e EnvFrom<'a>| name.starts_with(it.prefix.as_str());
        let unknown = self
            .container
            .env_from
            .iter()
            .filter(may_set)
            .find_map(|it| self.unknown_source(it));
        unknown.map(|(fact, cause)| Value::Unknown { fact, cause })
    }
}

/// Whether the kubelet takes the entry's `value` and expands it.
fn is_literal(variable: &EnvVar<'_>) -> bool {
    variable.value.as_ref().is_some_and(|it| !it.is_empty())
}

/// Variables that the kubelet adds for Services.
fn is_service_variable(name: &str) -> bool {
    name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT")
}

/// Replaces each `$(NAME)`. What is not a text makes the whole no text.
fn expand<'e>(text: Cow<'e, str>, resolve: impl Fn(&str) -> Option<Value<'e>>) -> Value<'e> {
    if !text.contains('$') {
        return Value::Text(text);
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix('(').and_then(|it| it.split_once(')'));
        let Some((name, after)) = reference else {
            result.push('$');
            continue;
        };
        rest = after;
        match resolve(name) {
            Some(Value::Text(value)) => result.push_str(&value),
            Some(other) => return other,
            None => result.extend(["$(", name, ")"]),
        }
        if result.len() > MAX_VALUE {
            return Value::Hidden;
        }
    }
    result.push_str(rest);
    Value::Text(Cow::Owned(result))
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
        let environment = Environment::new(&container, &facts);
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
                r#"URL: Secret("credentials")"#
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
        assert!(seen.iter().map(String::len).sum::<usize>() < 2 * MAX_VALUES);
    }
}
