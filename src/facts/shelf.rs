//! The facts of one kind in one namespace, as watches and lists bring them, within bounds.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube::ResourceExt;
use portcullis_engine::Fact;

use super::sources::Source;

/// The facts of one kind in one namespace, by name.
#[derive(Debug)]
pub(super) struct Shelf<T>(RwLock<State<T>>);

#[derive(Debug)]
enum State<T> {
    /// Neither listed nor refused so far.
    Pending {
        cause: Arc<str>,
        /// What a watch told before the list: absent what was deleted.
        since: Kept<T>,
    },
    Refused(Arc<str>),
    Listed(Kept<T>),
}

/// Bytes that are kept of one kind in one namespace: whoever may write there must not fill our memory.
const MAX_NAMESPACE: usize = 4 * 1024 * 1024;

/// Bytes that an object takes beside its name and what is kept of it.
const ENTRY: usize = 128;

/// Facts by name, up to a size.
#[derive(Debug, PartialEq)]
pub(super) struct Kept<T> {
    facts: BTreeMap<String, Fact<Arc<T>>>,
    /// Bytes of them.
    weight: usize,
    /// Why nothing is known of names that are not among them, once there was no room for one. Only a fresh list takes it
    /// back.
    full: Option<Arc<str>>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            facts: BTreeMap::new(),
            weight: 0,
            full: None,
        }
    }
}

impl<T: PartialEq> Kept<T> {
    /// Takes in an object; whether what is known of it is news.
    pub(super) fn put<K: Source<Fact = T>>(&mut self, object: K) -> bool {
        self.insert::<K>(object.name_any(), object.into_fact())
    }

    /// Takes in a fact where there is room for it; whether that is news.
    fn insert<K: Source<Fact = T>>(&mut self, name: String, fact: Fact<Arc<T>>) -> bool {
        let before = self.take::<K>(&name);
        let weight = weight::<K>(&name, &fact);
        if self.weight + weight > MAX_NAMESPACE {
            let is_first = self.full.is_none();
            self.full.get_or_insert_with(|| too_many::<K>());
            return is_first || before.is_some();
        }
        self.weight += weight;
        let news = before.as_ref() != Some(&fact);
        self.facts.insert(name, fact);
        news
    }

    /// Forgets a fact; whether it was there.
    fn remove<K: Source<Fact = T>>(&mut self, name: &str) -> bool {
        self.take::<K>(name).is_some()
    }

    fn take<K: Source<Fact = T>>(&mut self, name: &str) -> Option<Fact<Arc<T>>> {
        let before = self.facts.remove(name)?;
        self.weight -= weight::<K>(name, &before);
        Some(before)
    }

    /// Takes in what was told after it was listed.
    fn update<K: Source<Fact = T>>(&mut self, since: &mut Self) {
        for (name, fact) in std::mem::take(&mut since.facts) {
            self.insert::<K>(name, fact);
        }
        self.full = self.full.take().or(since.full.take());
    }

    fn get(&self, name: &str) -> Fact<Arc<T>> {
        match (self.facts.get(name), &self.full) {
            (Some(Fact::Known(it)), _) => Fact::Known(Arc::clone(it)),
            (Some(Fact::Unknown(cause)), _) | (None, Some(cause)) => Fact::Unknown(Arc::clone(cause)),
            (Some(Fact::Absent), _) | (None, None) => Fact::Absent,
        }
    }
}

fn weight<K: Source>(name: &str, fact: &Fact<Arc<K::Fact>>) -> usize {
    let kept = match fact {
        Fact::Known(it) => K::weight(it),
        Fact::Unknown(cause) => cause.len(),
        Fact::Absent => 0,
    };
    ENTRY + name.len() + kept
}

fn too_many<K: Source>() -> Arc<str> {
    let kind = K::kind(&());
    format!("the {kind}s of the namespace are too large to be read: all must have at most {MAX_NAMESPACE} bytes together").into()
}

impl<T: PartialEq> Shelf<T> {
    /// A shelf of which nothing is known yet because of `cause`.
    pub(super) fn unknown(cause: &str) -> Self {
        Self(RwLock::new(State::Pending {
            cause: cause.into(),
            since: Kept::default(),
        }))
    }

    fn state(&self) -> RwLockReadGuard<'_, State<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of an object.
    pub(super) fn get(&self, name: &str) -> Fact<Arc<T>> {
        match &*self.state() {
            State::Pending { cause, .. } | State::Refused(cause) => Fact::Unknown(Arc::clone(cause)),
            State::Listed(kept) => kept.get(name),
        }
    }

    /// Takes in a fresh list; whether anything in it is news.
    pub(super) fn replace(&self, facts: Kept<T>) -> bool {
        let mut state = self.state_mut();
        let news = !matches!(&*state, State::Listed(known) if *known == facts);
        *state = State::Listed(facts);
        news
    }

    /// From now on, what a watch tells counts for more than the list that is asked for.
    pub(super) fn await_list(&self) {
        let mut state = self.state_mut();
        if let State::Refused(cause) = &*state {
            *state = State::Pending {
                cause: Arc::clone(cause),
                since: Kept::default(),
            };
        }
    }

    /// Takes in the list that was asked for, with what was told since; whether that is news. Does nothing when the shelf
    /// was refused meanwhile, or filled.
    pub(super) fn complete<K: Source<Fact = T>>(&self, mut listed: Kept<T>) -> bool {
        let mut state = self.state_mut();
        let State::Pending { since, .. } = &mut *state else {
            return false;
        };
        listed.update::<K>(since);
        *state = State::Listed(listed);
        true
    }

