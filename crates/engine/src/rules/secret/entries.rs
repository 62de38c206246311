//! The credentials that a policy declares, and how a workload takes them.

use std::collections::{BTreeSet, HashMap};

use crate::facts::{Fact, Facts};
use crate::object::{EnvFrom, KeyReference, KeyToPath, PodSpec, Volume};
use crate::policy::CompiledEntry;
use crate::rules::Context;
use crate::subject::{ContainerKind, ContainerRef};

/// The declared entries.
pub(super) fn all<'c>(context: &Context<'c, '_>) -> &'c [CompiledEntry] {
    let secrets = context.policy.secrets.as_ref();
    secrets.map_or(&[], |it| it.entries.as_slice())
}

/// The declared entries with a variable or an alias of that name, with their indices.
pub(super) fn named<'c>(
    context: &Context<'c, '_>,
    name: &str,
) -> impl Iterator<Item = (usize, &'c CompiledEntry)> {
    let secrets = context.policy.secrets.as_ref();
    secrets.into_iter().flat_map(move |it| it.named(name))
}

/// The declared entries that lie in a Secret.
pub(super) fn of_secret<'c>(
    context: &Context<'c, '_>,
    name: &str,
) -> impl Iterator<Item = &'c CompiledEntry> {
    let secrets = context.policy.secrets.as_ref();
    secrets.into_iter().flat_map(move |it| it.of_secret(name))
}

/// Whether the entry speaks of the subject: by its components, or where it states none by its names alone.
pub(super) fn concerns(context: &Context<'_, '_>, entry: &CompiledEntry) -> bool {
    let names = entry.components.as_ref();
    names.is_none_or(|names| context.components.iter().any(|it| names.contains(&it.name)))
}

/// Whether the subject must have the entry.
pub(super) fn is_needed(context: &Context<'_, '_>, entry: &CompiledEntry) -> bool {
    entry.components.is_some() && concerns(context, entry)
}

/// Whether the entry may be fulfilled by a container: by those that its delivery names, else by all but those of
/// `kubectl debug`.
fn is_candidate(entry: &CompiledEntry, it: &ContainerRef<'_, '_>) -> bool {
    let mut names = entry.deliver_to.iter();
    let is_named = names.any(|name| *name == it.container.name.as_str());
    it.kind != ContainerKind::Ephemeral && (entry.deliver_to.is_empty() || is_named)
}

/// Where the containers take declared entries from, gathered in one pass.
pub(super) struct Wiring<'s, 'a> {
    facts: &'s Facts,
    /// By index of the entry: the items of `env` under one of its names.
    variables: Vec<Vec<(ContainerRef<'s, 'a>, usize)>>,
    /// By name of a Secret: the items of `envFrom` with it, the last of each container and prefix.
    sources: HashMap<&'s str, Vec<(ContainerRef<'s, 'a>, usize)>>,
    /// By name of a Secret: the containers that mount it, with the keys that they mount.
    mounts: HashMap<&'s str, Vec<(ContainerRef<'s, 'a>, &'s [KeyToPath<'a>])>>,
}

/// A later source of `envFrom` that sets an entry's variable to something else.
pub(super) struct Override<'s, 'a> {
    /// The container.
    pub container: ContainerRef<'s, 'a>,
    /// Index in `envFrom`.
    pub index: usize,
    /// The key that is taken.
    pub key: String,
}

impl<'s, 'a> Wiring<'s, 'a> {
    /// The wiring of the subject's containers.
    pub(super) fn new(context: &Context<'s, 'a>, spec: &'s PodSpec<'a>) -> Self {
        let mut wiring = Self {
            facts: context.facts,
            variables: vec![Vec::new(); all(context).len()],
            sources: HashMap::new(),
            mounts: HashMap::new(),
        };
        let volumes: HashMap<&str, &Volume<'a>> =
            spec.volumes.iter().map(|it| (it.name.as_str(), it)).collect();
        for it in context.subject.containers() {
            for (index, variable) in it.container.env.iter().enumerate() {
                for (entry, _) in named(context, &variable.name) {
                    if let Some(places) = wiring.variables.get_mut(entry) {
                        places.push((it, index));
                    }
                }
            }
            wiring.add_sources(it);
            let mounted: BTreeSet<&str> = it
                .container
                .volume_mounts
                .iter()
                .map(|it| it.name.as_str())
                .collect();
            for volume in mounted.iter().filter_map(|name| volumes.get(name)) {
                wiring.add_volume(it, volume);
            }
        }
        wiring
    }

    fn add_sources(&mut self, it: ContainerRef<'s, 'a>) {
        let mut seen = BTreeSet::new();
        for (index, source) in it.container.env_from.iter().enumerate().rev() {
            if let Some(reference) = &source.secret_ref
                && seen.insert((reference.name.as_str(), source.prefix.as_str()))
            {
                self.sources.entry(&reference.name).or_default().push((it, index));
            }
        }
    }

    fn add_volume(&mut self, it: ContainerRef<'s, 'a>, volume: &'s Volume<'a>) {
        let mut push = |secret: &'s str, items: &'s [KeyToPath<'a>]| {
            self.mounts.entry(secret).or_default().push((it, items));
        };
        if let Some(secret) = &volume.secret {
            push(&secret.secret_name, &secret.items);
        }
        let sources = volume.projected.iter().flat_map(|it| &it.sources);
        for secret in sources.filter_map(|it| it.secret.as_ref()) {
            push(&secret.name, &secret.items);
        }
    }

    /// The items of `env` under one of the names of the entry with this index.
    pub(super) fn variables(&self, entry: usize) -> &[(ContainerRef<'s, 'a>, usize)] {
        self.variables.get(entry).map_or(&[], Vec::as_slice)
    }

