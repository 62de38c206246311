//! What the names in `$(NAME)` lead to: what `envFrom` and earlier entries of `env` define.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::expansion::expand;
use super::sources::could_set;
use super::value::{RestsOn, Value};
use super::{Environment, is_literal};

/// All values, with references replaced.
#[derive(Debug, Default)]
pub(super) struct Definitions<'e> {
    /// By index in `env`, with what decides the value; `None` where the entry sets nothing.
    pub(super) entries: Vec<Option<(Value<'e>, RestsOn<'e>)>>,
    /// By name, as the process gets them.
    by_name: BTreeMap<Cow<'e, str>, Definition<'e>>,
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Definition<'e> {
    /// `None` where nothing sets it, though an entry refers to what is absent.
    value: Option<Defined<'e>>,
    /// The source that sets it, and what is absent.
    rests_on: RestsOn<'e>,
}

#[derive(Debug)]
enum Defined<'e> {
    BySource(Value<'e>),
    /// Index in `env`.
    ByEntry(usize),
}

impl<'e> Environment<'e, '_, '_> {
    /// Every name of the container, with what it holds.
    pub(super) fn define_all(&self) -> Definitions<'e> {
        let mut all = Definitions::default();
        for content in self.known_sources() {
            for (name, value) in content.variables() {
                // The last source comes first.
                all.by_name.entry(name).or_insert_with(|| Definition {
                    value: Some(Defined::BySource(value)),
                    rests_on: std::iter::once(content.object()).collect(),
                });
            }
        }
        for (index, variable) in self.container.env.iter().enumerate() {
            let name = variable.name.as_str();
            let is_defined = all.by_name.get(name).is_some_and(|it| it.value.is_some());
            let value = match self.unexpanded(variable) {
                // It hides nothing: as a reference it says more than as a name that nothing defines.
                None if !is_defined => self.stated(variable),
                value => value,
            };
            let value = match value {
                Some(Value::Text(text)) if is_literal(variable) => {
                    Some(expand(text, self.budget, |name, rests_on| {
                        self.resolve(&all, name, rests_on)
                    }))
                }
                value => value.map(|it| (it, self.source_of(variable).into_iter().collect())),
            };
            let name = Cow::Borrowed(name);
            if value.is_some() {
                all.by_name.insert(
                    name,
                    Definition {
                        value: Some(Defined::ByEntry(index)),
                        rests_on: RestsOn::default(),
                    },
                );
            } else if let Some(absent) = self.source_of(variable) {
                all.by_name.entry(name).or_default().rests_on.add(absent);
            }
            all.entries.push(value);
        }
        all
    }

    /// What `name` holds by the `definitions` so far; `None` where nothing defines it. Adds to `rests_on` what decides that.
    pub(super) fn resolve<'k>(
        &self,
        definitions: &'k Definitions<'e>,
        name: &str,
        rests_on: &mut RestsOn<'e>,
    ) -> Option<Cow<'k, Value<'e>>> {
        let too_long = Some(Cow::Owned(Value::TooLong));
        if let Some(definition) = definitions.by_name.get(name) {
            let mut extend = |more: &RestsOn<'e>| rests_on.extend(more.iter(), self.budget);
            if extend(&definition.rests_on).is_none() {
                return too_long;
            }
            match &definition.value {
                Some(Defined::BySource(value)) => return Some(Cow::Borrowed(value)),
                Some(Defined::ByEntry(index)) => {
                    let (value, of_entry) = definitions.entries.get(*index)?.as_ref()?;
                    return extend(of_entry).map_or(too_long, |()| Some(Cow::Borrowed(value)));
                }
                None => {}
            }
        }
        if is_service_variable(name) {
            return Some(Cow::Owned(Value::Hidden));
        }
        if let Some((source, cause)) = self.sources().unknown(name) {
            if source.is_read(self.facts) {
                rests_on.add(*source);
            }
            return Some(Cow::Owned(Value::Unknown {
                fact: source.key(),
                cause: Arc::clone(cause),
            }));
        }
        let list = &self.container.env_from;
        let looked_at = self.budget.look(list.len());
        match looked_at.and_then(|()| rests_on.extend(could_set(list, self.facts, name), self.budget)) {
            Some(()) if self.unread_source().is_none() => None,
            _ => too_long,
        }
    }
}

/// Variables that the kubelet adds for Services.
fn is_service_variable(name: &str) -> bool {
    name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT")
}
