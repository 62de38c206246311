//! `portcullis operator`: how its parts are put together, and how they end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum_server::Handle;
use futures::FutureExt;
use futures::future::FusedFuture;
use kube::{Client, Config};
use portcullis_engine::policy::EXEMPT_NAMESPACES;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::context::{Context, OperatorArgs};
use crate::controller;
use crate::facts::{self, Connections, Policies};
use crate::metrics::Metrics;
use crate::webhook::{self, Limits, Readiness, Served, Trust};

/// How long requests still come after the process was told to end: a Service needs that long to learn of it.
const DRAIN: Duration = Duration::from_secs(5);

/// Longest that requests which were begun before are still answered.
const FINISH: Duration = Duration::from_secs(20);

/// Longest that the end waits for the Lease to be given back: otherwise it runs out by itself.
const GIVE_BACK: Duration = Duration::from_secs(2);

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
