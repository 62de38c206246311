//! `spec.network`: who may talk to whom.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Selector;

/// Who may talk to whom. The policy's workloads are closed in both directions; each flow opens the egress of one
/// side and the ingress of the other. DNS is always let through.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// `Enforce` writes NetworkPolicies; `DryRun` writes none and lists in the status those that it would write.
    /// Absent means `Enforce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<NetworkMode>,

    /// What happens to traffic that no flow names; only `Deny`, which is also meant when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "default")]
    pub default_action: Option<FlowDefault>,

    /// The connections that are let through. Example:
    /// `[{from: {preset: IngressController}, to: {component: api}, ports: [8000]}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub flows: Option<Vec<Flow>>,
}

/// `Enforce` writes NetworkPolicies; `DryRun` writes none and lists in the status those that it would write. Absent
/// means `Enforce`. Example: `DryRun`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// NetworkPolicies are written and kept.
    Enforce,
    /// Nothing is written; the status lists what would be.
    DryRun,
}

/// What happens to traffic that no flow names: only `Deny`, which is also meant when it is absent. Example: `Deny`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowDefault {
    /// It is dropped.
    Deny,
}

/// One kind of connection that is let through.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "has(self.ports) != (has(self.to.preset) && self.to.preset in ['Dns', 'PublicHttps'])"
    )
    .message("network.flows[].ports is required, except with to.preset Dns or PublicHttps, which fix the ports themselves"),
    validation = Rule::new(
        "has(self.from.component) || has(self.to.component) || (has(self.from.preset) && self.from.preset == 'PolicyWorkloads') || (has(self.to.preset) && self.to.preset == 'PolicyWorkloads')"
    )
    .message("network.flows[] must have a component or the preset PolicyWorkloads on at least one side: a policy opens only its own workloads"),
    validation = Rule::new("!has(self.from.preset) || !(self.from.preset in ['Dns', 'PublicHttps'])")
        .message("network.flows[].from.preset must be IngressController or PolicyWorkloads: Dns and PublicHttps are destinations"),
    validation = Rule::new("!has(self.to.preset) || self.to.preset != 'IngressController'")
        .message("network.flows[].to.preset must not be IngressController, which is a source")
)]
pub struct Flow {
    /// The side that opens the connection. Example: `{preset: IngressController}`.
    pub from: Peer,

    /// The side that answers. Example: `{component: api}`.
    pub to: Peer,

    /// Ports of the answering pods: a number, a container port's name or a range, each also with a protocol; TCP is
    /// meant without one. Required unless `to.preset` fixes them. Example: `[8000, http, 8000-8010, 53/UDP]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 32),
        // Not as CEL: its cost estimate ignores the length of an int-or-string, so that any match is over budget.
        // Here the pattern is for texts, the bounds are for numbers.
        extend("items" = {
            "x-kubernetes-int-or-string": true,
            "pattern": "^([0-9]{1,5}(-[0-9]{1,5})?|[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?)(/(TCP|UDP|SCTP))?$",
            "minimum": 1,
            "maximum": 65535
        })
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub ports: Option<Vec<Port>>,
}

/// A port as it is written: a number, or a text such as `http`, `8000-8010` or `53/UDP`.
pub type Port = IntOrString;

/// One side of a flow: exactly one of `component`, `preset`, `namespaceSelector` and `cidr`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "[has(self.component), has(self.preset), has(self.namespaceSelector), has(self.cidr)].filter(x, x).size() == 1"
    )
    .message("a side of a flow must be exactly one of component, preset, namespaceSelector and cidr"),
    validation = Rule::new(
        "has(self.namespaceSelector) ? has(self.podSelector) != has(self.pods) : !has(self.podSelector) && !has(self.pods)"
    )
    .message("namespaceSelector must come with exactly one of podSelector and pods: All, and these two only with namespaceSelector"),
    validation = Rule::new("has(self.cidr) == has(self.except)")
        .message("cidr must come with except, the ranges that stay closed within it; state except: [] for none"),
    validation = Rule::new("!has(self.cidr) || isCIDR(self.cidr)")
        .message("cidr must be a range such as 10.0.0.0/8 or fd00::/8"),
    validation = Rule::new(
        "!has(self.cidr) || !has(self.except) || !isCIDR(self.cidr) || self.except.all(e, isCIDR(e) && cidr(self.cidr).containsCIDR(e))"
    )
    .message("except must be ranges within cidr, such as 10.1.0.0/16 within 10.0.0.0/8")
)]
pub struct Peer {
    /// A component of this policy, by name. Example: `api`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub component: Option<String>,

    /// A well-known peer. Example: `PublicHttps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,

    /// Namespaces, by their labels; with `podSelector` or `pods: All`.
    /// Example: `{matchLabels: {kubernetes.io/metadata.name: monitoring}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,

    /// Pods of these namespaces, by their labels. Example: `{matchLabels: {app: prometheus}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Selector>,

    /// All pods of these namespaces; only `All`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodsOfNamespace>,

    /// Addresses outside the cluster. Example: `203.0.113.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 43))]
    pub cidr: Option<String>,

    /// Ranges within `cidr` that stay closed; required with `cidr`, may be empty. Example: `[203.0.113.7/32]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 43)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub except: Option<Vec<String>>,
}

/// A well-known peer: `Dns` (to), `IngressController` (from), `PolicyWorkloads` (either side), `PublicHttps` (to: port
/// 443 of the internet, without private, link-local and metadata addresses). Example: `PublicHttps`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The cluster's DNS, port 53 over UDP and TCP; it is let through without a flow as well
    Dns,
    /// The pods of the ingress controller's namespaces, which the chart value `ingressController.namespaces` names
    IngressController,
    /// All workloads of this policy
    PolicyWorkloads,
    /// Port 443 of the internet, without private, link-local and metadata addresses
    PublicHttps,
}

/// All pods of these namespaces; only `All`. Example: `All`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodsOfNamespace {
    /// Every pod.
    All,
}

/// Whether a flow to `preset` takes its ports from the preset instead of `ports`.
#[must_use]
pub fn preset_fixes_ports(preset: Preset) -> bool {
    matches!(preset, Preset::Dns | Preset::PublicHttps)
}
