//! The policies of all namespaces, compiled and indexed by namespace.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use portcullis_api::SecurityPolicy;
use portcullis_engine::{CompiledPolicy, InvalidPolicy};
use tokio::sync::watch;

/// One policy: as it was written, and as it is in force.
#[derive(Clone, Debug)]
pub struct Known {
    /// The policy as it was written.
    pub policy: Arc<SecurityPolicy>,
    /// Its last version that compiled; `None` when none did since the operator started.
    pub compiled: Option<Arc<CompiledPolicy>>,
    /// What is wrong with the version that was written last.
    pub invalid: Option<InvalidPolicy>,
}

type ByName = HashMap<String, Known>;

/// The index that the webhook reads on each request, without a lock.
#[derive(Debug)]
pub struct Policies {
    by_namespace: ArcSwap<HashMap<String, Arc<ByName>>>,
    exempt: Vec<String>,
    changed: watch::Sender<u64>,
}

impl Policies {
    /// An empty index. Policies of the namespaces `exempt` are known and never in force.
    pub fn new(exempt: Vec<String>) -> Self {
        Self {
            by_namespace: ArcSwap::default(),
            exempt,
            changed: watch::Sender::new(0),
        }
    }

    /// The policies in force in `namespace`.
    pub fn in_force(&self, namespace: &str) -> Vec<Arc<CompiledPolicy>> {
        if self.exempt.iter().any(|it| it == namespace) {
            return Vec::new();
        }
        let index = self.by_namespace.load();
        let policies = index.get(namespace).into_iter().flat_map(|it| it.values());
        policies.filter_map(|it| it.compiled.clone()).collect()
    }

    /// One policy, in force or not.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Known> {
        self.by_namespace
            .load()
            .get(namespace)
            .and_then(|it| it.get(name))
            .cloned()
    }

    /// The namespaces with at least one policy in force, sorted.
    pub fn governed(&self) -> BTreeSet<String> {
        let index = self.by_namespace.load();
        let is_governed = |(name, policies): &(&String, &Arc<ByName>)| {
            !self.exempt.contains(name) && policies.values().any(|it| it.compiled.is_some())
        };
        index
            .iter()
            .filter(is_governed)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// How many policies there are that compile as they are written, and how many that do not.
    pub fn counts(&self) -> (usize, usize) {
        let index = self.by_namespace.load();
        let policies = || index.values().flat_map(|it| it.values());
        let invalid = policies().filter(|it| it.invalid.is_some()).count();
        (policies().count() - invalid, invalid)
    }

    /// Tells of each change; the number itself has no meaning.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes in a policy that was created or changed. A version that does not compile leaves the one before in force.
    pub fn apply(&self, policy: &Arc<SecurityPolicy>) {
        let Some((namespace, name)) = identity(policy) else {
            return;
        };
        let before = self.get(&namespace, &name);
        let (compiled, invalid) = match CompiledPolicy::try_from(&**policy) {
            Ok(compiled) => (Some(Arc::new(compiled)), None),
            Err(invalid) => (before.and_then(|it| it.compiled), Some(invalid)),
        };
        let known = Known {
            policy: Arc::clone(policy),
            compiled,
            invalid,
        };
        self.update(&namespace, |policies| {
            policies.insert(name.clone(), known.clone());
        });
    }

    /// Forgets a policy that was deleted.
    pub fn delete(&self, policy: &SecurityPolicy) {
        let Some((namespace, name)) = identity(policy) else {
            return;
        };
        self.update(&namespace, |policies| {
            policies.remove(&name);
        });
    }

    /// Forgets the policies that are not among `present`, after a fresh list.
    pub fn retain(&self, present: &BTreeSet<(String, String)>) {
        let gone: Vec<(String, String)> = {
            let index = self.by_namespace.load();
            let known = index
                .iter()
                .flat_map(|(ns, it)| it.keys().map(move |name| (ns.clone(), name.clone())));
            known.filter(|it| !present.contains(it)).collect()
        };
        for (namespace, name) in gone {
            self.update(&namespace, |policies| {
                policies.remove(&name);
            });
        }
    }

    /// Copies one namespace's policies, never the whole cluster's, and puts the copy in force.
    fn update(&self, namespace: &str, change: impl Fn(&mut ByName)) {
        self.by_namespace.rcu(|index| {
            let mut index = HashMap::clone(index);
            let mut policies = index
                .get(namespace)
                .map(|it| ByName::clone(it))
                .unwrap_or_default();
            change(&mut policies);
            if policies.is_empty() {
                index.remove(namespace);
            } else {
                index.insert(namespace.to_owned(), Arc::new(policies));
            }
            index
        });
        self.changed.send_modify(|count| *count += 1);
    }
}

fn identity(policy: &SecurityPolicy) -> Option<(String, String)> {
    Some((policy.metadata.namespace.clone()?, policy.metadata.name.clone()?))
}
