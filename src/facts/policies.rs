//! The policies of all namespaces, compiled and indexed by namespace.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use kube::Resource;
use kube::core::{DeserializeGuard, ObjectMeta};
use portcullis_api::SecurityPolicy;
use portcullis_engine::policy::Finding;
use portcullis_engine::{CompiledPolicy, InvalidPolicy};
use tokio::sync::watch;

/// One policy: what is in force of it, and what is wrong with what was written.
#[derive(Clone, Debug)]
pub struct Known {
    /// The version that was written last; `None` when it cannot be read.
    version: Option<Version>,
    /// Its last version that compiled; `None` when none did since the operator started.
    pub compiled: Option<Arc<CompiledPolicy>>,
    /// What is wrong with the version that was written last.
    pub invalid: Option<InvalidPolicy>,
}

impl Known {
    /// Whether the two say the same, and the same compiled version is in force.
    fn is_same(&self, other: &Self) -> bool {
        let compiled = match (&self.compiled, &other.compiled) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        compiled && self.version == other.version && self.invalid == other.invalid
    }
}

/// UID and generation, by which the API server says that nothing of the spec changed.
type Version = (String, i64);

/// A policy as the API server gives it; one that this version cannot read must not hide all the others.
pub type Guarded = DeserializeGuard<SecurityPolicy>;

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

    /// What is to be known of a policy from now on, by namespace and name. A version that does not compile leaves the one
    /// before in force, and so does one that this version of Portcullis cannot read, such as one with a rule of a later
    /// version. A version that is known already is no change: most events tell of a written status.
    pub fn known(&self, policy: &Guarded) -> Option<(String, String, Known)> {
        let (namespace, name) = identity(policy.meta())?;
        let before = self.get(&namespace, &name);
        let in_force = |before: Option<Known>| before.and_then(|it| it.compiled);
        let known = match &policy.0 {
            Ok(policy) => {
                let version = version(&policy.metadata);
                if let Some(same) = before
                    .clone()
                    .filter(|it| version.is_some() && it.version == version)
                {
                    return Some((namespace, name, same));
                }
                let (compiled, invalid) = match CompiledPolicy::try_from(policy) {
                    Ok(compiled) => (Some(Arc::new(compiled)), None),
                    Err(invalid) => (in_force(before), Some(invalid)),
                };
                Known {
                    version,
                    compiled,
                    invalid,
                }
            }
            Err(unreadable) => Known {
                version: None,
                compiled: in_force(before),
                invalid: Some(cannot_be_read(&unreadable.error)),
            },
        };
        Some((namespace, name, known))
    }

    /// Takes in a policy that was created or changed.
    pub fn apply(&self, policy: &Guarded) {
        let Some((namespace, name, known)) = self.known(policy) else {
            return;
        };
        let before = self.get(&namespace, &name);
        if before.is_none_or(|it| !it.is_same(&known)) {
            self.update(&namespace, |policies| {
                policies.insert(name.clone(), known.clone());
            });
        }
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

    /// Takes in a whole list, of what [`Policies::known`] gave; what is not in it is forgotten.
    pub fn replace(&self, listed: impl IntoIterator<Item = (String, String, Known)>) {
        let mut index: HashMap<String, ByName> = HashMap::new();
        for (namespace, name, known) in listed {
            index.entry(namespace).or_default().insert(name, known);
        }
        let index = index.into_iter().map(|(name, it)| (name, Arc::new(it)));
        self.by_namespace.store(Arc::new(index.collect()));
        self.changed.send_modify(|count| *count += 1);
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

fn version(policy: &ObjectMeta) -> Option<Version> {
    policy.uid.clone().zip(policy.generation)
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
    use kube::core::error_boundary::InvalidObject;
    use serde_json::json;

    use super::*;

    fn policy(uid: &str, generation: i64, status: bool) -> Guarded {
        let mut policy = json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy",
            "metadata": {"name": "magsag", "namespace": "agents", "uid": uid, "generation": generation},
            "spec": {"rulesVersion": "v1", "environment": "Production", "enforcement": "Deny", "workloads": {"scope": "Namespace"}},
        });
        if status {
            policy["status"] = json!({"observedGeneration": generation});
        }
        DeserializeGuard(Ok(
            serde_json::from_value(policy).expect("policy has the shape of its type")
        ))
    }

    #[test]
    fn what_cannot_be_read_leaves_the_version_before_in_force() {
        let policies = Policies::new(Vec::new());
        policies.apply(&policy("a", 1, false));
        let before = policies.in_force("agents");
        let unreadable = DeserializeGuard(Err(InvalidObject {
            error: "unknown variant `pod/of-tomorrow`".to_owned(),
            metadata: policy("a", 2, false).meta().clone(),
        }));
        policies.apply(&unreadable);
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
        let mut told = |next: &Guarded| {
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

    #[test]
    fn a_fresh_list_forgets_what_is_not_in_it_and_compiles_nothing_anew() {
        let policies = Policies::new(Vec::new());
        policies.apply(&policy("a", 1, false));
        let before = policies.in_force("agents");
        policies.replace(policies.known(&policy("a", 1, true)));
        assert!(Arc::ptr_eq(&before[0], &policies.in_force("agents")[0]));
        policies.replace(None);
        assert!(policies.governed().is_empty());
    }
}
