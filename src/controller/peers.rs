//! The sides of flows as NetworkPolicies say them: selectors, address ranges and ports.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use portcullis_api::Preset;
use portcullis_engine::CompiledPolicy;
use portcullis_engine::policy::{CompiledFlow, CompiledPeer, CompiledPort, Protocol};

/// Label that the API server puts on every namespace, with its name; nobody can change it.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Address of NodeLocal DNSCache on every node.
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";

/// What is not the internet although its addresses look like it (RFC 6890): private, shared, link-local and loopback
/// ranges, multicast, and the addresses at which clouds serve credentials (`169.254.169.254`, `100.100.100.200`,
/// `192.0.0.192`, `168.63.129.16`).
const NOT_PUBLIC_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The same for IPv6, with the metadata address `fd00:ec2::254` in `fc00::/7`; also IPv4 in other clothes: behind a
/// local NAT64 (`64:ff9b:1::/48`) and 6to4 (`2002::/16`). Mapped addresses are never on the wire, and the API server
/// refuses them.
const NOT_PUBLIC_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::UNSPECIFIED, 128),
    (Ipv6Addr::LOCALHOST, 128),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Pods that a policy may open: a NetworkPolicy selects only pods of its own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ours {
    /// All workloads of the policy.
    Workloads,
    /// One component, by name.
    Component(String),
}

impl Ours {
    /// The pods of `peer`, where they are ours.
    pub fn of(peer: &CompiledPeer) -> Option<Self> {
        match peer {
            CompiledPeer::Component(name) => Some(Self::Component(name.clone())),
            CompiledPeer::Preset(Preset::PolicyWorkloads) => Some(Self::Workloads),
            _ => None,
        }
    }

    /// As it reads in a summary.
    pub fn describe(&self) -> &str {
        match self {
            Self::Workloads => "all workloads",
            Self::Component(name) => name,
        }
    }
}

/// Selects the pods of one of our sides: what the policy governs, and of that the component's.
pub fn selector(policy: &CompiledPolicy, ours: &Ours) -> LabelSelector {
    let workloads = policy
        .workloads
        .as_ref()
        .map(|it| it.to_kubernetes())
        .unwrap_or_default();
    match ours {
        Ours::Workloads => workloads,
        Ours::Component(name) => {
            let components = policy.components.iter().filter(|it| it.name == *name);
            components.fold(workloads, |selector, it| {
                both(selector, it.selector.to_kubernetes())
            })
        }
    }
}

/// One side of a flow as peers of a rule; none when it opens nothing.
pub fn peers(
    policy: &CompiledPolicy,
    peer: &CompiledPeer,
    ingress_namespaces: &[String],
) -> Vec<NetworkPolicyPeer> {
    match peer {
        CompiledPeer::Component(name) => vec![pods(selector(policy, &Ours::Component(name.clone())))],
        CompiledPeer::Preset(Preset::PolicyWorkloads) => vec![pods(selector(policy, &Ours::Workloads))],
        // Let through for all workloads in any case.
        CompiledPeer::Preset(Preset::Dns) => Vec::new(),
        CompiledPeer::Preset(Preset::IngressController) => namespaces_by_name(ingress_namespaces),
        CompiledPeer::Preset(Preset::PublicHttps) => public(),
        CompiledPeer::Namespaces { namespaces, pods } => vec![NetworkPolicyPeer {
            namespace_selector: Some(namespaces.to_kubernetes()),
            pod_selector: pods.as_ref().map(|it| it.to_kubernetes()),
            ..NetworkPolicyPeer::default()
        }],
        CompiledPeer::Cidr { cidr, except } => range(*cidr, except).into_iter().collect(),
    }
}

/// The ports of a flow; of a preset those that it fixes.
pub fn ports(flow: &CompiledFlow) -> Vec<NetworkPolicyPort> {
    match flow.to {
        CompiledPeer::Preset(Preset::PublicHttps) => vec![number(443, Protocol::Tcp)],
        CompiledPeer::Preset(Preset::Dns) => dns_ports(),
        _ => flow.ports.iter().map(port).collect(),
    }
}

/// 53 over UDP and TCP.
pub fn dns_ports() -> Vec<NetworkPolicyPort> {
    vec![number(53, Protocol::Udp), number(53, Protocol::Tcp)]
}

/// The cluster's DNS: its pods, and the cache that listens on the node itself.
pub fn dns() -> Vec<NetworkPolicyPeer> {
    let labels = |key: &str, value: &str| LabelSelector {
        match_labels: Some([(key.to_owned(), value.to_owned())].into()),
        ..LabelSelector::default()
    };
    vec![
        NetworkPolicyPeer {
            namespace_selector: Some(labels(NAMESPACE_NAME, "kube-system")),
            pod_selector: Some(labels("k8s-app", "kube-dns")),
            ..NetworkPolicyPeer::default()
        },
        block(NODE_LOCAL_DNS.to_owned(), Vec::new()),
    ]
}

