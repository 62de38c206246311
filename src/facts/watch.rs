//! The watches that keep policies and the ceiling in memory. An expired or cut watch is begun anew by the watcher, with
//! growing pauses; what was known stays in force meanwhile.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use portcullis_api::Enforcement;
use tokio::sync::watch::Sender;
use tracing::{info, warn};

use super::policies::Guarded;
use crate::context::Context;
use crate::error::describe;

/// Key of the operator's ConfigMap that holds the ceiling.
const CEILING_KEY: &str = "enforcementCeiling";

/// Policies that are listed at a time: a page is held as a whole, with all that nobody reads of its objects' metadata.
const PAGE: u32 = 100;

/// Refusals in a row after which policies have no CustomResourceDefinition.
const UNDEFINED_AFTER: u32 = 2;

/// Pause before it is looked again whether the CustomResourceDefinition of policies is there.
const UNDEFINED_RETRY: Duration = Duration::from_secs(5);

/// Keeps the policies of all namespaces in memory; sets `listed` once all have been read, or there are none since their
/// CustomResourceDefinition is not there. Never ends.
pub async fn watch_policies(context: Context, listed: Sender<bool>) {
    loop {
        follow_policies(&context, &listed).await;
        // Without their definition there are no policies: what was known of them must govern nothing any more.
        context.policies.replace(None);
        context.metrics.api_available(false);
        listed.send_replace(true);
        tokio::time::sleep(UNDEFINED_RETRY).await;
    }
}

/// Follows the policies until the API server says that it does not know their kind.
///
/// The watch is begun anew then, with a list: a watch that went on would not tell of policies that were there before.
async fn follow_policies(context: &Context, listed: &Sender<bool>) {
    let policies = &context.policies;
    let api: Api<Guarded> = Api::all(context.client.clone());
    let pages = watcher::Config::default().page_size(PAGE);
    let mut events = pin!(watcher(api, pages).default_backoff());
    let mut listed_now = Vec::new();
    let mut refusals = Refusals::default();
    while let Some(event) = events.next().await {
        let is_undefined = refusals.are_of_an_undefined_kind(&event);
        match event {
            Ok(Event::Init) => listed_now.clear(),
            Ok(Event::InitApply(policy)) => {
                warn_of_unreadable(&policy);
                listed_now.extend(policies.known(&policy));
            }
            Ok(Event::InitDone) => {
                policies.replace(std::mem::take(&mut listed_now));
                context.metrics.api_available(true);
                listed.send_replace(true);
            }
            Ok(Event::Apply(policy)) => {
                warn_of_unreadable(&policy);
                policies.apply(&policy);
            }
            Ok(Event::Delete(policy)) => policies.delete(policy.meta()),
            Err(error) => {
                warn!(error = describe(&error), "Failed to watch SecurityPolicies");
                if is_undefined {
                    return;
                }
            }
        }
    }
}

fn warn_of_unreadable(policy: &Guarded) {
    if let Err(unreadable) = &policy.0 {
        let name = unreadable.metadata.name.as_deref();
        warn!(
            error = describe(unreadable),
            name, "Failed to read SecurityPolicy"
        );
    }
}

/// How often in a row the API server said that it does not know the kind of policies.
#[derive(Debug, Default)]
struct Refusals(u32);

impl Refusals {
    /// Takes in what a watch told; whether it is certain by now that the kind is not defined. Once is not enough for
    /// taking all policies out of force: a proxy or an API server that is starting says so as well.
    fn are_of_an_undefined_kind<K>(&mut self, event: &watcher::Result<Event<K>>) -> bool {
        match event {
            // It stands before the answer to a list.
            Ok(Event::Init) => {}
            Err(error) if code(error) == Some(404) => self.0 = self.0.saturating_add(1),
            Ok(_) | Err(_) => self.0 = 0,
        }
        self.0 >= UNDEFINED_AFTER
    }
}

/// Keeps the cluster's ceiling; sets `listed` once it has been read. Never ends.
pub async fn watch_ceiling(context: Context, listed: Sender<bool>) {
    let args = &context.args;
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &args.namespace);
    let only = watcher::Config::default().fields(&format!("metadata.name={}", args.config_map));
    let mut events = pin!(watcher(api, only).default_backoff());
    let mut found = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => found = false,
            Ok(Event::InitApply(config_map)) => {
                found = true;
                set_ceiling(&context, &config_map);
            }
            Ok(Event::InitDone) => {
                if !found {
                    change_ceiling(&context, Enforcement::Deny);
                }
                listed.send_replace(true);
            }
            Ok(Event::Apply(config_map)) => set_ceiling(&context, &config_map),
            Ok(Event::Delete(_)) => change_ceiling(&context, Enforcement::Deny),
            Err(error) => {
                warn!(error = describe(&error), config_map = %args.config_map, "Failed to watch ConfigMap")
            }
        }
    }
}

/// Puts the ceiling that `config_map` states in force; one that is no ceiling leaves the one before.
fn set_ceiling(context: &Context, config_map: &ConfigMap) {
    let stated = config_map.data.as_ref().and_then(|it| it.get(CEILING_KEY));
    match stated.map(|it| (it, parse_ceiling(it))) {
        None => change_ceiling(context, Enforcement::Deny),
        Some((_, Some(ceiling))) => change_ceiling(context, ceiling),
        Some((text, None)) => warn!(
            config_map = %config_map.name_any(),
            "`data.{CEILING_KEY}` must be one of Deny, Warn, Audit, got `{text}`: the ceiling stays {:?}",
            context.ceiling.get()
        ),
    }
}

fn change_ceiling(context: &Context, ceiling: Enforcement) {
    if context.ceiling.get() != ceiling {
        info!(?ceiling, "Changed the cluster's enforcement ceiling");
    }
    context.ceiling.set(ceiling);
}

fn parse_ceiling(text: &str) -> Option<Enforcement> {
    match text {
        "Deny" => Some(Enforcement::Deny),
        "Warn" => Some(Enforcement::Warn),
        "Audit" => Some(Enforcement::Audit),
        _ => None,
    }
}

/// The HTTP status with which the API server refused a list or a watch; `None` when it did not answer.
pub(super) fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use portcullis_api::SecurityPolicy;

    use super::*;

    fn refused(code: u16) -> watcher::Result<Event<SecurityPolicy>> {
        let status = kube::core::Status {
            code,
            ..kube::core::Status::default()
        };
        Err(watcher::Error::InitialListFailed(kube::Error::Api(Box::new(
            status,
        ))))
    }

    #[test]
    fn r05_a_single_404_takes_no_policy_out_of_force() {
        let mut refusals = Refusals::default();
        let mut told = |event| refusals.are_of_an_undefined_kind(&event);
        assert!(!told(refused(404)));
        assert!(!told(Ok(Event::Init)));
        assert!(!told(Ok(Event::InitDone)), "the list was given");
        assert!(!told(refused(404)));
        assert!(!told(refused(503)), "something else is wrong");
        assert!(!told(refused(404)));
        assert!(!told(Ok(Event::Init)), "the list is asked for once more");
        assert!(told(refused(404)));
    }
}
