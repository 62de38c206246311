//! Dereference: everything outside the policy that its objects and its status depend on. Reads, and never writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use portcullis_engine::{CompiledPolicy, Fact};

use crate::facts::Watched;

/// Something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DereferenceError {
    /// The NetworkPolicies of the namespace.
    #[error("failed to list NetworkPolicies of namespace `{namespace}`")]
    ListNetworkPolicies {
        /// The namespace.
        namespace: String,
        /// Why.
        source: kube::Error,
    },
}

/// The NetworkPolicies of a namespace by name: ours, and those that stand in the way of ours.
///
/// # Errors
/// When they cannot be listed.
pub async fn network_policies(
    client: &Client,
    namespace: &str,
) -> Result<BTreeMap<String, NetworkPolicy>, DereferenceError> {
    let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    let listed =
        api.list(&ListParams::default())
            .await
            .map_err(|source| DereferenceError::ListNetworkPolicies {
                namespace: namespace.to_owned(),
                source,
            })?;
    Ok(listed.into_iter().map(|it| (it.name_any(), it)).collect())
}

/// What is known of the Secrets that a policy declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeclaredSecrets {
    /// Entries of `spec.secrets.entries`.
    pub declared: usize,
    /// Entries whose Secret holds the key with a value.
    pub present: usize,
    /// Entries whose Secret or key is not there, or whose value is empty.
    pub missing: usize,
    /// Why the others are unknown.
    pub unknown: Option<Arc<str>>,
}

/// What is known of the Secrets that `policy` declares; `None` when it states no `secrets`. Reads no API, only what is
/// watched.
pub fn declared_secrets(policy: &CompiledPolicy, watched: &Watched) -> Option<DeclaredSecrets> {
    let section = policy.secrets.as_ref()?;
    let mut seen = DeclaredSecrets {
        declared: section.entries.len(),
        ..DeclaredSecrets::default()
    };
    for entry in &section.entries {
        match watched.secret(&policy.name.namespace, &entry.secret) {
            Fact::Known(secret) if secret.keys.get(&entry.key).is_some_and(|key| !key.empty) => {
                seen.present += 1;
            }
            Fact::Known(_) | Fact::Absent => seen.missing += 1,
            Fact::Unknown(cause) => seen.unknown = Some(cause),
        }
    }
    Some(seen)
}
