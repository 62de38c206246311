//! What a process will see: the variables of one container by the kubelet's own rules.
//!
//! `env` wins over `envFrom`, a later source over an earlier one, and a reference that is absent leaves the earlier
//! value. `$(NAME)` in a literal expands to what `envFrom` and earlier entries of `env` define. Values of Secrets are
//! never known here.
//! Source: `makeEnvironmentVariables` of the kubelet.

mod definitions;
mod expansion;
mod optional;
mod sources;
mod value;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::definitions::Definitions;
use self::expansion::expand;
pub(crate) use self::sources::Content;
use self::sources::{Sources, could_set};
use self::value::Source;
pub(crate) use self::value::{Budget, GAP, HIDDEN, RestsOn, Value, has_gap};
use crate::facts::{Fact, FactKey, Facts};
use crate::object::{Container, EnvVar, Metadata};

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
    /// What decides that, beside the object.
    pub rests_on: RestsOn<'e>,
}

/// The variables of one container. Nothing is computed before it is asked for.
#[derive(Debug)]
pub(crate) struct Environment<'e, 'a, 'b> {
    container: &'e Container<'a>,
    metadata: Option<&'e Metadata<'a>>,
    facts: &'e Facts,
    budget: &'b Budget,
    sources: OnceCell<Sources<'e>>,
    definitions: OnceCell<Definitions<'e>>,
    /// Whether it is judged as if what may be absent were: see [`Environment::without_optional`].
    is_optional_absent: bool,
}

impl<'e, 'a, 'b> Environment<'e, 'a, 'b> {
    /// The environment of `container` in a pod with this `metadata`, to which `fieldRef` may lead. All containers of one
    /// object share `budget`.
    pub(crate) fn new(
        container: &'e Container<'a>,
        metadata: Option<&'e Metadata<'a>>,
        facts: &'e Facts,
        budget: &'b Budget,
    ) -> Self {
        Self {
            container,
            metadata,
            facts,
            budget,
            sources: OnceCell::new(),
            definitions: OnceCell::new(),
            is_optional_absent: false,
        }
    }

    /// The variables that take effect and whose name `is_wanted`. Those that a source of unknown content may set, or one
    /// that is not read, are not among them: see [`Environment::unknown_sources`] and [`Environment::unread_source`]. Nor
    /// are those that only take effect where an optional reference is absent: see [`Environment::without_optional`].
    pub(crate) fn variables(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<Variable<'e>> {
        let mut seen = BTreeSet::new();
        let mut variables = Vec::new();
        let mut absent: BTreeMap<&str, RestsOn<'e>> = BTreeMap::new();
        for (index, it) in self.container.env.iter().enumerate().rev() {
            if !is_wanted(&it.name) || seen.contains(it.name.as_str()) {
                continue;
            }
            let Some((value, mut rests_on)) = self.entry(index, it) else {
                let sources = absent.entry(it.name.as_str()).or_default();
                self.source_of(it).into_iter().for_each(|it| sources.add(it));
                continue;
            };
            let name = Cow::Borrowed(it.name.as_str());
            seen.insert(name.clone());
            if let Some(sources) = absent.remove(it.name.as_str()) {
                sources.iter().for_each(|it| rests_on.add(it));
            }
            variables.push(Variable {
                name,
                place: Place::Env(index),
                value,
                rests_on,
            });
        }
        for content in self.known_sources() {
            for (name, value) in content.variables() {
                if is_wanted(&name) && seen.insert(name.clone()) {
                    let place = Place::EnvFrom(content.index);
                    let absent = absent.remove(&*name).unwrap_or_default();
                    let rests_on = std::iter::once(content.object()).chain(absent.iter()).collect();
                    variables.push(Variable {
                        name,
                        place,
                        value,
                        rests_on,
                    });
                }
            }
        }
        variables
    }

    /// The `envFrom` entries whose content is known, the last first; one that a later one repeats is left out.
    pub(crate) fn known_sources(&self) -> &[Content<'e>] {
        &self.sources().known
    }

    /// The `envFrom` entries whose content is unknown, by index.
    pub(crate) fn unknown_sources(&self) -> impl Iterator<Item = (usize, FactKey, Arc<str>)> {
        let sources = self.container.env_from.iter().enumerate();
        sources.filter_map(|(index, source)| {
            let (source, cause) = sources::unknown(source, self.facts)?;
            Some((index, source.key(), cause))
        })
    }

    /// The `envFrom` entry that is not read, nor those before it, as the object's sources hold too much.
    pub(crate) fn unread_source(&self) -> Option<usize> {
        self.sources().unread
    }

