//! `SecurityPolicy`: what one team's application must satisfy.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Http, Images, Network, PodSecurity, RuleId, Secrets, SecurityPolicyStatus, Selector};

/// What the workloads of one application must satisfy.
///
/// A section that is stated (`podSecurity`, `images`, `secrets`, `http`, `network`) switches its rules on, also when it
/// is empty (`http: {}`); a section that is absent asks for nothing.
#[expect(
    clippy::duplicated_attributes,
    reason = "columns of one type and flows of one kind repeat an attribute's argument"
)]
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "portcullis.dev",
    version = "v1alpha1",
    kind = "SecurityPolicy",
    plural = "securitypolicies",
    shortname = "secpol",
    category = "portcullis",
    namespaced,
    status = "SecurityPolicyStatus",
    derive = "PartialEq",
    doc = "The security contract of one application's workloads: admitted, generated and reported by Portcullis.",
    printcolumn(name = "Environment", type_ = "string", json_path = ".spec.environment"),
    printcolumn(name = "Enforcement", type_ = "string", json_path = ".spec.enforcement"),
    printcolumn(
        name = "Workloads",
        type_ = "integer",
        json_path = ".status.workloads.matched"
    ),
    printcolumn(
        name = "Violating",
        type_ = "integer",
        json_path = ".status.workloads.violating"
    ),
    printcolumn(
        name = "Missing Secrets",
        type_ = "integer",
        json_path = ".status.secrets.missing"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(self.components) || !has(self.secrets) || !has(self.secrets.entries) || self.secrets.entries.all(e, has(e.components))"
    )
    .message("secrets.entries[].components is required once the policy states components: name the components that need the secret"),
    validation = Rule::new(
        "!has(self.secrets) || !has(self.secrets.entries) || self.secrets.entries.all(e, !has(e.components) || (has(self.components) && sets.contains(self.components.map(c, c.name), e.components)))"
    )
    .message("secrets.entries[].components must name entries of spec.components"),
    validation = Rule::new(
        "!has(self.podSecurity) || !has(self.podSecurity.ids) || self.podSecurity.ids.all(i, has(self.components) ? has(i.components) && sets.contains(self.components.map(c, c.name), i.components) : !has(i.components))"
    )
    .message("podSecurity.ids[].components must name entries of spec.components, and is required once the policy states them"),
    validation = Rule::new(
        "!has(self.network) || !has(self.network.flows) || self.network.flows.all(f, (!has(f.from.component) || (has(self.components) && self.components.exists(c, c.name == f.from.component))) && (!has(f.to.component) || (has(self.components) && self.components.exists(c, c.name == f.to.component))))"
    )
    .message("network.flows[].from.component and to.component must name an entry of spec.components")
)]
pub struct SecurityPolicySpec {
    /// Version of the rules that this policy was written for, so that an upgrade of the operator never starts to
    /// deny. Example: `v1`.
    pub rules_version: RulesVersion,

    /// Picks the default severity of each rule: what warns in Development may deny in Production.
    /// Example: `Production`.
    pub environment: Environment,

    /// The ceiling for the whole policy: `Deny` refuses what violates it, `Warn` admits with a warning, `Audit` only
    /// reports. Example: `Warn` while adopting it on a running namespace.
    pub enforcement: Enforcement,

    /// Which workloads of the namespace the policy governs. Example: `{scope: Namespace}`.
    pub workloads: Workloads,

    /// The parts of the application, by their job. Without it, all workloads are one component of role `Other`.
    /// Example: `[{name: api, role: HttpService, selector: {matchLabels: {app: api}}}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub components: Option<Vec<Component>>,

    /// Whom to ask; shown at the end of each denial. Example: `#agents-platform`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[^\x00-\x1f\x7f]+$"))]
    pub contact: Option<String>,

    /// Exceptions to the default severities, by rule id.
    /// Example: `[{id: pod/read-only-root-filesystem, enforcement: Warn}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub rules: Option<Vec<RuleOverride>>,

