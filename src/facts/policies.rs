//! The policies of all namespaces, compiled and indexed by namespace.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use kube::core::ObjectMeta;
use kube::core::error_boundary::InvalidObject;
use portcullis_api::SecurityPolicy;
use portcullis_engine::policy::Finding;
use portcullis_engine::{CompiledPolicy, InvalidPolicy};
use tokio::sync::watch;

/// One policy: as it was written, and as it is in force.
#[derive(Clone, Debug)]
pub struct Known {
    /// The policy as it was written; `None` when it cannot be read.
    pub policy: Option<Arc<SecurityPolicy>>,
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

    /// Takes in a policy that was created or changed. A version that does not compile leaves the one before in force. A
    /// version that is known already is no change: most events tell of a written status, or come from a fresh list.
    pub fn apply(&self, policy: &Arc<SecurityPolicy>) {
        let Some((namespace, name)) = identity(&policy.metadata) else {
            return;
        };
        let before = self.get(&namespace, &name);
        let known = before.as_ref().and_then(|it| it.policy.as_ref());
        if known.is_some_and(|it| is_same_version(it, policy)) {
            return;
        }
        let (compiled, invalid) = match CompiledPolicy::try_from(&**policy) {
            Ok(compiled) => (Some(Arc::new(compiled)), None),
            Err(invalid) => (before.and_then(|it| it.compiled), Some(invalid)),
        };
        let known = Known {
            policy: Some(Arc::clone(policy)),
            compiled,
            invalid,
        };
        self.update(&namespace, |policies| {
            policies.insert(name.clone(), known.clone());
        });
    }

    /// Takes in a policy that this version cannot read, such as one with a rule of a later version. The version before
    /// stays in force.
    pub fn apply_unreadable(&self, policy: &InvalidObject) {
        let Some((namespace, name)) = identity(&policy.metadata) else {
            return;
        };
        let before = self.get(&namespace, &name);
        let invalid = Some(cannot_be_read(&policy.error));
        if before
            .as_ref()
            .is_some_and(|it| it.policy.is_none() && it.invalid == invalid)
        {
            return;
        }
        let known = Known {
            policy: None,
            compiled: before.and_then(|it| it.compiled),
            invalid,
        };
        self.update(&namespace, |policies| {
            policies.insert(name.clone(), known.clone());
        });
    }

    /// Forgets a policy that was deleted.
    pub fn delete(&self, policy: &ObjectMeta) {
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

/// Whether the API server says that nothing of the spec changed.
fn is_same_version(known: &SecurityPolicy, policy: &SecurityPolicy) -> bool {
    let version = |it: &SecurityPolicy| it.metadata.uid.clone().zip(it.metadata.generation);
    let known = version(known);
    known.is_some() && known == version(policy)
}

fn identity(policy: &ObjectMeta) -> Option<(String, String)> {
    Some((policy.namespace.clone()?, policy.name.clone()?))
}

/// What is wrong with a policy of which `error` keeps this version from reading it.
pub fn cannot_be_read(error: &str) -> InvalidPolicy {
    let message = format!(
        "cannot be read by this version of Portcullis: {error}; change it, or install the version that accepted it"
    );
    InvalidPolicy {
        findings: vec![Finding {
            path: "spec".to_owned(),
            message,
        }],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(uid: &str, generation: i64, status: bool) -> Arc<SecurityPolicy> {
        let mut policy = json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy",
            "metadata": {"name": "magsag", "namespace": "agents", "uid": uid, "generation": generation},
            "spec": {"rulesVersion": "v1", "environment": "Production", "enforcement": "Deny", "workloads": {"scope": "Namespace"}},
        });
        if status {
            policy["status"] = json!({"observedGeneration": generation});
        }
        Arc::new(serde_json::from_value(policy).expect("policy has the shape of its type"))
    }

    #[test]
    fn what_cannot_be_read_leaves_the_version_before_in_force() {
        let policies = Policies::new(Vec::new());
        policies.apply(&policy("a", 1, false));
        let before = policies.in_force("agents");
        let unreadable = InvalidObject {
            error: "unknown variant `pod/of-tomorrow`".to_owned(),
            metadata: policy("a", 2, false).metadata.clone(),
        };
        policies.apply_unreadable(&unreadable);
        assert!(Arc::ptr_eq(&before[0], &policies.in_force("agents")[0]));
        assert_eq!(policies.counts(), (0, 1));
        let known = policies.get("agents", "magsag").and_then(|it| it.invalid);
        assert_eq!(
            known.expect("it is invalid").to_string(),
            "`spec` cannot be read by this version of Portcullis: unknown variant `pod/of-tomorrow`; change it, or install the version that accepted it"
        );
        policies.apply(&policy("a", 3, false));
        assert_eq!(policies.counts(), (1, 0));
    }

    #[test]
    fn only_a_new_version_of_a_policy_is_compiled_and_told() {
        let policies = Policies::new(Vec::new());
        let mut changes = policies.subscribe();
        let mut told = |next: &Arc<SecurityPolicy>| {
            changes.borrow_and_update();
            policies.apply(next);
            (
                changes.has_changed().expect("the index is there"),
                policies.in_force("agents"),
            )
        };
        let (first, compiled) = told(&policy("a", 1, false));
        assert!(first, "a new policy");
        let (again, same) = told(&policy("a", 1, true));
        assert!(!again, "its status was written");
        assert!(
            Arc::ptr_eq(&compiled[0], &same[0]),
            "the audit takes another address for a change"
        );
        assert!(told(&policy("a", 2, true)).0, "its spec was changed");
        assert!(told(&policy("b", 2, true)).0, "it was deleted and created anew");
    }
}
