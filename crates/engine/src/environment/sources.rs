//! What `envFrom` sets: each source once, and no more of them than can be read in bounded time.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::value::{Budget, Source, Value};
use crate::facts::{Fact, Facts, KeyFact};
use crate::object::EnvFrom;

/// The entries of `envFrom` that take effect.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources<'e> {
    /// Those whose content is known, the last first, as it decides. A source that a later one repeats is left out: under
    /// the same prefix it sets the same variables.
    pub(super) known: Vec<Content<'e>>,
    /// Why the sources with a prefix are unknown. No prefix begins with another one, as the shorter stands for both.
    unknown: BTreeMap<&'e str, (Source<'e>, Arc<str>)>,
    /// Index of the source from which on, towards the first, nothing was read as it is too much.
    pub(super) unread: Option<usize>,
}

impl<'e> Sources<'e> {
    /// The sources in `list`, whose reading is paid for out of `budget`.
    pub(super) fn new(list: &'e [EnvFrom<'_>], facts: &'e Facts, budget: &Budget) -> Self {
        let mut sources = Self {
            unknown: unknown_prefixes(list, facts),
            ..Self::default()
        };
        let mut seen = HashSet::new();
        for (index, source) in list.iter().enumerate().rev() {
            let Some(content) = Content::of(index, source, facts) else {
                continue;
            };
            if !seen.insert((content.object(), content.prefix)) {
                continue;
            }
            if content.pay(budget).is_none() {
                sources.unread = Some(index);
                break;
            }
            sources.known.push(content);
        }
        sources
    }

    /// Why a source is unknown that could set `name`.
    pub(super) fn unknown(&self, name: &str) -> Option<&(Source<'e>, Arc<str>)> {
        // What stands between a prefix of `name` and `name` itself begins with that prefix, too, and none does.
        let up_to = (Bound::Unbounded, Bound::Included(name));
        let (prefix, unknown) = self.unknown.range::<str, _>(up_to).next_back()?;
        name.starts_with(prefix).then_some(unknown)
    }
}

fn unknown_prefixes<'e>(list: &'e [EnvFrom<'_>], facts: &Facts) -> BTreeMap<&'e str, (Source<'e>, Arc<str>)> {
    let mut all = BTreeMap::new();
    for source in list {
        if let Some(unknown) = unknown(source, facts) {
            all.entry(source.prefix.as_str()).or_insert(unknown);
        }
    }
    let mut shorter: Option<&str> = None;
    all.retain(|prefix, _| {
        let is_new = !shorter.is_some_and(|it| prefix.starts_with(it));
        if is_new {
            shorter = Some(prefix);
        }
        is_new
    });
    all
}

/// The object that tells what `source` sets, and why it is unknown, where it is.
pub(super) fn unknown<'e>(source: &'e EnvFrom<'_>, facts: &Facts) -> Option<(Source<'e>, Arc<str>)> {
    if let Some(it) = &source.config_map_ref
        && let Fact::Unknown(cause) = facts.config_map(&it.name)
    {
        return Some((Source::ConfigMap(&it.name), cause));
    }
    if let Some(it) = &source.secret_ref
        && let Fact::Unknown(cause) = facts.secret(&it.name)
    {
        return Some((Source::Secret(&it.name), cause));
    }
    None
}

/// The objects of `list` that would decide whether the variable `name` is set, as far as they are read.
pub(super) fn could_set<'e>(
    list: &'e [EnvFrom<'_>],
    facts: &Facts,
    name: &str,
) -> impl Iterator<Item = Source<'e>> {
    let fitting = list.iter().filter(|it| name.starts_with(it.prefix.as_str()));
    let sources = fitting.flat_map(|it| {
        let map = it.config_map_ref.as_ref().map(|it| Source::ConfigMap(&it.name));
        let secret = it.secret_ref.as_ref().map(|it| Source::Secret(&it.name));
        map.into_iter().chain(secret)
    });
    sources.filter(|it| it.is_read(facts))
}

/// One entry of `envFrom` whose content is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content<'e> {
    /// Index in `envFrom`.
    pub index: usize,
    prefix: &'e str,
    keys: Keys<'e>,
}

#[derive(Clone, Copy, Debug)]
enum Keys<'e> {
    ConfigMap(&'e str, &'e BTreeMap<String, String>),
    Secret(&'e str, &'e BTreeMap<String, KeyFact>),
}

impl<'e> Content<'e> {
    fn of(index: usize, source: &'e EnvFrom<'_>, facts: &'e Facts) -> Option<Self> {
        let keys = if let Some(it) = &source.config_map_ref
            && let Fact::Known(map) = facts.config_map(&it.name)
        {
            Keys::ConfigMap(&it.name, &map.data)
        } else if let Some(it) = &source.secret_ref
            && let Fact::Known(secret) = facts.secret(&it.name)
        {
            Keys::Secret(&it.name, &secret.keys)
        } else {
            return None;
        };
        let prefix = source.prefix.as_str();
        Some(Self { index, prefix, keys })
    }

