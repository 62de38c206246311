//! What is known of the Secrets and ConfigMaps of governed namespaces, kept by watches and read without any IO.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use portcullis_engine::{ConfigMapFact, Fact, FactKey, Facts, SecretFact};
use tokio::sync::watch;

/// Facts of all governed namespaces. What is not watched is unknown.
#[derive(Debug, Default)]
pub struct Watched {
    namespaces: RwLock<HashMap<String, Namespace>>,
    changed: watch::Sender<u64>,
}

/// The facts of one namespace; what no policy of it asks for is not kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespace {
    pub(super) secrets: Option<Arc<Shelf<SecretFact>>>,
    pub(super) config_maps: Option<Arc<Shelf<ConfigMapFact>>>,
}

impl Watched {
    /// What is known of a Secret.
    pub fn secret(&self, namespace: &str, name: &str) -> Fact<Arc<SecretFact>> {
        match self.namespace(namespace).secrets {
            Some(shelf) => shelf.get(name),
            None => not_watched("Secrets", namespace),
        }
    }

    /// What is known of a ConfigMap.
    pub fn config_map(&self, namespace: &str, name: &str) -> Fact<Arc<ConfigMapFact>> {
        match self.namespace(namespace).config_maps {
            Some(shelf) => shelf.get(name),
            None => not_watched("ConfigMaps", namespace),
        }
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

    /// Tells of each change; the number itself has no meaning.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Replaces which facts are kept of which namespace.
    pub(super) fn keep(&self, namespaces: HashMap<String, Namespace>) {
        *self.namespaces.write().unwrap_or_else(PoisonError::into_inner) = namespaces;
        self.announce();
    }

    /// Tells whoever waits for changes.
    pub(super) fn announce(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn namespace(&self, name: &str) -> Namespace {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        namespaces.get(name).cloned().unwrap_or_default()
    }
}

fn not_watched<T>(kind: &str, namespace: &str) -> Fact<T> {
    Fact::Unknown(format!("{kind} of namespace {namespace} are not watched yet").into())
}

/// The facts of one kind in one namespace, by name.
#[derive(Debug)]
pub(super) struct Shelf<T>(RwLock<State<T>>);

#[derive(Debug)]
enum State<T> {
    Unknown(Arc<str>),
    Listed(BTreeMap<String, Arc<T>>),
}

impl<T> Shelf<T> {
    /// A shelf of which nothing is known because of `cause`.
    pub(super) fn unknown(cause: &str) -> Self {
        Self(RwLock::new(State::Unknown(cause.into())))
    }

    fn get(&self, name: &str) -> Fact<Arc<T>> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            State::Unknown(cause) => Fact::Unknown(Arc::clone(cause)),
            State::Listed(facts) => facts
                .get(name)
                .map_or(Fact::Absent, |it| Fact::Known(Arc::clone(it))),
        }
    }

    /// Takes in a fresh list.
    pub(super) fn replace(&self, facts: BTreeMap<String, Arc<T>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = State::Listed(facts);
    }

    /// Takes in one object that was created or changed.
    pub(super) fn put(&self, name: String, fact: T) {
        if let State::Listed(facts) = &mut *self.0.write().unwrap_or_else(PoisonError::into_inner) {
            facts.insert(name, Arc::new(fact));
        }
    }

    /// Forgets one object that was deleted.
    pub(super) fn remove(&self, name: &str) {
        if let State::Listed(facts) = &mut *self.0.write().unwrap_or_else(PoisonError::into_inner) {
            facts.remove(name);
        }
    }

    /// Takes all for unknown; whether that is news.
    pub(super) fn lose(&self, cause: &str) -> bool {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let news = !matches!(&*state, State::Unknown(known) if **known == *cause);
        *state = State::Unknown(cause.into());
        news
    }

    /// Whether a list was taken in.
    pub(super) fn is_listed(&self) -> bool {
        matches!(
            &*self.0.read().unwrap_or_else(PoisonError::into_inner),
            State::Listed(_)
        )
    }
}
