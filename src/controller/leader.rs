//! Leader election by a Lease: any number of replicas answer admissions, one writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Client};
use kube_lease_manager::{LeaseCreateMode, LeaseManager, LeaseManagerError, LeaseParams};
use portcullis_api::FIELD_MANAGER;
use tokio::sync::watch;
use tracing::{info, warn};

use super::owner;
use crate::context::Context;
use crate::error::describe;

/// Seconds after which a leader that renews no more is replaced; with the pauses of a take-over it stays under 15 s.
const DURATION_SECONDS: u64 = 10;

/// Seconds before that at which a leader renews.
const GRACE_SECONDS: u64 = 5;

/// For how long a look at the Lease vouches for the writes that follow. A paused process may not trust its memory: the
/// clock went on without it.
const VOUCHES_FOR: Duration = Duration::from_secs(1);

/// How often a replica that does not lead looks whether the Lease was given back.
const LOOK: Duration = Duration::from_secs(1);

/// Pause after a Lease could not be read or written.
const RETRY: Duration = Duration::from_secs(2);

/// This replica is not, or no longer, the one that writes.
#[derive(Debug, thiserror::Error)]
pub enum NotLeader {
    /// The Lease names another holder, or has run out.
    #[error("another replica holds Lease `{0}`")]
    Lost(String),
    /// The Lease could not be read, so that nothing may be written either.
    #[error("failed to read Lease `{lease}`")]
    Unknown {
        /// Its name.
        lease: String,
        /// Why.
        source: kube::Error,
    },
}

/// Tells whether this replica may write.
#[derive(Debug)]
pub struct Leadership {
    leases: Api<Lease>,
    lease: String,
    identity: String,
    confirmed: Mutex<Option<SystemTime>>,
}

impl Leadership {
    /// The candidacy of this process.
    pub fn new(client: Client, namespace: &str, lease: &str) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            lease: lease.to_owned(),
            identity: identity(),
            confirmed: Mutex::default(),
        }
    }

    /// To be asked before each write: looks at the Lease itself, unless it did within the last second.
    ///
    /// # Errors
    /// When this replica is not the leader, or cannot know it.
    pub async fn confirm(&self) -> Result<(), NotLeader> {
        let now = SystemTime::now();
        let fresh = |at: &SystemTime| now.duration_since(*at).is_ok_and(|age| age < VOUCHES_FOR);
        if self.confirmed().as_ref().is_some_and(fresh) {
            return Ok(());
        }
        let lease = self
            .leases
            .get_opt(&self.lease)
            .await
            .map_err(|source| NotLeader::Unknown {
                lease: self.lease.clone(),
                source,
            })?;
        let held = lease.is_some_and(|it| is_held(&it, &self.identity, now));
        *self.confirmed() = held.then_some(now);
        if held {
            Ok(())
        } else {
            Err(NotLeader::Lost(self.lease.clone()))
        }
    }

    /// Resolves once nobody holds the Lease, such as after its holder gave it back.
    async fn freed(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let lease = self.leases.get_opt(&self.lease).await;
            let holder = |it: Lease| it.spec.and_then(|it| it.holder_identity);
            // Failures are told by whoever stands for election at the same time.
            if lease.is_ok_and(|it| it.and_then(holder).is_none()) {
                return;
            }
        }
    }

    fn confirmed(&self) -> std::sync::MutexGuard<'_, Option<SystemTime>> {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `identity` holds `lease` at `now`.
fn is_held(lease: &Lease, identity: &str, now: SystemTime) -> bool {
    let Some(spec) = &lease.spec else { return false };
    let (Some(holder), Some(renewed), Some(seconds)) = (
        &spec.holder_identity,
        &spec.renew_time,
        spec.lease_duration_seconds,
    ) else {
        return false;
    };
    let lasts = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let ends = SystemTime::from(renewed.0).checked_add(lasts);
    holder == identity && ends.is_some_and(|ends| now < ends)
}

/// Stands for election for as long as the receiver of `elected` lives; tells each change. Never ends before that.
pub async fn campaign(context: Context, leadership: Arc<Leadership>, elected: watch::Sender<bool>) {
    loop {
        if let Err(error) = stand(&context, &leadership, &elected).await {
            warn!(error = describe(error.as_ref()), lease = %leadership.lease, "Failed to keep Lease");
        }
        elected.send_replace(false);
        if elected.is_closed() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn stand(
    context: &Context,
    leadership: &Leadership,
    elected: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    ensure_lease(context, leadership).await?;
    let mut manager = candidate(context, leadership).await?;
    loop {
        tokio::select! {
            () = elected.closed() => {
                manager.release().await?;
                info!(lease = %leadership.lease, "Gave Lease back");
                return Ok(());
            }
            state = manager.changed() => drop(elected.send_replace(state?)),
            // The manager sleeps until the Lease would run out; a new one looks at once.
            () = leadership.freed(), if !*elected.borrow() => {
                manager = candidate(context, leadership).await?;
            }
        }
    }
}

async fn candidate(context: &Context, leadership: &Leadership) -> Result<LeaseManager, LeaseManagerError> {
    LeaseManager::new(
        context.client.clone(),
        leadership.lease.clone(),
        context.args.namespace.clone(),
        LeaseParams::new(leadership.identity.clone(), DURATION_SECONDS, GRACE_SECONDS),
        LeaseCreateMode::UseExistent,
    )
    .await
}

/// Makes the Lease, owned like everything that the operator makes for itself; also after somebody deleted it.
async fn ensure_lease(context: &Context, leadership: &Leadership) -> anyhow::Result<()> {
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(leadership.lease.clone()),
            namespace: Some(context.args.namespace.clone()),
            owner_references: owner::references(context).await?,
            ..ObjectMeta::default()
        },
        spec: None,
    };
    let present = leadership.leases.get_opt(&leadership.lease).await?;
    if present.is_some_and(|it| it.metadata.owner_references == lease.metadata.owner_references) {
        return Ok(());
    }
    let params = PatchParams::apply(FIELD_MANAGER).force();
    leadership
        .leases
        .patch(&leadership.lease, &params, &Patch::Apply(&lease))
        .await?;
    Ok(())
}

/// Names this very process: a pod that restarts is another candidate.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "portcullis".to_owned());
    let host: String = host.chars().take(63).collect();
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{host}-{}-{:x}", std::process::id(), since_epoch.as_nanos())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A Lease that `holder` renewed at 12:00:00 for ten seconds.
    fn lease(holder: &str) -> Lease {
        serde_json::from_value(json!({"spec": {
            "holderIdentity": holder, "renewTime": "2026-01-31T12:00:00.000000Z", "leaseDurationSeconds": 10,
        }}))
        .expect("a Lease")
    }

    fn at(text: &str) -> SystemTime {
        text.parse::<jiff::Timestamp>().expect("a time").into()
    }

    #[test]
    fn r07_whoever_was_paused_for_longer_than_the_lease_is_no_leader_any_more() {
        assert!(is_held(&lease("me"), "me", at("2026-01-31T12:00:09Z")));
        assert!(!is_held(&lease("me"), "me", at("2026-01-31T12:00:11Z")));
        assert!(!is_held(&lease("other"), "me", at("2026-01-31T12:00:01Z")));
        assert!(!is_held(&Lease::default(), "me", at("2026-01-31T12:00:01Z")));
    }
}
