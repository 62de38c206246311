//! Reconcile: one policy at a time through all steps, whenever the policy or what it depends on changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::Api;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{self, Action, ReconcileRequest, applier, trigger_owners, trigger_self};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt, watcher};
use portcullis_api::SecurityPolicy;
use portcullis_engine::policy::EXEMPT_NAMESPACES;
use portcullis_engine::{CompiledPolicy, InvalidPolicy, PolicyName};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::Leading;
use super::apply::{Applied, ApplyError, apply};
use super::build::build;
use super::conditions::{Listing, View};
use super::dereference::{DeclaredSecrets, DereferenceError, declared_secrets, network_policies};
use super::naming::{MANAGED_BY, MANAGER};
use super::status::{self, StatusError};
use super::unreadable::tell;
use crate::error::describe;
use crate::metrics::Reconciled;

/// Policies that are reconciled at the same time.
const PARALLEL: u16 = 8;

/// Objects that are listed at a time: a page is held as a whole.
const PAGE: u32 = 100;

/// Changes within this time lead to one reconciliation.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(10);

/// How often it is looked whether a NetworkPolicy of somebody else is still in the way: it bears no label to watch for.
const CONFLICT_RECHECK: Duration = Duration::from_secs(15);

/// What became of a policy that compiles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Enforced {
    /// Its objects.
    pub applied: Applied,
    /// Its declared Secrets; `None` when it states no `secrets`.
    pub secrets: Option<DeclaredSecrets>,
}