/// A peer as it reads in a summary.
pub fn describe(peer: &CompiledPeer) -> String {
    match peer {
        CompiledPeer::Component(name) => name.clone(),
        CompiledPeer::Preset(Preset::PolicyWorkloads) => "all workloads".into(),
        CompiledPeer::Preset(Preset::Dns) => "the cluster's DNS".into(),
        CompiledPeer::Preset(Preset::IngressController) => "IngressController".into(),
        CompiledPeer::Preset(Preset::PublicHttps) => "PublicHttps".into(),
        CompiledPeer::Namespaces { pods: None, .. } => "all pods of selected namespaces".into(),
        CompiledPeer::Namespaces { .. } => "selected pods of selected namespaces".into(),
        CompiledPeer::Cidr { cidr, except } => match except.as_slice() {
            [] => cidr.trunc().to_string(),
            [hole] => format!("{} without {}", cidr.trunc(), hole.trunc()),
            holes => format!("{} without {} ranges", cidr.trunc(), holes.len()),
        },
    }
}

/// A port as it is written in a policy.
pub fn describe_port(port: &NetworkPolicyPort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let first = match &port.port {
        Some(IntOrString::Int(number)) => number.to_string(),
        Some(IntOrString::String(name)) => name.clone(),
        None => "all ports".into(),
    };
    match port.end_port {
        Some(last) => format!("{first}-{last}/{protocol}"),
        None => format!("{first}/{protocol}"),
    }
}

/// `key In values`.
pub fn in_list(key: &str, values: impl IntoIterator<Item = String>) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: key.to_owned(),
        operator: "In".to_owned(),
        values: Some(values.into_iter().collect()),
    }
}

fn pods(selector: LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(selector),
        ..NetworkPolicyPeer::default()
    }
}

/// All pods of these namespaces; no names, no peer.
fn namespaces_by_name(names: &[String]) -> Vec<NetworkPolicyPeer> {
    let mut names: Vec<String> = names.iter().filter(|it| !it.is_empty()).cloned().collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Vec::new();
    }
    vec![NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_expressions: Some(vec![in_list(NAMESPACE_NAME, names)]),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    }]
}

/// The internet, without what only looks like it.
fn public() -> Vec<NetworkPolicyPeer> {
    let v4 = NOT_PUBLIC_V4
        .iter()
        .filter_map(|(address, length)| Ipv4Net::new(*address, *length).ok());
    let v6 = NOT_PUBLIC_V6
        .iter()
        .filter_map(|(address, length)| Ipv6Net::new(*address, *length).ok());
    let translated = NOT_PUBLIC_V4
        .iter()
        .filter_map(|(address, length)| Ipv6Net::new(nat64(*address), 96 + *length).ok());
    vec![
        block("0.0.0.0/0".into(), v4.map(|it| it.to_string()).collect()),
        block(
            "::/0".into(),
            v6.chain(translated).map(|it| it.to_string()).collect(),
        ),
    ]
}

/// The address by which NAT64 reaches an IPv4 address (RFC 6052, `64:ff9b::/96`).
fn nat64(address: Ipv4Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0x0064_ff9b << 96;
    Ipv6Addr::from_bits(PREFIX | u128::from(address.to_bits()))
}

/// A range with its holes; none when a hole is all of it, which the API server would refuse.
fn range(cidr: IpNet, except: &[IpNet]) -> Option<NetworkPolicyPeer> {
    let cidr = cidr.trunc();
    let holes: Vec<IpNet> = except.iter().map(IpNet::trunc).collect();
    if holes.contains(&cidr) {
        return None;
    }
    Some(block(
        cidr.to_string(),
        holes.iter().map(ToString::to_string).collect(),
    ))
}

fn block(cidr: String, except: Vec<String>) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr,
            except: Some(except).filter(|it| !it.is_empty()),
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn port(port: &CompiledPort) -> NetworkPolicyPort {
    match port {
        CompiledPort::Numbers {
            first,
            last,
            protocol,
        } => NetworkPolicyPort {
            end_port: (last > first).then(|| i32::from(*last)),
            ..number(*first, *protocol)
        },
        CompiledPort::Name { name, protocol } => NetworkPolicyPort {
            port: Some(IntOrString::String(name.clone())),
            protocol: Some(protocol.as_str().to_owned()),
            end_port: None,
        },
    }
}

fn number(port: u16, protocol: Protocol) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(port))),
        protocol: Some(protocol.as_str().to_owned()),
        end_port: None,
    }
}

/// A selector that matches what both match.
pub(super) fn both(one: LabelSelector, other: LabelSelector) -> LabelSelector {
    let mut labels = one.match_labels.unwrap_or_default();
    let mut expressions = one.match_expressions.unwrap_or_default();
    for (key, value) in other.match_labels.unwrap_or_default() {
        match labels.get(&key) {
            // One key cannot stand twice in matchLabels: as an expression it can, and together they match nothing.
            Some(known) if *known != value => expressions.push(in_list(&key, [value])),
            _ => {
                labels.insert(key, value);
            }
        }
    }
    expressions.extend(other.match_expressions.unwrap_or_default());
    LabelSelector {
        match_labels: Some(labels).filter(|it| !it.is_empty()),
        match_expressions: Some(expressions).filter(|it| !it.is_empty()),
    }
}
