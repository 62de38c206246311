//! `spec.secrets`: the credentials of an application and where they come from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Credentials of the policy's workloads. No value ever leaves a Secret: only facts about it are kept.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Secrets {
    /// Whether credentials may stand in plain text in manifests; absent means `Forbidden`. Example: `Forbidden`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub literals: Option<LiteralPolicy>,

    /// What happens to a workload whose Secret or key is not there; absent means `Deny`. Example: `Warn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_missing: Option<OnMissing>,

    /// The credentials that the application declares. Example:
    /// `[{name: api-key, env: API_KEY, components: [api], secretRef: {name: magsag, key: api-key}}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub entries: Option<Vec<SecretEntry>>,
}

/// Whether credentials may stand in plain text in manifests; absent means `Forbidden`. Example: `Forbidden`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteralPolicy {
    /// Nothing is looked for.
    Allowed,
    /// A credential in plain text violates `secret/literal`.
    Forbidden,
}

/// What happens to a workload whose Secret or key is not there; absent means `Deny`. Example: `Warn`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissing {
    /// Refused.
    Deny,
    /// Admitted with a warning.
    Warn,
}

/// One credential that the application needs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(self.delivery) || !self.env.matches('^(LD_.*|DYLD_.*|GLIBC_TUNABLES|PATH|HOME|SHELL|IFS|ENV|BASH_.*|NODE_OPTIONS|NODE_PATH|NODE_EXTRA_CA_CERTS|PYTHON.*|PERL5.*|RUBYOPT|RUBYLIB|JAVA_TOOL_OPTIONS|JDK_JAVA_OPTIONS|_JAVA_OPTIONS|CLASSPATH|DOTNET_STARTUP_HOOKS|GIT_.*|SSL_CERT_.*|KUBERNETES_.*|KUBECONFIG|.*_PROXY|.*_proxy)$')"
    )
    .message("secrets.entries[].env must not be a variable that loads code or reroutes traffic when delivery is stated, such as LD_PRELOAD, PATH, NODE_OPTIONS, PYTHONPATH, HTTPS_PROXY or KUBERNETES_SERVICE_HOST"),
    validation = Rule::new("!has(self.aliases) || !(self.env in self.aliases)")
        .message("secrets.entries[].aliases must not repeat env")
)]
pub struct SecretEntry {
    /// Name of the entry, shown in messages. Example: `api-key`.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// Variable in which the application reads it. Example: `MAGSAG_API_KEY`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"))]
    pub env: String,

    /// Other names of the same variable. Example: `[API_KEY]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 8),
        inner(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub aliases: Option<Vec<String>>,

    /// The components that need it; required once the policy states components. Example: `[api]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub components: Option<Vec<String>>,

    /// The Secret, in the policy's namespace, and the key that holds the value.
    /// Example: `{name: magsag, key: api-key}`.
    pub secret_ref: SecretKeyRef,

    /// How the operator brings the value to pods that do not name it themselves. Absent means: not at all.
    /// Example: `{mode: Env, containers: [api]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
}

/// One key of one Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret. Example: `magsag`.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// Key within the Secret. Example: `api-key`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// How a value is brought to pods.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// `Env` adds `env[].valueFrom.secretKeyRef` to the containers at admission of the pod.
    pub mode: DeliveryMode,

    /// Names of the containers that get it; others are left alone. Example: `[api]`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub containers: Vec<String>,
}

/// The form in which a value is delivered.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// A variable that refers to the Secret's key.
    Env,
}
