//! Who owns what the operator makes for itself: a ClusterRole of the chart, so that uninstalling takes it away.

use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;

use crate::context::Context;

/// The owner cannot be referred to.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The API server does not tell its UID.
    #[error("failed to read ClusterRole `{name}`, which owns what the operator makes")]
    Read {
        /// Its name.
        name: String,
        /// Why.
        source: kube::Error,
    },
}

/// Owner references of what the operator makes for itself; `None` when it runs without an owner.
///
/// Read anew each time: after a new installation the ClusterRole has another UID, and garbage collection would take
/// away whatever refers to the old one.
///
/// # Errors
/// When the ClusterRole cannot be read.
pub async fn references(context: &Context) -> Result<Option<Vec<OwnerReference>>, OwnerError> {
    let Some(name) = &context.args.owner_cluster_role else {
        return Ok(None);
    };
    let api: Api<ClusterRole> = Api::all(context.client.clone());
    let role = api.get(name).await.map_err(|source| OwnerError::Read {
        name: name.clone(),
        source,
    })?;
    Ok(Some(vec![OwnerReference {
        api_version: "rbac.authorization.k8s.io/v1".into(),
        kind: "ClusterRole".into(),
        name: name.clone(),
        uid: role.metadata.uid.unwrap_or_default(),
        ..OwnerReference::default()
    }]))
}
