//! Build: the objects that a compiled policy demands. Pure, and cannot fail: equal input gives equal output, to the byte.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use kube::api::ObjectMeta;
use portcullis_engine::CompiledPolicy;
use portcullis_engine::policy::{CompiledFlow, CompiledNetwork, CompiledPeer};

use super::naming::{labels, network_policy_name};
use super::peers::{self, Ours};

/// Rules that the summary of one NetworkPolicy spells out; the rest are counted.
const SUMMARISED: usize = 5;

/// Everything that is generated from one policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// NetworkPolicies by name, without owner.
    pub network_policies: BTreeMap<String, Planned>,
    /// Whether they are only proposed and not written.
    pub dry_run: bool,
}

/// A NetworkPolicy and what it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The object.
    pub object: NetworkPolicy,
    /// What it does, in one line.
    pub summary: String,
}

/// The direction of traffic, as its pods see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    /// As in names and summaries.
    fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// As in `policyTypes`.
    fn policy_type(self) -> String {
        match self {
            Self::Ingress => "Ingress".into(),
            Self::Egress => "Egress".into(),
        }
    }
}

/// What one flow opens on one side.
struct Opening {
    peers: Vec<NetworkPolicyPeer>,
    ports: Vec<NetworkPolicyPort>,
    summary: String,
}

/// The objects that `policy` demands; those for the preset IngressController let in `ingress_namespaces`.
pub fn build(policy: &CompiledPolicy, ingress_namespaces: &[String]) -> Desired {
    let Some(network) = &policy.network else {
        return Desired::default();
    };
    let mut planned = vec![default_deny(policy), dns(policy)];
    let openings = openings(policy, network, ingress_namespaces);
    planned.extend(
        openings
            .into_iter()
            .map(|((ours, direction), openings)| side(policy, &ours, direction, openings)),
    );
    let named = |it: Planned| (it.object.metadata.name.clone().unwrap_or_default(), it);
    Desired {
        network_policies: planned.into_iter().map(named).collect(),
        dry_run: network.dry_run,
    }
}

/// Closes the policy's pods in both directions.
fn default_deny(policy: &CompiledPolicy) -> Planned {
    Planned {
        object: network_policy(
            policy,
            "default-deny",
            NetworkPolicySpec {
                pod_selector: Some(peers::selector(policy, &Ours::Workloads)),
                policy_types: Some(vec![
                    Direction::Ingress.policy_type(),
                    Direction::Egress.policy_type(),
                ]),
                ..NetworkPolicySpec::default()
            },
        ),
        summary: "no ingress to and no egress from all workloads, unless opened".into(),
    }
}

/// Lets the policy's pods ask the cluster's DNS: without it, no flow to a name would work.
fn dns(policy: &CompiledPolicy) -> Planned {
    let rule = NetworkPolicyEgressRule {
        ports: Some(peers::dns_ports()),
        to: Some(peers::dns()),
    };
    Planned {
        object: network_policy(
            policy,
            "dns",
            NetworkPolicySpec {
                egress: Some(vec![rule]),
                pod_selector: Some(peers::selector(policy, &Ours::Workloads)),
                policy_types: Some(vec![Direction::Egress.policy_type()]),
                ..NetworkPolicySpec::default()
            },
        ),
        summary: "egress from all workloads to the cluster's DNS on 53/UDP, 53/TCP".into(),
    }
}

/// What all flows open, by the side whose pods are ours. A flow between two of our sides opens both.
fn openings(
    policy: &CompiledPolicy,
    network: &CompiledNetwork,
    ingress_namespaces: &[String],
) -> BTreeMap<(Ours, Direction), Vec<Opening>> {
    let mut openings: BTreeMap<_, Vec<Opening>> = BTreeMap::new();
    for flow in &network.flows {
        let sides = [
            (Direction::Ingress, &flow.to, &flow.from),
            (Direction::Egress, &flow.from, &flow.to),
        ];
        for (direction, here, there) in sides {
            let Some(ours) = Ours::of(here) else { continue };
            let peers = peers::peers(policy, there, ingress_namespaces);
            // A rule without peers would mean every peer.
            if !peers.is_empty() {
                openings
                    .entry((ours, direction))
                    .or_default()
                    .push(opening(flow, there, direction, peers));
            }
        }
    }
    openings
}

fn opening(
    flow: &CompiledFlow,
    there: &CompiledPeer,
    direction: Direction,
    peers: Vec<NetworkPolicyPeer>,
) -> Opening {
    let ports = peers::ports(flow);
    let preposition = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let written: Vec<String> = ports.iter().map(peers::describe_port).collect();
    Opening {
        summary: format!(
            "{preposition} {} on {}",
            peers::describe(there),
            written.join(", ")
        ),
        peers,
        ports,
    }
}

/// The NetworkPolicy that opens one direction of one side.
fn side(policy: &CompiledPolicy, ours: &Ours, direction: Direction, openings: Vec<Opening>) -> Planned {
    let suffix = match ours {
        Ours::Workloads => direction.word().to_owned(),
        Ours::Component(name) => format!("{}.{name}", direction.word()),
    };
    let preposition = match direction {
        Direction::Ingress => "to",
        Direction::Egress => "from",
    };
    let summary = format!(
        "{} {preposition} {}: {}",
        direction.word(),
        ours.describe(),
        summarise(&openings)
    );
    let mut spec = NetworkPolicySpec {
        pod_selector: Some(peers::selector(policy, ours)),
        policy_types: Some(vec![direction.policy_type()]),
        ..NetworkPolicySpec::default()
    };
    match direction {
        Direction::Ingress => spec.ingress = Some(openings.into_iter().map(ingress_rule).collect()),
        Direction::Egress => spec.egress = Some(openings.into_iter().map(egress_rule).collect()),
    }
    Planned {
        object: network_policy(policy, &suffix, spec),
        summary,
    }
}

fn ingress_rule(opening: Opening) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: Some(opening.peers),
        ports: Some(opening.ports),
    }
}

fn egress_rule(opening: Opening) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule {
        to: Some(opening.peers),
        ports: Some(opening.ports),
    }
}

fn summarise(openings: &[Opening]) -> String {
    let shown: Vec<&str> = openings
        .iter()
        .take(SUMMARISED)
        .map(|it| it.summary.as_str())
        .collect();
    let shown = shown.join("; ");
    match openings.len().saturating_sub(SUMMARISED) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

fn network_policy(policy: &CompiledPolicy, suffix: &str, spec: NetworkPolicySpec) -> NetworkPolicy {
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(network_policy_name(&policy.name.name, suffix)),
            namespace: Some(policy.name.namespace.clone()),
            labels: Some(labels(&policy.name.name)),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
