//! The server of B2 in its three modes: TLS, HTTP and one worker thread are the same in all of them. It ends when its
//! standard input does, so that it never outlives who started it.

use std::convert::Infallible;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use clap::{Parser, ValueEnum};
use hyper_util::rt::TokioTimer;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use kube::{Client, Resource};
use portcullis::context::{Context, OperatorArgs};
use portcullis::facts::{Connections, Policies, watch_namespaces};
use portcullis::metrics::Metrics;
use portcullis::webhook::{self, Limits, Served, Token, Trust};
use portcullis_engine::Fact;
use rustls::ServerConfig;
use rustls::crypto::ring;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::mix;

/// What only the API server knows of the webhook's paths.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What the server does with a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Portcullis' own webhook.
    Evaluate,
    /// The whole review parsed into the usual types, then admitted.
    ParseOnly,
    /// Admitted unread.
    AllowAll,
}

/// Serves until standard input ends. Prints port and certificate, as one line of JSON, once it listens.
pub fn run(mode: Mode) -> anyhow::Result<()> {
    std::thread::spawn(|| {
        // Whatever ends it, an error too, the measurement is over.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(serve(mode))
}

async fn serve(mode: Mode) -> anyhow::Result<()> {
    let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let certificate = identity.cert.pem();
    let served = Arc::new(Served::default());
    served.install(&certificate, &identity.signing_key.serialize_pem())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let announcement = json!({"port": listener.local_addr()?.port(), "certificate": certificate});
    match mode {
        Mode::Evaluate => {
            let context = context().await?;
            println!("{announcement}");
            webhook::serve(context, served, Limits::default(), listener, Handle::new()).await
        }
        Mode::ParseOnly | Mode::AllowAll => {
            println!("{announcement}");
            serve_floor(mode, served, listener).await
        }
    }
}

/// The webhook's own way of serving, around another handler.
async fn serve_floor(mode: Mode, served: Arc<Served>, listener: TcpListener) -> anyhow::Result<()> {
    let limits = Limits::default();
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(served);
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor =
        RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(tls))).handshake_timeout(limits.handshake);
    let mut server = axum_server::from_tcp(listener)?.http1_only().acceptor(acceptor);
    let builder = server.http_builder();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head);
    server
        .serve(floor(mode).into_make_service())
        .await
        .context("the server ended")
}

fn floor(mode: Mode) -> Router {
    if mode == Mode::AllowAll {
        return Router::new().route("/{kind}", post(allow));
    }
    // One path for each kind, as a webhook configuration does it for typed handlers.
    Router::new()
        .route("/Deployment", post(parse::<Deployment>))
        .route("/StatefulSet", post(parse::<StatefulSet>))
        .route("/DaemonSet", post(parse::<DaemonSet>))
        .route("/Job", post(parse::<Job>))
        .route("/CronJob", post(parse::<CronJob>))
        .route("/Pod", post(parse::<Pod>))
}

async fn allow(body: Bytes) -> Response {
    // The body is received in full and not looked at.
    drop(body);
    let answer = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"","allowed":true}}"#;
    ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
}

async fn parse<K: Resource<DynamicType = ()> + DeserializeOwned>(body: Bytes) -> Response {
    match typed::<K>(&body) {
        Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

fn typed<K: Resource<DynamicType = ()> + DeserializeOwned>(body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let review: AdmissionReview<K> = serde_json::from_slice(body)?;
    let request: AdmissionRequest<K> = review.try_into()?;
    Ok(serde_json::to_vec(
        &AdmissionResponse::from(&request).into_review(),
    )?)
}

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    args: OperatorArgs,
}

/// The operator's context with the mix' policy and facts in memory.
async fn context() -> anyhow::Result<Context> {
    let policies = Policies::new(Vec::new());
    policies.apply(&DeserializeGuard(Ok(mix::policy()?)));
    let token = Token::parse(TOKEN).context("the token has the form of one")?;
    let trust = Trust {
        ca_bundle: Vec::new(),
        token,
    };
    let client = Client::new(cluster(), mix::NAMESPACE);
    let context = Context {
        connections: Arc::new(Connections::new({
            let client = client.clone();
            move || client.clone()
        })),
        client,
        args: Arc::new(Options::try_parse_from(["bench"])?.args),
        policies: Arc::new(policies),
        watched: Arc::default(),
        ceiling: Arc::default(),
        metrics: Arc::new(Metrics::new()?),
        trust: watch::channel(Some(trust)).1,
    };
    tokio::spawn(watch_namespaces(context.clone()));
    let mut changes = context.watched.subscribe();
    while !is_filled(&context) {
        let change = tokio::time::timeout(Duration::from_secs(5), changes.changed());
        change.await.context("the facts must be there within 5 s")??;
    }
    Ok(context)
}

fn is_filled(context: &Context) -> bool {
    let watched = &context.watched;
    let mut secrets = mix::secrets()
        .into_keys()
        .map(|it| watched.secret(mix::NAMESPACE, it));
    let mut config_maps = mix::config_maps()
        .into_keys()
        .map(|it| watched.config_map(mix::NAMESPACE, it));
    secrets.all(|it| matches!(it, Fact::Known(_))) && config_maps.all(|it| matches!(it, Fact::Known(_)))
}

/// Lists what the mix refers to, from memory, and never tells of a change: the operator's watches fill its facts from it
/// before the measurement and do nothing while it runs.
fn cluster() -> Router {
    let secrets = mix::secrets().into_iter().map(|(name, keys)| {
        let data: serde_json::Map<_, _> = keys
            .into_iter()
            .map(|key| (key.to_owned(), json!("Y2hhbmdlZA==")))
            .collect();
        json!({"metadata": {"name": name, "namespace": mix::NAMESPACE, "uid": name}, "data": data})
    });
    let config_maps = mix::config_maps().into_iter().map(
        |(name, data)| json!({"metadata": {"name": name, "namespace": mix::NAMESPACE, "uid": name}, "data": data}),
    );
    let of_namespace = format!("/api/v1/namespaces/{}/secrets", mix::NAMESPACE);
    Router::new()
        .route(&of_namespace, list("SecretList", secrets.collect()))
        .route("/api/v1/configmaps", list("ConfigMapList", config_maps.collect()))
}

fn list(kind: &'static str, items: Vec<Value>) -> axum::routing::MethodRouter {
    let list =
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items})
            .to_string();
    get(|RawQuery(query): RawQuery| async move {
        let is_watch = query.is_some_and(|it| it.split('&').any(|it| it == "watch=true"));
        if is_watch {
            return Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>());
        }
        Body::from(list)
    })
}
