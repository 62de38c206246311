//! The right to read Secrets: bound in exactly those namespaces whose policies state `secrets`.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use portcullis_api::FIELD_MANAGER;
use tokio::time::Instant;
use tracing::{info, warn};

use super::naming::{MANAGED_BY, MANAGER};
use super::owner::{self, OwnerError};
use super::{Leading, is_ours};
use crate::context::{Context, SecretAccess};
use crate::error::describe;
use crate::metrics::Reconciled;

/// Name of every RoleBinding that the operator writes; its right to write RoleBindings is bounded to it.
const BINDING: &str = "portcullis-secret-reader";

/// How often bindings are looked at: a deleted one cannot be watched without the right to read all RoleBindings.
const RECHECK: Duration = Duration::from_secs(60);

/// Pause after a binding could not be made or taken away.
const RETRY: Duration = Duration::from_secs(10);

/// How often all namespaces are looked through for bindings that nobody needs any more.
const SWEEP: Duration = Duration::from_secs(600);

/// Changes of policies within this time lead to one look.
const DEBOUNCE: Duration = Duration::from_secs(1);

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
    #[error("failed to apply RoleBinding `{namespace}/{BINDING}`")]
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
    let mut bindings = Bindings::default();
    let (mut sweep_at, mut recheck_at) = (Instant::now(), Instant::now());
    loop {
        changes.borrow_and_update();
        if sweep_at <= Instant::now() {
            let pause = if remove_leftovers(leading).await {
                SWEEP
            } else {
                RECHECK
            };
            sweep_at = Instant::now() + pause;
        }
        if recheck_at <= Instant::now() {
            bindings.doubt();
            recheck_at = Instant::now() + RECHECK;
        }
        let needed = needed(context);
        let task = async |namespace: &str| unbind(leading, namespace).await;
        let surplus = bindings.surplus(&needed);
        let kept = for_each(context, surplus.iter(), task).await;
        bindings.took_away(surplus, kept);
        let task = async |namespace: &str| ensure(leading, namespace).await;
        let lacking = bindings.lacking(&needed);
        let failed = for_each(context, lacking.iter(), task).await;
        bindings.made(lacking, failed);
        let is_done = bindings.is_as_needed(&needed);
        let pause = if is_done { RECHECK } else { RETRY };
        // Whether a policy changed or time passed, the same is to be done.
        let _ = tokio::time::timeout(pause, changes.changed()).await;
        tokio::time::sleep(DEBOUNCE).await;
    }
}

/// What is known of the bindings in the cluster.
#[derive(Debug, Default)]
struct Bindings {
    /// Namespaces where a binding was made or seen, and not taken away since.
    bound: BTreeSet<String>,
    /// Those where it was as it should be, when it was looked at last.
    right: BTreeSet<String>,
}

impl Bindings {
    /// Lets all of them be looked at again: somebody may have changed them.
    fn doubt(&mut self) {
        self.right.clear();
    }

    /// Where a binding is to be taken away.
    fn surplus(&self, needed: &BTreeSet<String>) -> BTreeSet<String> {
        self.bound.difference(needed).cloned().collect()
    }

    /// Where a binding is to be made or looked at.
    fn lacking(&self, needed: &BTreeSet<String>) -> BTreeSet<String> {
        needed.difference(&self.right).cloned().collect()
    }

    /// Notes that bindings were taken away, except for `kept`, where that failed: it is tried again.
    fn took_away(&mut self, surplus: BTreeSet<String>, kept: BTreeSet<String>) {
        for namespace in surplus.difference(&kept) {
            self.bound.remove(namespace);
        }
        self.right.retain(|it| !surplus.contains(it));
    }

    /// Notes that bindings were made or found right, except for `failed`. Those may be there all the same.
    fn made(&mut self, lacking: BTreeSet<String>, failed: BTreeSet<String>) {
        self.right.extend(lacking.difference(&failed).cloned());
        self.bound.extend(lacking);
    }

    fn is_as_needed(&self, needed: &BTreeSet<String>) -> bool {
        self.bound == *needed && self.right == *needed
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

/// Takes away bindings whose policy was deleted while no operator ran. Whether all namespaces could be looked at and all
/// such bindings taken away.
async fn remove_leftovers(leading: &Leading) -> bool {
    let api: Api<Namespace> = Api::all(leading.context.client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut is_clean = true;
    loop {
        let page = match api.list_metadata(&params).await {
            Ok(page) => page,
            Err(error) => {
                warn!(error = describe(&error), "Failed to list Namespaces");
                return false;
            }
        };
        let needed = needed(&leading.context);
        let surplus: Vec<String> = page.items.iter().map(ResourceExt::name_any).collect();
        let surplus = surplus.iter().filter(|it| !needed.contains(*it));
        let task = async |namespace: &str| unbind(leading, namespace).await;
        is_clean &= for_each(&leading.context, surplus, task).await.is_empty();
        match page.metadata.continue_.filter(|it| !it.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return is_clean,
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

/// Does `task` for each namespace; a failure is told and stops no other. The namespaces where it failed.
async fn for_each<'n>(
    context: &Context,
    namespaces: impl Iterator<Item = &'n String>,
    task: impl AsyncFn(&'n str) -> anyhow::Result<()>,
) -> BTreeSet<String> {
    let task = &task;
    let run = |namespace: &'n String| async move {
        let error = task(namespace).await.err()?;
        context.metrics.reconcile_error(Reconciled::RoleBinding);
        warn!(
            error = describe(error.as_ref()),
            namespace, "Failed to keep RoleBinding"
        );
        Some(namespace.clone())
    };
    futures::stream::iter(namespaces.map(run))
        .buffer_unordered(PARALLEL)
        .filter_map(std::future::ready)
        .collect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn a_binding_that_could_not_be_taken_away_is_tried_again() {
        let mut bindings = Bindings::default();
        bindings.made(namespaces(&["agents", "other"]), namespaces(&[]));
        let needed = namespaces(&["agents"]);
        let surplus = bindings.surplus(&needed);
        assert_eq!(surplus, namespaces(&["other"]));
        bindings.took_away(surplus.clone(), namespaces(&["other"]));
        assert_eq!(bindings.surplus(&needed), surplus, "the API server refused");
        assert!(!bindings.is_as_needed(&needed));
        bindings.took_away(surplus, namespaces(&[]));
        assert!(bindings.is_as_needed(&needed));
        assert!(bindings.surplus(&needed).is_empty());
    }

    #[test]
    fn only_what_is_new_or_in_doubt_is_looked_at() {
        let mut bindings = Bindings::default();
        bindings.made(namespaces(&["agents"]), namespaces(&[]));
        let needed = namespaces(&["agents", "other"]);
        assert_eq!(bindings.lacking(&needed), namespaces(&["other"]));
        bindings.made(namespaces(&["other"]), namespaces(&["other"]));
        assert_eq!(bindings.lacking(&needed), namespaces(&["other"]), "it failed");
        assert_eq!(
            bindings.surplus(&namespaces(&["agents"])),
            namespaces(&["other"]),
            "an answer that was lost may have made it all the same"
        );
        bindings.doubt();
        assert_eq!(bindings.lacking(&needed), needed);
    }
}
