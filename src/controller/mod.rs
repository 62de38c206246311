//! The controller: dereference → compile → build → apply → status, one file each, and what else only one replica does.

mod apply;
mod audit;
mod build;
mod conditions;
mod contest;
mod dereference;
mod entries;
mod leader;
mod naming;
mod owner;
mod peers;
mod reconcile;
mod secret_access;
mod status;
mod unreadable;
mod webhooks;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::events::{Recorder, Reporter};
use portcullis_api::FIELD_MANAGER;
use portcullis_engine::PolicyName;
use tokio::sync::{mpsc, watch};
use tracing::info;

pub(crate) use owner::references as owner_references;
pub use secret_access::bind_secret_reader;

use crate::context::Context;
use audit::Audited;
use contest::Listed;
use leader::Leadership;

/// Name under which the controller reports events.
const CONTROLLER: &str = "portcullis";

/// How long a new leader waits with the status for what the webhook configurations say.
const UNKNOWN: Duration = Duration::from_secs(15);

/// What the parts of the controller share while this replica leads.
struct Leading {
    context: Context,
    leadership: Arc<Leadership>,
    recorder: Recorder,
    /// What the last audit counted.
    audited: Mutex<HashMap<PolicyName, Audited>>,
    /// How often each generated object had to be put back.
    contests: Mutex<apply::Contests>,
    /// What the webhook configurations in the cluster are known to say.
    listed: watch::Sender<Listed>,
    /// Asks for a policy to be reconciled.
    requests: mpsc::UnboundedSender<PolicyName>,
}

impl Leading {
    /// What the last audit counted for a policy.
    fn audited(&self, policy: &PolicyName) -> Option<Audited> {
        let audited = self.audited.lock().unwrap_or_else(PoisonError::into_inner);
        audited.get(policy).cloned()
    }

    /// How often each generated object had to be put back.
    fn contests(&self) -> MutexGuard<'_, apply::Contests> {
        self.contests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a policy to be reconciled soon.
    fn request(&self, policy: &PolicyName) {
        // Whoever listens ends together with us.
        let _ = self.requests.send(policy.clone());
    }
}

/// Runs the controller until `leaving` turns true: stands for election and, while elected, does what only one replica may
/// do. Ends once it has given the Lease back, so that another replica takes over at once.
///
/// # Errors
/// When the election ended by itself, which only a panic in it causes.
pub async fn run(context: Context, mut leaving: watch::Receiver<bool>) -> anyhow::Result<()> {
    let args = &context.args;
    let leadership = Arc::new(Leadership::new(
        context.client.clone(),
        &args.namespace,
        &args.lease,
    ));
    let (elected, election) = watch::channel(false);
    let campaign = tokio::spawn(leader::campaign(
        context.clone(),
        Arc::clone(&leadership),
        elected,
    ));
    tokio::select! {
        ended = lead_in_turn(&context, &leadership, election) => ended?,
        // Whoever could tell us is gone as well.
        _ = leaving.wait_for(|leaving| *leaving) => {}
    }
    context.metrics.leader(false);
    // Nobody listens to the campaign any more: that ends it.
    campaign.await?;
    Ok(())
}

/// Leads whenever this replica is elected. Ends only with the election.
async fn lead_in_turn(
    context: &Context,
    leadership: &Arc<Leadership>,
    mut election: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let recorder = Recorder::new(context.client.clone(), Reporter::from(CONTROLLER));
    loop {
        election.wait_for(|elected| *elected).await?;
        info!("Became leader");
        context.metrics.leader(true);
        tokio::select! {
            () = lead(context, leadership, &recorder) => {}
            lost = election.wait_for(|elected| !*elected) => drop(lost?),
        }
        context.metrics.leader(false);
        info!("Lost leadership");
    }
}

/// Everything that only the leader does. Never ends; dropping it stops all of it.
async fn lead(context: &Context, leadership: &Arc<Leadership>, recorder: &Recorder) {
    let (requests, requested) = mpsc::unbounded_channel();
    let leading = Arc::new(Leading {
        context: context.clone(),
        leadership: Arc::clone(leadership),
        recorder: recorder.clone(),
        audited: Mutex::default(),
        contests: Mutex::default(),
        listed: watch::Sender::default(),
        requests,
    });
    tokio::join!(
        async {
            // What a new leader does not know yet must not turn every policy's status for a moment.
            let mut listed = leading.listed.subscribe();
            let known = listed.wait_for(|it| *it != Listed::Pending);
            let _ = tokio::time::timeout(UNKNOWN, known).await;
            reconcile::keep(Arc::clone(&leading), requested).await;
        },
        reconcile::follow(&leading),
        webhooks::keep(&leading),
        secret_access::keep(&leading),
        audit::keep(&leading),
    );
}

/// Whether an object is known as ours by label and field manager; owner references do not count, since a restored
/// backup has new UIDs.
fn is_ours(metadata: &ObjectMeta) -> bool {
    is_labelled(metadata) && is_managed(metadata)
}

/// Whether the label says that it is ours.
fn is_labelled(metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    labels
        .and_then(|it| it.get(naming::MANAGED_BY))
        .map(String::as_str)
        == Some(naming::MANAGER)
}

/// Whether fields of it are ours.
fn is_managed(metadata: &ObjectMeta) -> bool {
    let managers = metadata.managed_fields.iter().flatten();
    let mut managers = managers.filter(|it| it.subresource.is_none());
    managers.any(|it| it.manager.as_deref() == Some(FIELD_MANAGER))
}

/// Counts of the API are 32 bits.
fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
