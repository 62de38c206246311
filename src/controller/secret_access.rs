//! The right to read Secrets: bound in exactly those namespaces whose policies state `secrets`.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use portcullis_api::FIELD_MANAGER;
use tracing::{info, warn};

use super::naming::{MANAGED_BY, MANAGER};
use super::owner::{self, OwnerError};
use super::{Leading, is_ours};
use crate::operator::{Context, SecretAccess};

/// Name of every RoleBinding that the operator writes; its right to write RoleBindings is bounded to it.
const BINDING: &str = "portcullis-secret-reader";

/// How often bindings are looked at: a deleted one cannot be watched without the right to read all RoleBindings.
const RECHECK: Duration = Duration::from_secs(60);

/// Namespaces that are looked at in parallel.
const PARALLEL: usize = 8;

/// Namespaces that are listed at a time.
const PAGE: u32 = 500;

/// The right to read Secrets could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The owner is not known.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The API server refused the RoleBinding.
    #[error("failed to apply RoleBinding `{namespace}/{BINDING}`: {source}")]
    Apply {
        /// Its namespace.
        namespace: String,
        /// Why.
        source: kube::Error,
    },
}

/// Lets the operator read the Secrets of `namespace`. Does nothing unless it may bind itself (`OnDemand`).
///
/// # Errors
/// When the owner cannot be read or the API server refuses the RoleBinding.
pub async fn bind_secret_reader(context: &Context, namespace: &str) -> Result<(), BindError> {
    if context.args.secret_access != SecretAccess::OnDemand {
        return Ok(());
    }
    let binding = role_binding(context, namespace).await?;
    apply(context, namespace, &binding).await
}

async fn apply(context: &Context, namespace: &str, binding: &RoleBinding) -> Result<(), BindError> {
    let api: Api<RoleBinding> = Api::namespaced(context.client.clone(), namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch(BINDING, &params, &Patch::Apply(binding)).await {
        Ok(_) => {
            info!(namespace, "Bound itself to read Secrets");
            Ok(())
        }
        Err(source) => Err(BindError::Apply {
            namespace: namespace.to_owned(),
            source,
        }),
    }
}

async fn role_binding(context: &Context, namespace: &str) -> Result<RoleBinding, OwnerError> {
    let args = &context.args;
    Ok(RoleBinding {
        metadata: ObjectMeta {
            name: Some(BINDING.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some([(MANAGED_BY.to_owned(), MANAGER.to_owned())].into()),
            owner_references: owner::references(context).await?,
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "ClusterRole".into(),
            name: args.secret_reader_role.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name: args.service_account.clone(),
            namespace: Some(args.namespace.clone()),
            ..Subject::default()
        }]),
    })
}

/// Keeps the bindings while this replica leads. Never ends.
pub async fn keep(leading: &Leading) {
    let context = &leading.context;
    if context.args.secret_access != SecretAccess::OnDemand {
        return std::future::pending().await;
    }
    let mut changes = context.policies.subscribe();
    remove_leftovers(leading).await;
    let mut bound = BTreeSet::new();
    loop {
        changes.borrow_and_update();
        let needed = needed(context);
        let surplus: Vec<String> = bound.difference(&needed).cloned().collect();
        for_each(surplus.iter(), async |namespace| unbind(leading, namespace).await).await;
        for_each(needed.iter(), async |namespace| ensure(leading, namespace).await).await;
        bound = needed;
        // Whether a policy changed or time passed, the same is to be done.
        let _ = tokio::time::timeout(RECHECK, changes.changed()).await;
    }
}

/// The namespaces with a policy in force that states `secrets`.
fn needed(context: &Context) -> BTreeSet<String> {
    let governed = context.policies.governed().into_iter();
    let states_secrets = |namespace: &String| {
        let policies = context.policies.in_force(namespace);
        policies.iter().any(|it| it.secrets.is_some())
    };
    governed.filter(states_secrets).collect()
}

/// Takes away bindings whose policy was deleted while no operator ran.
async fn remove_leftovers(leading: &Leading) {
    let api: Api<Namespace> = Api::all(leading.context.client.clone());
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = match api.list_metadata(&params).await {
            Ok(page) => page,
            Err(error) => {
                warn!(%error, "Failed to list Namespaces");
                return;
            }
        };
        let needed = needed(&leading.context);
        let surplus: Vec<String> = page.items.iter().map(ResourceExt::name_any).collect();
        let surplus = surplus.iter().filter(|it| !needed.contains(*it));
        for_each(surplus, async |namespace| unbind(leading, namespace).await).await;
        match page.metadata.continue_.filter(|it| !it.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return,
        }
    }
}

/// Binds, unless the binding is as it should be: a steady state writes nothing.
async fn ensure(leading: &Leading, namespace: &str) -> anyhow::Result<()> {
    let context = &leading.context;
    let api: Api<RoleBinding> = Api::namespaced(context.client.clone(), namespace);
    let desired = role_binding(context, namespace).await?;
    let present = api.get_opt(BINDING).await?;
    let is_right = |it: &RoleBinding| {
        it.role_ref == desired.role_ref
            && it.subjects == desired.subjects
            && it.metadata.owner_references == desired.metadata.owner_references
    };
    if present.as_ref().is_some_and(is_right) {
        return Ok(());
    }
    leading.leadership.confirm().await?;
    Ok(apply(context, namespace, &desired).await?)
}

/// Takes our binding away; somebody else's of the same name stays.
async fn unbind(leading: &Leading, namespace: &str) -> anyhow::Result<()> {
    let api: Api<RoleBinding> = Api::namespaced(leading.context.client.clone(), namespace);
    let Some(binding) = api.get_opt(BINDING).await? else {
        return Ok(());
    };
    if !is_ours(&binding.metadata) {
        return Ok(());
    }
    leading.leadership.confirm().await?;
    let only_this = DeleteParams {
        preconditions: Some(Preconditions {
            uid: binding.metadata.uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(BINDING, &only_this).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => {
            info!(namespace, "Gave up the right to read Secrets");
            Ok(())
        }
    }
}

/// Does `task` for each namespace; a failure is told and stops no other.
async fn for_each<'n>(
    namespaces: impl Iterator<Item = &'n String>,
    task: impl AsyncFn(&'n str) -> anyhow::Result<()>,
) {
    let task = &task;
    let run = |namespace: &'n String| async move {
        if let Err(error) = task(namespace).await {
            warn!(
                error = format!("{error:#}"),
                namespace, "Failed to keep RoleBinding"
            );
        }
    };
    futures::stream::iter(namespaces)
        .for_each_concurrent(PARALLEL, run)
        .await;
}
