//! `spec.network` with every range, port and name parsed.

use std::collections::BTreeSet;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use portcullis_api::{Flow, Network, NetworkMode, Peer, Preset, preset_fixes_ports};

use super::compile::Findings;
use super::selector::LabelSelector;

/// `spec.network`: default deny and what is let through.
#[derive(Clone, Debug)]
pub struct CompiledNetwork {
    /// Whether NetworkPolicies are only listed and not written.
    pub dry_run: bool,
    /// The connections that are let through, in the policy's order.
    pub flows: Vec<CompiledFlow>,
}

/// One kind of connection that is let through.
#[derive(Clone, Debug)]
pub struct CompiledFlow {
    /// The side that opens it.
    pub from: CompiledPeer,
    /// The side that answers.
    pub to: CompiledPeer,
    /// Ports of the answering pods; empty where the preset fixes them.
    pub ports: Vec<CompiledPort>,
}

/// One side of a flow.
#[derive(Clone, Debug)]
pub enum CompiledPeer {
    /// A component of the policy, by name.
    Component(String),
    /// A well-known peer.
    Preset(Preset),
    /// Pods of other namespaces; no pod selector means all of them.
    Namespaces {
        /// The namespaces.
        namespaces: LabelSelector,
        /// Their pods.
        pods: Option<LabelSelector>,
    },
    /// Addresses outside the cluster.
    Cidr {
        /// The range.
        cidr: IpNet,
        /// What stays closed within it.
        except: Vec<IpNet>,
    },
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// The name in Kubernetes' objects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// A port of the answering pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompiledPort {
    /// One port or a range of ports, both ends included.
    Numbers {
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
        /// Protocol.
        protocol: Protocol,
    },
    /// The name of a container port.
    Name {
        /// The name.
        name: String,
        /// Protocol.
        protocol: Protocol,
    },
}

impl CompiledPort {
    /// Parses `8000`, `http`, `8000-8010` or `53/UDP`.
    fn parse(port: &IntOrString) -> Result<Self, String> {
        let text = match port {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text.clone(),
        };
        let (body, protocol) = match text.split_once('/') {
            None => (text.as_str(), Protocol::Tcp),
            Some((body, "TCP")) => (body, Protocol::Tcp),
            Some((body, "UDP")) => (body, Protocol::Udp),
            Some((body, "SCTP")) => (body, Protocol::Sctp),
            Some((_, other)) => return Err(format!("protocol must be TCP, UDP or SCTP, got `{other}`")),
        };
        if body.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
            let (first, last) = body.split_once('-').unwrap_or((body, body));
            return match (port_number(first), port_number(last)) {
                (Some(first), Some(last)) if first <= last => Ok(Self::Numbers {
                    first,
                    last,
                    protocol,
                }),
                _ => Err(format!(
                    "must be a port from 1 to 65535 or a range such as 8000-8010, got `{text}`"
                )),
            };
        }
        if is_port_name(body) {
            return Ok(Self::Name {
                name: body.to_owned(),
                protocol,
            });
        }
        Err(format!(
            "must be a port such as 8000, http, 8000-8010 or 53/UDP, got `{text}`"
        ))
    }
}

fn port_number(text: &str) -> Option<u16> {
    text.parse::<u16>().ok().filter(|it| *it > 0)
}

/// A name of a container port, as Kubernetes' `IsValidPortName` has it.
fn is_port_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// Compiles the section; components are known by name.
pub(super) fn compile(
    network: &Network,
    components: &BTreeSet<&str>,
    findings: &mut Findings,
) -> CompiledNetwork {
    let mut flows = Vec::new();
    for (index, flow) in network.flows.iter().flatten().enumerate() {
        let path = format!("spec.network.flows[{index}]");
        flows.extend(compile_flow(flow, &path, components, findings));
    }
    CompiledNetwork {
        dry_run: network.mode == Some(NetworkMode::DryRun),
        flows,
    }
}