    /// Takes in one object that was created or changed; whether what is known of it is news.
    pub(super) fn put<K: Source<Fact = T>>(&self, object: K) -> bool {
        match &mut *self.state_mut() {
            State::Listed(kept) => kept.put(object),
            State::Pending { since, .. } => {
                since.put(object);
                false
            }
            State::Refused(_) => false,
        }
    }

    /// Forgets one object that was deleted; whether it was known.
    pub(super) fn remove<K: Source<Fact = T>>(&self, name: &str) -> bool {
        match &mut *self.state_mut() {
            State::Listed(kept) => kept.remove::<K>(name),
            State::Pending { since, .. } => {
                since.insert::<K>(name.to_owned(), Fact::Absent);
                false
            }
            State::Refused(_) => false,
        }
    }

    /// As [`Shelf::lose`], unless the shelf was filled meanwhile.
    pub(super) fn lose_pending(&self, cause: &str) -> bool {
        let mut state = self.state_mut();
        let is_pending = matches!(&*state, State::Pending { .. });
        if is_pending {
            *state = State::Refused(cause.into());
        }
        is_pending
    }

    /// Takes all for unknown; whether that is news.
    pub(super) fn lose(&self, cause: &str) -> bool {
        let mut state = self.state_mut();
        let news = !matches!(&*state, State::Refused(known) if **known == *cause);
        *state = State::Refused(cause.into());
        news
    }

    /// Whether it is still to be seen if a list is granted.
    pub(super) fn is_pending(&self) -> bool {
        matches!(&*self.state(), State::Pending { .. })
    }

    /// Whether a list was taken in.
    pub(super) fn is_listed(&self) -> bool {
        matches!(&*self.state(), State::Listed(_))
    }
}

#[cfg(test)]
mod tests {
    use portcullis_engine::ConfigMapFact;
    use serde_json::json;

    use super::*;
    use crate::facts::sources::{ConfigMapTexts, SecretKeys};

    fn secret(key: &str) -> SecretKeys {
        let object = json!({"metadata": {"name": "magsag"}, "data": {key: "eA=="}});
        serde_json::from_value(object).expect("it has the shape of a Secret")
    }

    fn config_map(name: &str, text: &str) -> ConfigMapTexts {
        let object = json!({"metadata": {"name": name}, "data": {"key": text}});
        serde_json::from_value(object).expect("it has the shape of a ConfigMap")
    }

    #[test]
    fn a_namespace_fills_no_more_than_its_share_and_gives_it_back() {
        let text = "x".repeat(60_000);
        let mut kept = Kept::default();
        for number in 0..1000 {
            kept.put(config_map(&number.to_string(), &text));
        }
        let known = kept.facts.len();
        assert_eq!(known, MAX_NAMESPACE / (ENTRY + "0".len() + "key".len() + 60_000));
        assert!(
            matches!(kept.get("999"), Fact::Unknown(_)),
            "there was no room for it"
        );
        assert!(
            matches!(kept.get("no such name"), Fact::Unknown(_)),
            "it could be one of those"
        );
        kept.remove::<ConfigMapTexts>("0");
        kept.put(config_map("999", &text));
        assert!(matches!(kept.get("999"), Fact::Known(_)));
    }

    #[test]
    fn names_alone_fill_a_namespace_too() {
        let mut kept = Kept::<ConfigMapFact>::default();
        for number in 0..100_000 {
            kept.insert::<ConfigMapTexts>(number.to_string(), Fact::Absent);
        }
        assert!(kept.facts.len() < MAX_NAMESPACE / ENTRY);
    }

    #[test]
    fn an_object_that_says_the_same_as_before_is_no_news() {
        let shelf = Shelf::unknown("not listed yet");
        let list = || {
            let mut kept = Kept::default();
            kept.put(secret("api-key"));
            kept
        };
        assert!(!shelf.put(secret("api-key")), "nothing was listed");
        assert!(shelf.replace(list()));
        assert!(!shelf.replace(list()), "listed anew");
        assert!(!shelf.put(secret("api-key")), "an annotation changed");
        assert!(shelf.put(secret("other")));
        assert!(shelf.remove::<SecretKeys>("magsag"));
        assert!(!shelf.remove::<SecretKeys>("magsag"));
    }

    #[test]
    fn what_a_watch_told_before_the_list_counts_for_more() {
        let shelf = Shelf::unknown("not listed yet");
        shelf.put(config_map("changed", "new"));
        shelf.remove::<ConfigMapTexts>("deleted");
        let mut listed = Kept::default();
        for name in ["changed", "deleted", "other"] {
            listed.put(config_map(name, "old"));
        }
        assert!(shelf.complete::<ConfigMapTexts>(listed));
        let text = |name| match shelf.get(name) {
            Fact::Known(it) => it.data.get("key").cloned(),
            _ => None,
        };
        assert_eq!(text("changed").as_deref(), Some("new"));
        assert!(matches!(shelf.get("deleted"), Fact::Absent));
        assert_eq!(text("other").as_deref(), Some("old"));
    }

    #[test]
    fn a_list_is_dropped_when_it_was_refused_meanwhile_and_asked_for_again() {
        let shelf = Shelf::unknown("not listed yet");
        shelf.lose("forbidden");
        shelf.put(config_map("told", "while refused"));
        assert!(!shelf.complete::<ConfigMapTexts>(Kept::default()));
        assert!(!shelf.is_listed());
        shelf.await_list();
        assert!(shelf.complete::<ConfigMapTexts>(Kept::default()));
    }
}
