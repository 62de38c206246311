//! What is known of the Secrets and ConfigMaps of governed namespaces, kept by watches and read without any IO.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use portcullis_engine::{ConfigMapFact, Fact, FactKey, Facts, SecretFact};
use tokio::sync::watch;

use super::shelf::Shelf;

/// Facts of all governed namespaces. What is not watched is unknown.
#[derive(Debug, Default)]
pub struct Watched {
    namespaces: RwLock<HashMap<String, Namespace>>,
    revisions: watch::Sender<Revisions>,
}

/// When the facts of each namespace changed last.
#[derive(Debug, Default)]
pub struct Revisions {
    /// Goes on for all namespaces together, so that none is given twice to a namespace that comes back.
    latest: u64,
    by_namespace: HashMap<String, u64>,
}

impl Revisions {
    fn change(&mut self, namespace: &str) {
        self.latest = self.latest.wrapping_add(1);
        self.by_namespace.insert(namespace.to_owned(), self.latest);
    }
}

/// The facts of one namespace; what no policy of it asks for is not kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespace {
    pub(super) secrets: Option<Arc<Shelf<SecretFact>>>,
    pub(super) config_maps: Option<Arc<Shelf<ConfigMapFact>>>,
}

impl Namespace {
    /// Whether the facts stand on the same shelves.
    fn is_same(&self, other: &Self) -> bool {
        fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
            match (one, other) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            }
        }
        same(self.secrets.as_ref(), other.secrets.as_ref())
            && same(self.config_maps.as_ref(), other.config_maps.as_ref())
    }
}

impl Watched {
    /// What is known of a Secret.
    pub fn secret(&self, namespace: &str, name: &str) -> Fact<Arc<SecretFact>> {
        match self.namespace(namespace).secrets {
            Some(shelf) => shelf.get(name),
            None => not_watched("Secrets", namespace),
        }
    }

    /// Whether the Secrets of `namespace` have been neither listed nor refused so far.
    pub fn awaits_secrets(&self, namespace: &str) -> bool {
        let secrets = self.namespace(namespace).secrets;
        secrets.is_none_or(|it| it.is_pending())
    }

    /// What is known of a ConfigMap.
    pub fn config_map(&self, namespace: &str, name: &str) -> Fact<Arc<ConfigMapFact>> {
        match self.namespace(namespace).config_maps {
            Some(shelf) => shelf.get(name),
            None => not_watched("ConfigMaps", namespace),
        }
    }

    /// Where the ConfigMaps of `namespace` are kept; `None` when they are not.
    pub(super) fn config_map_shelf(&self, namespace: &str) -> Option<Arc<Shelf<ConfigMapFact>>> {
        self.namespace(namespace).config_maps
    }

    /// Where ConfigMaps are kept, by namespace.
    pub(super) fn config_map_shelves(&self) -> Vec<(String, Arc<Shelf<ConfigMapFact>>)> {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        let shelf = |(name, it): (&String, &Namespace)| Some((name.clone(), it.config_maps.clone()?));
        namespaces.iter().filter_map(shelf).collect()
    }

    /// Adds to `facts` what is known of the objects `keys` of one namespace.
    pub fn fill(&self, namespace: &str, keys: impl IntoIterator<Item = FactKey>, facts: &mut Facts) {
        for key in keys {
            match key {
                FactKey::Secret(name) => {
                    let fact = self.secret(namespace, &name);
                    facts.secrets.entry(name).or_insert(fact);
                }
                FactKey::ConfigMap(name) => {
                    let fact = self.config_map(namespace, &name);
                    facts.config_maps.entry(name).or_insert(fact);
                }
            }
        }
    }

    /// Tells of each change, of whatever namespace.
    pub fn subscribe(&self) -> watch::Receiver<Revisions> {
        self.revisions.subscribe()
    }

    /// Another number whenever the facts of `namespace` changed; the number itself has no meaning.
    pub fn revision(&self, namespace: &str) -> u64 {
        let revisions = self.revisions.borrow();
        revisions.by_namespace.get(namespace).copied().unwrap_or_default()
    }

    /// Replaces which facts are kept of which namespace.
    pub(super) fn keep(&self, namespaces: HashMap<String, Namespace>) {
        let before = {
            let mut kept = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *kept, namespaces.clone())
        };
        self.revisions.send_if_modified(|revisions| {
            let latest = revisions.latest;
            for (name, facts) in &namespaces {
                if before.get(name).is_none_or(|it| !it.is_same(facts)) {
                    revisions.change(name);
                }
            }
            let known = revisions.by_namespace.len();
            revisions
                .by_namespace
                .retain(|name, _| namespaces.contains_key(name));
            revisions.latest != latest || revisions.by_namespace.len() != known
        });
    }

    /// Tells whoever waits for changes that the facts of `namespace` differ from those before.
    pub(super) fn announce(&self, namespace: &str) {
        self.revisions.send_modify(|it| it.change(namespace));
    }

    fn namespace(&self, name: &str) -> Namespace {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        namespaces.get(name).cloned().unwrap_or_default()
    }
}

fn not_watched<T>(kind: &str, namespace: &str) -> Fact<T> {
    Fact::Unknown(format!("{kind} of namespace {namespace} are not watched yet").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::shelf::Kept;

    #[test]
    fn facts_of_one_namespace_change_no_revision_of_another() {
        let watched = Watched::default();
        let facts = || Namespace {
            secrets: Some(Arc::new(Shelf::unknown("not listed yet"))),
            config_maps: None,
        };
        let kept: HashMap<_, _> = ["agents", "other"].map(|it| (it.to_owned(), facts())).into();
        watched.keep(kept.clone());
        let before = ["agents", "other"].map(|it| watched.revision(it));
        watched.announce("agents");
        assert_ne!(watched.revision("agents"), before[0]);
        assert_eq!(watched.revision("other"), before[1]);

        let mut changes = watched.subscribe();
        changes.borrow_and_update();
        watched.keep(kept.clone());
        assert!(
            !changes.has_changed().expect("the facts are there"),
            "the same is kept"
        );
        let agents = watched.revision("agents");
        watched.keep(HashMap::from([("other".to_owned(), kept["other"].clone())]));
        watched.keep(kept);
        assert_ne!(watched.revision("agents"), agents, "it went and came back");
        assert_eq!(watched.revision("other"), before[1]);
    }

    #[test]
    fn secrets_are_awaited_until_the_api_server_answered() {
        let watched = Watched::default();
        assert!(watched.awaits_secrets("agents"), "not watched yet");
        let shelf = Arc::new(Shelf::unknown("not listed yet"));
        let facts = Namespace {
            secrets: Some(Arc::clone(&shelf)),
            config_maps: None,
        };
        watched.keep([("agents".to_owned(), facts)].into());
        assert!(watched.awaits_secrets("agents"), "not listed yet");
        shelf.lose("forbidden");
        assert!(!watched.awaits_secrets("agents"), "refused");
        shelf.replace(Kept::default());
        assert!(!watched.awaits_secrets("agents"), "listed");
    }
}