    /// What decides that nothing sets the variable `name`.
    pub(crate) fn could_set(&self, name: &str) -> RestsOn<'e> {
        let entries = self.container.env.iter().filter(|it| *it.name == *name);
        let entries = entries.filter_map(|it| self.source_of(it));
        let sources = could_set(&self.container.env_from, self.facts, name);
        entries.chain(sources).collect()
    }

    /// `text` of `command` or `args` as the process gets it: every variable expands there.
    pub(crate) fn argument<'t: 'e>(&self, text: Cow<'t, str>) -> (Value<'e>, RestsOn<'e>) {
        if !text.contains('$') {
            return (Value::Text(text), RestsOn::default());
        }
        let definitions = self.definitions();
        expand(text, self.budget, |name, rests_on| {
            self.resolve(definitions, name, rests_on)
        })
    }

    /// The value of `env[index]`, which is `variable`, and what decides it; `None` where it sets nothing, as its reference
    /// is absent. A text that it only refers to is paid for: many entries may refer to one long text.
    pub(crate) fn entry(&self, index: usize, variable: &'e EnvVar<'a>) -> Option<(Value<'e>, RestsOn<'e>)> {
        match self.unexpanded(variable)? {
            Value::Text(text) if is_literal(variable) && text.contains('$') => {
                self.definitions().entries.get(index).cloned().flatten()
            }
            Value::Text(text) if !is_literal(variable) && self.budget.read(text.len()).is_none() => {
                Some((Value::TooLong, self.source_of(variable).into_iter().collect()))
            }
            value => Some((value, self.source_of(variable).into_iter().collect())),
        }
    }

    fn unexpanded(&self, variable: &'e EnvVar<'a>) -> Option<Value<'e>> {
        if self.is_optional_absent && self.may_be_absent(variable) {
            return None;
        }
        self.stated(variable)
    }

    /// As [`Environment::unexpanded`], where what may be absent is there.
    fn stated(&self, variable: &'e EnvVar<'a>) -> Option<Value<'e>> {
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

    /// The object that the entry refers to, as far as it is read.
    fn source_of(&self, variable: &'e EnvVar<'a>) -> Option<Source<'e>> {
        if is_literal(variable) {
            return None;
        }
        let source = variable.value_from.as_ref()?;
        let secret = source.secret_key_ref.as_ref().map(|it| Source::Secret(&it.name));
        let map = source.config_map_key_ref.as_ref();
        let source = secret.or_else(|| map.map(|it| Source::ConfigMap(&it.name)))?;
        source.is_read(self.facts).then_some(source)
    }

    fn sources(&self) -> &Sources<'e> {
        self.sources
            .get_or_init(|| Sources::new(&self.container.env_from, self.facts, self.budget))
    }

    fn definitions(&self) -> &Definitions<'e> {
        self.definitions.get_or_init(|| self.define_all())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{ConfigMapFact, SecretFact};
    use serde_json::json;

    pub(super) fn facts() -> Facts {
        let mut facts = Facts::default();
        let data = [("HOST", "a.example.com"), ("PORT", "1")];
        let data = data.map(|(key, text)| (key.to_owned(), text.to_owned())).into();
        let known = Fact::Known(Arc::new(ConfigMapFact { data }));
        facts.config_maps.insert("settings".into(), known);
        facts.config_maps.insert("absent".into(), Fact::Absent);
        facts.secrets.insert("gone".into(), Fact::Absent);
        let keys = [("PASSWORD".to_owned(), Default::default())].into();
        let known = Fact::Known(Arc::new(SecretFact { keys }));
        facts.secrets.insert("credentials".into(), known);
        facts
    }

    /// `NAME=value` of each variable that the process sees, sorted.
    pub(super) fn seen(container: serde_json::Value) -> Vec<String> {
        let json = container.to_string();
        let container: Container<'_> = serde_json::from_str(&json).unwrap();
        let (facts, budget) = (facts(), Budget::default());
        let environment = Environment::new(&container, None, &facts, &budget);
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
    fn unknown_is_never_taken_for_absent() {
        let container = json!({
            "env": [{"name": "A", "value": "$(X)"}],
            "envFrom": [{"configMapRef": {"name": "not-looked-up"}}],
        });
        let [a] = seen(container).try_into().unwrap();
        assert!(a.starts_with("A: Unknown"), "{a}");
    }

    /// What decides each value of `container`, beside the object: `NAME: ConfigMap("settings")`.
    fn rests_on(container: serde_json::Value) -> Vec<String> {
        let json = container.to_string();
        let container: Container<'_> = serde_json::from_str(&json).unwrap();
        let (facts, budget) = (facts(), Budget::default());
        let environment = Environment::new(&container, None, &facts, &budget);
        let show = |it: Variable<'_>| {
            let sources: Vec<String> = it.rests_on.iter().map(|it| format!("{it:?}")).collect();
            format!("{}: {}", it.name, sources.join(", "))
        };
        let mut shown: Vec<_> = environment.variables(|_| true).into_iter().map(show).collect();
        shown.sort();
        shown
    }

    #[test]
    fn a_value_rests_on_the_objects_that_it_was_read_from() {
        let container = json!({
            "env": [
                {"name": "A", "value": "$(X_HOST),$(PASSWORD)"},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "HOST"}}},
                {"name": "C", "value": "$(B)$(A)"},
                {"name": "D", "value": "none"},
            ],
            "envFrom": [{"prefix": "X_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "credentials"}}],
        });
        assert_eq!(
            rests_on(container),
            [
                r#"A: ConfigMap("settings"), Secret("credentials")"#,
                r#"B: ConfigMap("settings")"#,
                r#"C: ConfigMap("settings"), Secret("credentials")"#,
                "D: ",
                r#"PASSWORD: Secret("credentials")"#,
                r#"X_HOST: ConfigMap("settings")"#,
                r#"X_PORT: ConfigMap("settings")"#,
            ]
        );
    }

    #[test]
    fn what_nothing_sets_rests_on_what_could_set_it() {
        let absent = json!({"configMapKeyRef": {"name": "absent", "key": "HOST", "optional": true}});
        let container = json!({
            "env": [
                {"name": "A", "value": "a"},
                {"name": "A", "valueFrom": absent},
                {"name": "B", "valueFrom": absent},
                {"name": "C", "value": "$(B)"},
                {"name": "D", "value": "$(X_NAME)"},
                {"name": "E", "value": "$(Y_NAME)"},
            ],
            "envFrom": [{"prefix": "X_", "secretRef": {"name": "gone", "optional": true}}],
        });
        assert_eq!(
            rests_on(container),
            [
                r#"A: ConfigMap("absent")"#,
                r#"C: ConfigMap("absent")"#,
                r#"D: Secret("gone")"#,
                "E: "
            ]
        );
    }
}