/// Why a policy is not enforced.
#[derive(Debug, thiserror::Error)]
pub enum EnforceError {
    /// It lies in a namespace that is never governed.
    #[error("namespace `{0}` is never governed")]
    Exempt(String),
    /// It does not compile.
    #[error(transparent)]
    Invalid(#[from] InvalidPolicy),
    /// Something could not be read.
    #[error(transparent)]
    Dereference(#[from] DereferenceError),
    /// Something could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Reconciles policies while this replica leads. Never ends.
pub async fn keep(leading: Arc<Leading>, requested: mpsc::UnboundedReceiver<PolicyName>) {
    let (store, queue) = queue(&leading, requested);
    let config = controller::Config::default()
        .concurrency(PARALLEL)
        .debounce(DEBOUNCE);
    let metrics = Arc::clone(&leading.context.metrics);
    let reconcile = |policy, leading| Box::pin(reconcile(policy, leading));
    applier(reconcile, on_error, leading, store, queue, config)
        .for_each(async |result| match result {
            Ok((policy, _)) => debug!(%policy, "Reconciled SecurityPolicy"),
            Err(controller::Error::ReconcilerFailed(error, policy)) => {
                metrics.reconcile_error(Reconciled::SecurityPolicy);
                warn!(error = describe(&error), %policy, "Failed to reconcile SecurityPolicy");
            }
            Err(controller::Error::QueueError(error)) => warn!(error = describe(&error), "Failed to watch"),
            Err(error) => debug!(error = describe(&error), "Skipped SecurityPolicy"),
        })
        .await;
}

/// What is kept of a policy: each is read anew when its turn comes.
type Known = PartialObjectMeta<SecurityPolicy>;

type Queued = Result<ReconcileRequest<Known>, watcher::Error>;

/// What is to be reconciled: policies that changed, whose NetworkPolicies changed, or that another part asks for.
fn queue(
    leading: &Arc<Leading>,
    requested: mpsc::UnboundedReceiver<PolicyName>,
) -> (reflector::Store<Known>, impl Stream<Item = Queued> + use<>) {
    let client = &leading.context.client;
    let (store, writer) = reflector::store();
    let pages = watcher::Config::default().page_size(PAGE);
    let policies = watcher(Api::<Known>::all(client.clone()), pages.clone()).default_backoff();
    // Many times the size of the policy itself.
    let policies = policies.modify(|it| (it.metadata.managed_fields, it.metadata.annotations) = (None, None));
    let policies = policies.reflect(writer).touched_objects();
    let generated = pages.labels(&format!("{MANAGED_BY}={MANAGER}"));
    let generated = watcher(
        Api::<PartialObjectMeta<NetworkPolicy>>::all(client.clone()),
        generated,
    );
    let generated = generated.default_backoff().touched_objects();
    let requests = stream::unfold(requested, async |mut requested| {
        requested.recv().await.map(|name| (name, requested))
    });
    let requests = requests.map(|name| {
        Ok(ReconcileRequest::from(
            ObjectRef::new(&name.name).within(&name.namespace),
        ))
    });
    let queue = stream::select_all([
        trigger_self(policies, ()).boxed(),
        trigger_owners(generated, (), ()).boxed(),
        requests.boxed(),
    ]);
    (store, queue)
}

async fn reconcile(known: Arc<Known>, leading: Arc<Leading>) -> Result<Action, StatusError> {
    let namespace = known.namespace().unwrap_or_default();
    let policies: Api<DeserializeGuard<SecurityPolicy>> =
        Api::namespaced(leading.context.client.clone(), &namespace);
    let found = policies.get_opt(&known.name_any()).await;
    match found.map_err(StatusError::Read)? {
        None => Ok(Action::await_change()),
        Some(DeserializeGuard(Err(unreadable))) => {
            tell(&leading, &unreadable).await?;
            Ok(Action::await_change())
        }
        Some(DeserializeGuard(Ok(policy))) => reconcile_readable(&policy, &leading).await,
    }
}

async fn reconcile_readable(policy: &SecurityPolicy, leading: &Leading) -> Result<Action, StatusError> {
    if policy.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    // Asked before they are counted: what is listed in between asks for another look.
    let namespace = policy.namespace().unwrap_or_default();
    let awaits_secrets = leading.context.watched.awaits_secrets(&namespace);
    let outcome = enforce(policy, leading).await;
    let view = view(policy, leading, awaits_secrets);
    status::write(leading, policy, &outcome, &view).await?;
    Ok(match outcome {
        Ok(enforced) => next_look(&enforced.applied),
        Err(EnforceError::Exempt(_) | EnforceError::Invalid(_)) => Action::await_change(),
        Err(error) => {
            leading
                .context
                .metrics
                .reconcile_error(Reconciled::SecurityPolicy);
            warn!(error = describe(&error), policy = %policy.name_any(), "Failed to enforce SecurityPolicy");
            Action::requeue(RETRY)
        }
    })
}

/// The steps. An error of any of them leaves what was generated before as it is.
async fn enforce(policy: &SecurityPolicy, leading: &Leading) -> Result<Enforced, EnforceError> {
    let context = &leading.context;
    let namespace = policy.namespace().unwrap_or_default();
    if namespace == context.args.namespace || EXEMPT_NAMESPACES.contains(&namespace.as_str()) {
        return Err(EnforceError::Exempt(namespace));
    }
    let compiled = CompiledPolicy::try_from(policy)?; // pure
    let existing = network_policies(&context.client, &namespace).await?; // reads
    let secrets = declared_secrets(&compiled, &context.watched); // reads memory
    let desired = build(&compiled, &context.args.ingress_controller_namespaces); // pure, cannot fail
    let applied = apply(leading, policy, desired, &existing).await?; // writes
    Ok(Enforced { applied, secrets })
}

/// What the status needs to know beside.
fn view(policy: &SecurityPolicy, leading: &Leading, awaits_secrets: bool) -> View {
    let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
    let context = &leading.context;
    let known = context.policies.get(&namespace, &name);
    View {
        ceiling: context.ceiling.get(),
        listing: Listing::of(&leading.listed.borrow(), &namespace),
        in_force: known.is_some_and(|it| it.compiled.is_some()),
        awaits_secrets,
        audited: leading.audited(&PolicyName { namespace, name }),
    }
}

/// When a policy is looked at again without a change that could be watched.
fn next_look(applied: &Applied) -> Action {
    let conflict = (!applied.conflicts.is_empty()).then_some(CONFLICT_RECHECK);
    let contests = applied.contested.iter().map(|it| it.pause);
    match contests.chain(conflict).min() {
        Some(pause) => Action::requeue(pause),
        None => Action::await_change(),
    }
}

fn on_error(_: Arc<Known>, _: &StatusError, _: Arc<Leading>) -> Action {
    Action::requeue(RETRY)
}

/// Asks for the policies whose Secrets, ceiling or webhook configuration changed. Never ends.
pub async fn follow(leading: &Leading) {
    tokio::join!(
        follow_secrets(leading),
        follow_ceiling(leading),
        follow_listed(leading)
    );
}

async fn follow_secrets(leading: &Leading) {
    let watched = &leading.context.watched;
    let mut changes = watched.subscribe();
    let mut before: HashMap<PolicyName, Option<DeclaredSecrets>> = HashMap::new();
    loop {
        changes.borrow_and_update();
        let seen = in_force(leading).into_iter();
        let seen: HashMap<_, _> = seen
            .map(|it| (it.name.clone(), declared_secrets(&it, watched)))
            .collect();
        for (policy, _) in seen.iter().filter(|(name, it)| before.get(*name) != Some(*it)) {
            leading.request(policy);
        }
        before = seen;
        if changes.changed().await.is_err() {
            return;
        }
        // Many Secrets change together when an application is installed.
        tokio::time::sleep(DEBOUNCE).await;
    }
}

async fn follow_ceiling(leading: &Leading) {
    let mut changes = leading.context.ceiling.subscribe();
    while changes.changed().await.is_ok() {
        in_force(leading).iter().for_each(|it| leading.request(&it.name));
    }
}

async fn follow_listed(leading: &Leading) {
    let mut listed = leading.listed.subscribe();
    let mut before = listed.borrow_and_update().clone();
    while listed.changed().await.is_ok() {
        let now = listed.borrow_and_update().clone();
        let differs = |namespace: &str| Listing::of(&now, namespace) != Listing::of(&before, namespace);
        let policies = in_force(leading).into_iter();
        let changed = policies.filter(|it| differs(&it.name.namespace));
        changed.for_each(|it| leading.request(&it.name));
        before = now;
    }
}

/// All policies in force.
fn in_force(leading: &Leading) -> Vec<Arc<CompiledPolicy>> {
    let policies = &leading.context.policies;
    let governed = policies.governed().into_iter();
    governed.flat_map(|it| policies.in_force(&it)).collect()
}