    fn pay(&self, budget: &Budget) -> Option<()> {
        match self.keys {
            Keys::ConfigMap(_, data) => data
                .iter()
                .try_for_each(|(key, text)| budget.look(self.prefix.len() + key.len() + text.len())),
            Keys::Secret(_, keys) => keys
                .keys()
                .try_for_each(|key| budget.look(self.prefix.len() + key.len())),
        }
    }

    /// The object that it is read from.
    pub(crate) fn object(&self) -> Source<'e> {
        match self.keys {
            Keys::ConfigMap(name, _) => Source::ConfigMap(name),
            Keys::Secret(name, _) => Source::Secret(name),
        }
    }

    /// The variables that it sets, by name.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (Cow<'e, str>, Value<'e>)> {
        let prefix = self.prefix;
        let name = move |key: &'e String| match prefix {
            "" => Cow::Borrowed(key.as_str()),
            prefix => Cow::Owned(format!("{prefix}{key}")),
        };
        let (texts, secrets) = match self.keys {
            Keys::ConfigMap(_, data) => (Some(data), None),
            Keys::Secret(secret, keys) => (None, Some((secret, keys))),
        };
        let texts = texts.into_iter().flatten();
        let texts = texts.map(move |(key, text)| (name(key), Value::Text(Cow::Borrowed(text.as_str()))));
        let secrets = secrets.into_iter();
        let secrets = secrets
            .flat_map(move |(secret, keys)| keys.keys().map(move |key| (name(key), Value::Secret(secret))));
        texts.chain(secrets)
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::MAX_WORK;
    use super::*;
    use crate::facts::ConfigMapFact;
    use crate::object::Container;
    use serde_json::{Value as Json, json};

    /// The ConfigMap `large`, with so many variables.
    fn facts(variables: usize) -> Facts {
        let data = (0..variables).map(|it| (format!("KEY_{it}"), "text".to_owned()));
        let map = ConfigMapFact { data: data.collect() };
        let mut facts = Facts::default();
        facts
            .config_maps
            .insert("large".into(), Fact::Known(Arc::new(map)));
        facts
    }

    fn container(env_from: &[Json]) -> String {
        json!({"envFrom": env_from}).to_string()
    }

    #[test]
    fn a_source_that_is_repeated_is_read_once_and_where_it_decides() {
        let json = container(&vec![json!({"configMapRef": {"name": "large"}}); 80_000]);
        let container: Container<'_> = serde_json::from_str(&json).unwrap();
        let facts = facts(20_000);
        let sources = Sources::new(&container.env_from, &facts, &Budget::default());
        let indices: Vec<usize> = sources.known.iter().map(|it| it.index).collect();
        assert_eq!((indices.as_slice(), sources.unread), ([79_999].as_slice(), None));
    }

    /// Each sets 20,000 variables of its own: 1,600,000,000 in all.
    #[test]
    fn sources_under_many_prefixes_are_read_as_far_as_may_be() {
        let source = |it| json!({"prefix": format!("P{it}_"), "configMapRef": {"name": "large"}});
        let json = container(&(0..80_000).map(source).collect::<Vec<_>>());
        let container: Container<'_> = serde_json::from_str(&json).unwrap();
        let facts = facts(20_000);
        let budget = Budget::default();
        let sources = Sources::new(&container.env_from, &facts, &budget);
        let read: usize = sources.known.iter().map(|it| it.variables().count()).sum();
        assert!(read > 0 && read < MAX_WORK / 16, "{read}");
        assert_eq!(sources.unread, Some(79_999 - sources.known.len()));
        // The next container of the object finds nothing left.
        let more = Sources::new(&container.env_from, &facts, &budget);
        assert_eq!((more.known.len(), more.unread), (0, Some(79_999)));
    }

    #[test]
    fn the_prefix_of_an_unknown_source_is_found_among_many() {
        let source =
            |prefix: &str| json!({"prefix": prefix, "configMapRef": {"name": format!("map-{prefix}")}});
        let json = container(&["B_", "B_C_", "A_", "B_CC", "D"].map(source));
        let container: Container<'_> = serde_json::from_str(&json).unwrap();
        let facts = Facts::default();
        let sources = Sources::new(&container.env_from, &facts, &Budget::default());
        let found = |name| sources.unknown(name).map(|(source, _)| *source);
        let map = |name| Some(Source::ConfigMap(name));
        assert_eq!(found("B_C_X"), map("map-B_"));
        assert_eq!(found("B_ZZZ"), map("map-B_"));
        assert_eq!(found("A_"), map("map-A_"));
        assert_eq!(found("DATABASE"), map("map-D"));
        assert_eq!(found("B"), None);
        assert_eq!(found("C_X"), None);
    }
}
