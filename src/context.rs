//! What every part of the operator shares: its options, the clients, and what is known of the cluster.

use std::fmt;
use std::sync::Arc;

use clap::Args;
use kube::Client;
use tokio::sync::watch;

use crate::facts::{Ceiling, Connections, Policies, Watched};
use crate::metrics::Metrics;
use crate::webhook::Trust;

/// When the API server cannot reach the webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum FailurePolicy {
    /// What people and tools write into governed namespaces is refused.
    Fail,
    /// It is admitted unjudged.
    Ignore,
}

/// How the operator gets to read Secrets of governed namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum SecretAccess {
    /// It binds itself to the reader role in each namespace whose policy states `secrets`.
    OnDemand,
    /// An administrator binds it.
    Manual,
    /// It may read the Secrets of all namespaces.
    Cluster,
}

/// Options of the operator. Each can also be given as an environment variable.
#[derive(Clone, Debug, Args)]
pub struct OperatorArgs {
    /// Namespace of the operator itself, which is never governed
    #[arg(long, env = "POD_NAMESPACE", default_value = "portcullis-system")]
    pub namespace: String,

    /// Port of the webhook (HTTPS)
    #[arg(long, env = "PORTCULLIS_WEBHOOK_PORT", default_value_t = 9443)]
    pub webhook_port: u16,

    /// Port of /healthz, /readyz and /metrics (HTTP)
    #[arg(long, env = "PORTCULLIS_METRICS_PORT", default_value_t = 8080)]
    pub metrics_port: u16,

    /// Service in front of the webhook, in the operator's namespace
    #[arg(
        long,
        env = "PORTCULLIS_WEBHOOK_SERVICE",
        default_value = "portcullis-webhook"
    )]
    pub webhook_service: String,

    /// Address at which the API server reaches the webhook instead of the Service, such as https://127.0.0.1:9443, for
    /// an operator outside the cluster
    #[arg(long, env = "PORTCULLIS_WEBHOOK_URL")]
    pub webhook_url: Option<String>,

    /// Seconds that the API server waits for the webhook, from 1 to 30
    #[arg(long, env = "PORTCULLIS_WEBHOOK_TIMEOUT_SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=30))]
    pub webhook_timeout_seconds: u8,

    /// What happens to what people and tools write when the webhook does not answer
    #[arg(long, env = "PORTCULLIS_FAILURE_POLICY", value_enum, default_value = "Fail")]
    pub failure_policy: FailurePolicy,

    /// Name of both webhook configurations; the mutating ones are called in the order of their names, and ours is to
    /// come last
    #[arg(
        long,
        env = "PORTCULLIS_WEBHOOK_CONFIGURATION_NAME",
        default_value = "zz-portcullis"
    )]
    pub webhook_configuration_name: String,

    /// ClusterRole that owns what the operator makes for itself, so that uninstalling takes it away
    #[arg(long, env = "PORTCULLIS_OWNER_CLUSTER_ROLE")]
    pub owner_cluster_role: Option<String>,

    /// ConfigMap in the operator's namespace whose key enforcementCeiling holds for the whole cluster
    #[arg(long, env = "PORTCULLIS_CONFIG_MAP", default_value = "portcullis")]
    pub config_map: String,

    /// Secret in the operator's namespace in which it keeps its certificates
    #[arg(long, env = "PORTCULLIS_TLS_SECRET", default_value = "portcullis-webhook-tls")]
    pub tls_secret: String,

    /// Lease in the operator's namespace by which one replica is chosen to write
    #[arg(long, env = "PORTCULLIS_LEASE", default_value = "portcullis")]
    pub lease: String,

    /// How the operator gets to read Secrets of governed namespaces
    #[arg(
        long,
        env = "PORTCULLIS_SECRET_ACCESS",
        value_enum,
        default_value = "OnDemand"
    )]
    pub secret_access: SecretAccess,

    /// ClusterRole that may read Secrets, bound in a namespace when one of its policies states `secrets`
    #[arg(
        long,
        env = "PORTCULLIS_SECRET_READER_ROLE",
        default_value = "portcullis-secret-reader"
    )]
    pub secret_reader_role: String,

    /// ServiceAccount of the operator, the subject of these bindings
    #[arg(long, env = "PORTCULLIS_SERVICE_ACCOUNT", default_value = "portcullis")]
    pub service_account: String,

    /// Namespaces of ingress controllers, for the preset IngressController of network flows
    #[arg(
        long,
        env = "PORTCULLIS_INGRESS_CONTROLLER_NAMESPACES",
        value_delimiter = ',',
        default_value = "ingress-nginx"
    )]
    pub ingress_controller_namespaces: Vec<String>,
}

/// What every part of the operator shares.
#[derive(Clone)]
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// Connections for the watches of namespaces.
    pub connections: Arc<Connections>,
    /// The options.
    pub args: Arc<OperatorArgs>,
    /// The policies of all namespaces, compiled.
    pub policies: Arc<Policies>,
    /// What is known of the Secrets and ConfigMaps of governed namespaces.
    pub watched: Arc<Watched>,
    /// The cluster's ceiling.
    pub ceiling: Arc<Ceiling>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// By what the API server calls the webhook; `None` until the first certificates are made.
    pub trust: watch::Receiver<Option<Trust>>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}