fn compile_flow(
    flow: &Flow,
    path: &str,
    components: &BTreeSet<&str>,
    findings: &mut Findings,
) -> Option<CompiledFlow> {
    let from = compile_peer(&flow.from, &format!("{path}.from"), components, findings);
    let to = compile_peer(&flow.to, &format!("{path}.to"), components, findings);
    let fixed = flow.to.preset.is_some_and(preset_fixes_ports);
    if fixed == flow.ports.as_ref().is_some_and(|it| !it.is_empty()) {
        findings.add(
            format!("{path}.ports"),
            "is required, except with to.preset Dns or PublicHttps, which fix the ports",
        );
    }
    let mut ports = Vec::new();
    for (index, port) in flow.ports.iter().flatten().enumerate() {
        match CompiledPort::parse(port) {
            Ok(port) => ports.push(port),
            Err(message) => findings.add(format!("{path}.ports[{index}]"), message),
        }
    }
    let (from, to) = (from?, to?);
    if matches!(from, CompiledPeer::Preset(Preset::Dns | Preset::PublicHttps)) {
        findings.add(
            format!("{path}.from.preset"),
            "must be IngressController or PolicyWorkloads: the others are destinations",
        );
    }
    if matches!(to, CompiledPeer::Preset(Preset::IngressController)) {
        findings.add(
            format!("{path}.to.preset"),
            "must not be IngressController, which is a source",
        );
    }
    let ours = |it: &CompiledPeer| {
        matches!(
            it,
            CompiledPeer::Component(_) | CompiledPeer::Preset(Preset::PolicyWorkloads)
        )
    };
    if !ours(&from) && !ours(&to) {
        findings.add(
            path.to_owned(),
            "must have a component or the preset PolicyWorkloads on at least one side",
        );
    }
    Some(CompiledFlow { from, to, ports })
}

fn compile_peer(
    peer: &Peer,
    path: &str,
    components: &BTreeSet<&str>,
    findings: &mut Findings,
) -> Option<CompiledPeer> {
    let stated = [
        peer.component.is_some(),
        peer.preset.is_some(),
        peer.namespace_selector.is_some(),
        peer.cidr.is_some(),
    ];
    if stated.into_iter().filter(|it| *it).count() != 1 {
        findings.add(
            path.to_owned(),
            "must be exactly one of component, preset, namespaceSelector and cidr",
        );
        return None;
    }
    if peer.namespace_selector.is_none() && (peer.pod_selector.is_some() || peer.pods.is_some()) {
        findings.add(
            path.to_owned(),
            "has podSelector or pods without namespaceSelector",
        );
        return None;
    }
    if peer.cidr.is_some() != peer.except.is_some() {
        findings.add(
            path.to_owned(),
            "must have except with cidr, and only then; state except: [] for none",
        );
        return None;
    }
    if let Some(name) = &peer.component {
        if !components.contains(name.as_str()) {
            findings.add(
                format!("{path}.component"),
                format!("must name an entry of spec.components, got `{name}`"),
            );
            return None;
        }
        return Some(CompiledPeer::Component(name.clone()));
    }
    if let Some(preset) = peer.preset {
        return Some(CompiledPeer::Preset(preset));
    }
    if let Some(namespaces) = &peer.namespace_selector {
        let namespaces = findings.selector(&format!("{path}.namespaceSelector"), namespaces);
        let pods = match (&peer.pod_selector, peer.pods) {
            (Some(pods), None) => Some(findings.selector(&format!("{path}.podSelector"), pods)?),
            (None, Some(_)) => None,
            _ => {
                findings.add(
                    path.to_owned(),
                    "must have exactly one of podSelector and pods: All with namespaceSelector",
                );
                return None;
            }
        };
        return Some(CompiledPeer::Namespaces {
            namespaces: namespaces?,
            pods,
        });
    }
    let cidr = parse_cidr(
        peer.cidr.as_deref().unwrap_or_default(),
        &format!("{path}.cidr"),
        findings,
    );
    let excepts = peer.except.iter().flatten().enumerate();
    let except: Vec<Option<IpNet>> = excepts
        .map(|(index, it)| parse_cidr(it, &format!("{path}.except[{index}]"), findings))
        .collect();
    let (cidr, except) = (cidr?, except.into_iter().collect::<Option<Vec<_>>>()?);
    for (index, hole) in except
        .iter()
        .enumerate()
        .filter(|(_, hole)| !cidr.contains(*hole))
    {
        findings.add(
            format!("{path}.except[{index}]"),
            format!("must lie within {cidr}, got `{hole}`"),
        );
    }
    Some(CompiledPeer::Cidr { cidr, except })
}

fn parse_cidr(text: &str, path: &str, findings: &mut Findings) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Ok(net) => Some(net),
        Err(_) => {
            findings.add(
                path.to_owned(),
                format!("must be a range such as 10.0.0.0/8 or fd00::/8, got `{text}`"),
            );
            None
        }
    }
}