    /// Pod security: switches on the rules `pod/*` and `storage/permissions`.
    /// Example: `{level: Restricted, defaults: [SeccompProfile]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<PodSecurity>,

    /// Images: switches on the rules `image/*`. Example: `{registries: [ghcr.io/acme], requireDigest: true}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Images>,

    /// Credentials of the application: switches on the rules `secret/*`. Example: `{literals: Forbidden}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Secrets>,

    /// What the application serves over HTTP: switches on the rules `http/*`.
    /// Example: `{cors: {env: CORS_ORIGINS, allowedOrigins: ["https://app.example.com"]}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,

    /// Who may talk to whom. Stated, it closes the policy's workloads in both directions except for `flows` and
    /// DNS. Example: `{mode: DryRun}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

/// Version of the rule set; every rule built before the first tagged release belongs to `v1`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulesVersion {
    /// The first rule set.
    #[serde(rename = "v1")]
    V1,
}

/// Where the workloads run.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// A developer's environment: most rules are off or warn.
    Development,
    /// As production, with warnings where only production is dangerous.
    Staging,
    /// What users depend on.
    Production,
}

/// What happens when a rule is broken; ordered from the mildest to the strictest.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Enforcement {
    /// Report only: status and metrics.
    Audit,
    /// Admit with a warning that kubectl prints.
    Warn,
    /// Refuse the request.
    Deny,
}

/// The severity of one rule in a policy; ordered from the mildest to the strictest.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The rule is not evaluated. Not `Off`, which YAML reads as a boolean (`docs/adr/0005-disabled.md`).
    Disabled,
    /// Report only: status and metrics.
    Audit,
    /// Admit with a warning that kubectl prints.
    Warn,
    /// Refuse the request.
    Deny,
}

impl Severity {
    /// This severity, but no stricter than `ceiling`.
    #[must_use]
    pub fn capped(self, ceiling: Enforcement) -> Self {
        self.min(ceiling.into())
    }

    /// The word as it is written in a policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "Disabled",
            Self::Audit => "Audit",
            Self::Warn => "Warn",
            Self::Deny => "Deny",
        }
    }
}

impl From<Enforcement> for Severity {
    fn from(enforcement: Enforcement) -> Self {
        match enforcement {
            Enforcement::Audit => Self::Audit,
            Enforcement::Warn => Self::Warn,
            Enforcement::Deny => Self::Deny,
        }
    }
}

/// Which workloads a policy governs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.scope == 'Selected') == has(self.selector)")
    .message("workloads.selector is required with scope Selected and must be absent with scope Namespace"))]
pub struct Workloads {
    /// `Namespace`: every workload of the namespace; `Selected`: those that `selector` matches.
    pub scope: Scope,

    /// Matches the labels of the pod template (a Pod's own labels for a Pod). Never empty.
    /// Example: `{matchLabels: {app.kubernetes.io/part-of: magsag}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
}

/// How a policy's workloads are chosen.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every workload of the namespace.
    Namespace,
    /// The workloads whose pod labels `selector` matches.
    Selected,
}

/// One part of the application.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// Name by which entries and flows refer to it. Example: `api`.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// Its job, which decides what it must have: an `HttpService` needs CORS origins, a `Redis` does not.
    pub role: Role,

    /// Matches the labels of the pod template. Never empty. Example: `{matchLabels: {app: magsag-api}}`.
    pub selector: Selector,
}

/// The job of a component.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves HTTP to people or other services.
    HttpService,
    /// Runs jobs and serves no HTTP.
    Worker,
    /// PostgreSQL.
    Postgres,
    /// Redis or a compatible server.
    Redis,
    /// RabbitMQ, Kafka, NATS or another message broker.
    Broker,
    /// Any other database.
    Database,
    /// Anything else.
    Other,
}

/// The severity of one rule in this policy, instead of the default for its environment.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RuleOverride {
    /// Id of the rule; `portcullis rules` lists them. Example: `pod/read-only-root-filesystem`.
    pub id: RuleId,

    /// What happens when the rule is broken; never stricter than `spec.enforcement`. Example: `Warn`.
    pub enforcement: Severity,
}