    /// Whether a container takes the entry from its very Secret and key: by reference, `envFrom` or mount. A `_FILE`
    /// variable needs the mount that it points into, and that mount is enough. What else takes effect under the
    /// entry's names is added to `overrides`.
    pub(super) fn fulfils(
        &self,
        index: usize,
        entry: &CompiledEntry,
        overrides: &mut Vec<Override<'s, 'a>>,
    ) -> bool {
        let mut set = BTreeSet::new();
        let by_reference = self.by_reference(index, entry, &mut set);
        by_reference || self.by_mount(entry) || self.by_env_from(entry, &set, overrides)
    }

    /// Of each name the last item that sets anything decides; `set` takes the containers and names.
    fn by_reference(
        &self,
        index: usize,
        entry: &CompiledEntry,
        set: &mut BTreeSet<(ContainerKind, usize, &'s str)>,
    ) -> bool {
        let mut found = false;
        for (it, index) in self.variables(index).iter().rev() {
            let Some(variable) = it.container.env.get(*index) else {
                continue;
            };
            let source = variable.value_from.as_ref();
            let reference = source.and_then(|it| it.secret_key_ref.as_ref());
            let is_nothing =
                reference.is_some_and(|it| it.optional && self.facts.secret(&it.name) == Fact::Absent);
            if !is_nothing && set.insert((it.kind, it.index, variable.name.as_str())) {
                let is_its = |it: &KeyReference<'_>| *it.name == *entry.secret && *it.key == *entry.key;
                found |= is_candidate(entry, it) && reference.is_some_and(is_its);
            }
        }
        found
    }

    fn by_mount(&self, entry: &CompiledEntry) -> bool {
        let mut mounts = self.mounts.get(entry.secret.as_str()).into_iter().flatten();
        mounts.any(|(it, items)| {
            let has_key = items.is_empty() || items.iter().any(|it| *it.key == *entry.key);
            has_key && is_candidate(entry, it)
        })
    }

    fn by_env_from(
        &self,
        entry: &CompiledEntry,
        set: &BTreeSet<(ContainerKind, usize, &'s str)>,
        overrides: &mut Vec<Override<'s, 'a>>,
    ) -> bool {
        for (it, index) in self.sources.get(entry.secret.as_str()).into_iter().flatten() {
            let Some(source) = it.container.env_from.get(*index) else {
                continue;
            };
            let name = format!("{}{}", source.prefix, entry.key);
            // A variable of `env` hides one of `envFrom`.
            let is_hidden = set.contains(&(it.kind, it.index, name.as_str()));
            if is_hidden || !entry.is_named(&name) || !is_candidate(entry, it) {
                continue;
            }
            let later = it.container.env_from.iter().enumerate().skip(index + 1);
            let mut keys = later
                .rev()
                .filter_map(|(at, it)| Some((at, self.key_of(it, &name)?)));
            match keys.next() {
                None => return true,
                Some((index, key)) => overrides.push(Override {
                    container: *it,
                    index,
                    key: key.to_owned(),
                }),
            }
        }
        false
    }

    /// The key that a source is known to set the variable `name` from.
    fn key_of<'n>(&self, source: &EnvFrom<'_>, name: &'n str) -> Option<&'n str> {
        let key = name.strip_prefix(source.prefix.as_str())?;
        let secret = source.secret_ref.as_ref();
        let map = source.config_map_ref.as_ref();
        let in_secret = secret.is_some_and(
            |it| matches!(self.facts.secret(&it.name), Fact::Known(it) if it.keys.contains_key(key)),
        );
        let in_map = map.is_some_and(
            |it| matches!(self.facts.config_map(&it.name), Fact::Known(it) if it.data.contains_key(key)),
        );
        (in_secret || in_map).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use portcullis_api::{Enforcement, SecurityPolicy};
    use serde_json::{Value, json};

    use crate::{CompiledPolicy, Facts, Subject, evaluate, select};

    /// Were each variable compared with each entry's names, this would take minutes.
    #[test]
    fn many_entries_and_many_variables_are_joined_by_name() {
        let entry = |it: usize| {
            let aliases: Vec<String> = (0..8).map(|alias| format!("ENTRY_{it}_{alias}")).collect();
            json!({"name": format!("e{it}"), "env": format!("ENTRY_{it}"), "aliases": aliases, "components": ["api"],
                "secretRef": {"name": "keys", "key": format!("k{it}")}})
        };
        let entries: Vec<Value> = (0..1000).map(entry).collect();
        let selector = json!({"matchLabels": {"app": "api"}});
        let policy: SecurityPolicy = serde_json::from_value(json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy",
            "metadata": {"name": "test", "namespace": "agents"},
            "spec": {
                "rulesVersion": "v1", "environment": "Production", "enforcement": "Deny",
                "workloads": {"scope": "Namespace"},
                "components": [{"name": "api", "role": "Worker", "selector": selector}],
                "secrets": {"entries": entries},
            },
        }))
        .unwrap();
        let policy = CompiledPolicy::try_from(&policy).unwrap();
        let env: Vec<Value> = (0..80_000)
            .map(|it| json!({"name": format!("ENTRY_{it}_7"), "value": ""}))
            .collect();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "api", "namespace": "agents", "labels": {"app": "api"}},
            "spec": {"containers": [{"name": "api", "env": env}]},
        });
        let json = pod.to_string();
        let subject = Subject::from_json(&json, "agents").unwrap();
        let facts = Facts::default();
        let governing = select([&policy], &subject, None, &facts);
        let verdict = evaluate(&governing, &subject, &facts, Enforcement::Deny);
        assert_eq!(verdict.violations.len(), 1000);
    }
}
