//! `portcullis operator`: its options, and how its parts are put together.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum_server::Handle;
use clap::Args;
use futures::FutureExt;
use futures::future::FusedFuture;
use kube::{Client, Config};
use portcullis_engine::policy::EXEMPT_NAMESPACES;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::controller;
use crate::facts::{self, Ceiling, Connections, Policies, Watched};
use crate::metrics::Metrics;
use crate::webhook::{self, Limits, Readiness, Served, Trust};

/// How long requests still come after the process was told to end: a Service needs that long to learn of it.
const DRAIN: Duration = Duration::from_secs(5);

/// Longest that requests which were begun before are still answered.
const FINISH: Duration = Duration::from_secs(20);

/// Longest that the end waits for the Lease to be given back: otherwise it runs out by itself.
const GIVE_BACK: Duration = Duration::from_secs(2);

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

/// Runs the operator until the process is told to end: the webhook in every replica, the controller in the elected one.
///
/// # Errors
/// When the API server's address is not known, a port is taken, or a part that must not end ends.
pub async fn run(args: OperatorArgs) -> anyhow::Result<()> {
    let config = Config::infer()
        .await
        .context("the cluster's address is not known")?;
    let webhook = webhook::listen(args.webhook_port)?;
    let probes = webhook::listen(args.metrics_port)?;
    let (trusted, trust) = watch::channel(None);
    let context = context(config, args, trust)?;

    let (policies_listed, policies) = watch::channel(false);
    let (ceiling_listed, ceiling) = watch::channel(false);
    let served = Arc::new(Served::default());
    let (leave, leaving) = watch::channel(false);
    let readiness = Readiness {
        policies,
        ceiling,
        served: Arc::clone(&served),
        leaving: leaving.clone(),
    };
    let handle = Handle::new();
    let ended = signals()?;
    // Apart from the other parts, which it outlives until it has given its Lease back.
    let controlled = controlled(context.clone(), readiness.clone(), leaving);
    let mut controller = pin!(controlled.fuse());
    let parts = async {
        tokio::try_join!(
            webhook::serve(
                context.clone(),
                Arc::clone(&served),
                Limits::default(),
                webhook,
                handle.clone()
            ),
            endless(
                "probes",
                webhook::serve_probes(context.clone(), readiness.clone(), probes)
            ),
            endless(
                "policies",
                done(facts::watch_policies(context.clone(), policies_listed))
            ),
            endless(
                "ceiling",
                done(facts::watch_ceiling(context.clone(), ceiling_listed))
            ),
            endless("namespaces", done(facts::watch_namespaces(context.clone()))),
            endless(
                "certificates",
                done(webhook::keep_certificates(
                    context.clone(),
                    served.clone(),
                    trusted
                ))
            ),
        )
    };
    let end = async {
        ended.await;
        info!("Told to end");
        leave.send_replace(true);
        tokio::time::sleep(DRAIN).await;
        handle.graceful_shutdown(Some(FINISH));
        while handle.connection_count() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let result = tokio::select! {
        () = end => Ok(()),
        failed = parts => failed.map(drop),
        Err(error) = &mut controller => Err(error.context("controller")),
    };
    leave.send_replace(true);
    if !controller.is_terminated() {
        // Whether it could give the Lease back or not, the process ends.
        let _ = tokio::time::timeout(GIVE_BACK, controller).await;
    }
    info!("Ended");
    result
}

fn context(
    config: Config,
    args: OperatorArgs,
    trust: watch::Receiver<Option<Trust>>,
) -> anyhow::Result<Context> {
    let exempt = EXEMPT_NAMESPACES.iter().map(|it| (*it).to_owned());
    let exempt = exempt.chain([args.namespace.clone()]).collect();
    Ok(Context {
        connections: Arc::new(Connections::to(&config)?),
        client: Client::try_from(config)?,
        policies: Arc::new(Policies::new(exempt)),
        watched: Arc::default(),
        ceiling: Arc::default(),
        metrics: Arc::new(Metrics::new()?),
        trust,
        args: Arc::new(args),
    })
}

/// The controller, which must not act on an index of policies that is not whole.
async fn controlled(
    context: Context,
    readiness: Readiness,
    leaving: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let (mut policies, mut ceiling) = (readiness.policies, readiness.ceiling);
    policies.wait_for(|listed| *listed).await?;
    ceiling.wait_for(|listed| *listed).await?;
    controller::run(context, leaving).await
}

async fn done(part: impl Future<Output = ()>) -> anyhow::Result<()> {
    part.await;
    Ok(())
}

/// The end of a part that must not end is an error, also when the part itself sees none.
async fn endless(name: &'static str, part: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    part.await.context(name)?;
    anyhow::bail!("{name} ended")
}

/// Resolves when the process is told to end.
fn signals() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
