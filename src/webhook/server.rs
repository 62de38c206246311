//! The two listeners: the webhook over TLS, and probes and metrics in plain text.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use futures::StreamExt;
use hyper_util::rt::TokioTimer;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tracing::info;

use super::handler::{self, Webhook};
use super::tls::{Served, server_config};
use crate::context::Context;
use crate::error::describe;

/// Bytes that are kept of a body that is too large: the API server writes fewer before the objects.
const MAX_HEAD: usize = 64 * 1024;

/// How much and how long a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest body in bytes; of a larger one only the head is kept.
    pub body: usize,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for the head of a request, counted from the end of the request before.
    pub head: Duration,
    /// Time for the body of a request.
    pub body_time: Duration,
    /// Bytes of the bodies of all requests that are held at the same time.
    pub bodies: usize,
    /// Time that a request waits for room among them.
    pub wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Twice the largest object that etcd takes, with its old version, and room for escapes.
            body: 8 * 1024 * 1024,
            handshake: Duration::from_secs(10),
            // The API server keeps an idle connection for 90 s: closing it first could meet a request on its way.
            head: Duration::from_secs(100),
            body_time: Duration::from_secs(10),
            // With what is parsed of them, well below the memory that the chart grants.
            bodies: 64 * 1024 * 1024,
            wait: Duration::from_secs(2),
        }
    }
}

#[derive(Clone)]
struct App {
    context: Context,
    limits: Limits,
    /// Bytes that may still be held.
    room: Arc<Semaphore>,
}

/// Serves the webhook until `handle` is told to end.
///
/// # Errors
/// When the socket cannot be used.
pub async fn serve(
    context: Context,
    served: Arc<Served>,
    limits: Limits,
    listener: TcpListener,
    handle: Handle<SocketAddr>,
) -> anyhow::Result<()> {
    let app = Router::new()
        .route("/validate/{token}", post(validate))
        .route("/mutate/{token}", post(mutate))
        .route("/policies/{token}", post(policies))
        .with_state(App {
            context,
            limits,
            room: Arc::new(Semaphore::new(limits.bodies)),
        });
    let config = RustlsConfig::from_config(Arc::new(server_config(served)?));
    let acceptor = RustlsAcceptor::new(config).handshake_timeout(limits.handshake);
    let mut server = axum_server::from_tcp(listener)?
        .http1_only()
        .handle(handle)
        .acceptor(acceptor);
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head);
    server
        .serve(app.into_make_service())
        .await
        .context("the webhook's server ended")
}

/// Opens a port on all addresses, of IPv4 too where the machine has both.
///
/// # Errors
/// When the port is taken.
pub fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = TcpListener::bind(any)
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
        .with_context(|| format!("port {port} cannot be opened"))?;
    listener.set_nonblocking(true)?;
    info!(port, "Listening");
    Ok(listener)
}

async fn validate(State(app): State<App>, Path(token): Path<String>, request: Request) -> Response {
    answer(&app, Webhook::Validate, &token, request).await
}

async fn mutate(State(app): State<App>, Path(token): Path<String>, request: Request) -> Response {
    answer(&app, Webhook::Mutate, &token, request).await
}

async fn policies(State(app): State<App>, Path(token): Path<String>, request: Request) -> Response {
    answer(&app, Webhook::Policies, &token, request).await
}

async fn answer(app: &App, webhook: Webhook, token: &str, request: Request) -> Response {
    // Nobody but the API server is answered; to everybody else there is nothing here.
    if !is_api_server(&app.context, token) {
        return unread(StatusCode::NOT_FOUND);
    }
    let (body, _held) = match read(request, app).await {
        Ok(read) => read,
        Err(refusal) => return unread(refusal),
    };
    let answer = match body {
        Received::Whole(bytes) => handler::answer(&app.context, webhook, &bytes).await,
        Received::TooLarge(head) => handler::answer_too_large(&app.context, webhook, &head, app.limits.body),
    };
    match answer {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Whether the path was one that only the API server knows.
fn is_api_server(context: &Context, token: &str) -> bool {
    context
        .trust
        .borrow()
        .as_ref()
        .is_some_and(|it| it.token.is(token))
}

/// An answer that does not wait for the body: what is still on its way will not be read.
fn unread(refusal: impl IntoResponse) -> Response {
    ([(header::CONNECTION, HeaderValue::from_static("close"))], refusal).into_response()
}

type Refusal = (StatusCode, String);

/// What is kept of a body.
enum Received {
    /// All of it.
    Whole(Vec<u8>),
    /// Its first bytes, of more than are accepted.
    TooLarge(Vec<u8>),
}

/// The body of a request, if it is JSON at a pace that is accepted, and its room, to be held as long.
async fn read<'a>(request: Request, app: &'a App) -> Result<(Received, SemaphorePermit<'a>), Refusal> {
    let limits = app.limits;
    check_type(request.headers())?;
    // A body that does not state its size may be of any that is accepted.
    let stated = content_length(request.headers());
    let kept = match stated {
        Some(stated) if stated > limits.body => MAX_HEAD,
        Some(stated) => stated,
        None => limits.body,
    };
    let room = hold(app, kept).await?;
    let body = collect(request.into_body(), kept, stated.unwrap_or_default());
    match tokio::time::timeout(limits.body_time, body).await {
        Ok(Ok(body)) => Ok((body, room)),
        Ok(Err(error)) => Err((
            StatusCode::BAD_REQUEST,
            format!("the body broke off: {}", describe(&error)),
        )),
        Err(_) => {
            let text = format!("the body must arrive within {} s", limits.body_time.as_secs());
            Err((StatusCode::REQUEST_TIMEOUT, text))
        }
    }
}

/// Room for `bytes`, once there is.
async fn hold(app: &App, bytes: usize) -> Result<SemaphorePermit<'_>, Refusal> {
    let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
    match tokio::time::timeout(app.limits.wait, app.room.acquire_many(permits)).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => {
            let text = "too many requests are being answered: try again".to_owned();
            Err((StatusCode::SERVICE_UNAVAILABLE, text))
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Keeps no more than `limit` bytes, and reads the rest all the same: while the API server is still writing it takes a
/// closed connection for our outage, whatever was answered.
async fn collect(body: Body, limit: usize, expected: usize) -> Result<Received, axum::Error> {
    let mut kept = Vec::with_capacity(expected.min(limit));
    let mut is_whole = true;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk: Bytes = chunk?;
        let room = limit - kept.len();
        is_whole &= chunk.len() <= room;
        kept.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
    }
    if is_whole {
        return Ok(Received::Whole(kept));
    }
    kept.truncate(MAX_HEAD);
    kept.shrink_to_fit();
    Ok(Received::TooLarge(kept))
}

fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| headers.get(name).map(|it| it.to_str().unwrap_or_default());
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is_plain = text(header::CONTENT_ENCODING).is_none_or(|it| it.eq_ignore_ascii_case("identity"));
    if essence.eq_ignore_ascii_case("application/json") && is_plain {
        return Ok(());
    }
    let text = "the body must be application/json without a content encoding";
    Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, text.to_owned()))
}

/// Whether this replica can answer admissions.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Set once all policies have been read.
    pub policies: watch::Receiver<bool>,
    /// Set once the cluster's ceiling has been read.
    pub ceiling: watch::Receiver<bool>,
    /// What is served.
    pub served: Arc<Served>,
    /// Set when the process is about to end.
    pub leaving: watch::Receiver<bool>,
}

impl Readiness {
    /// What is waited for; `None` when nothing is.
    fn obstacle(&self) -> Option<&'static str> {
        if *self.leaving.borrow() {
            Some("the process is about to end")
        } else if !*self.policies.borrow() {
            Some("policies have not been read yet")
        } else if !*self.ceiling.borrow() {
            Some("the enforcement ceiling has not been read yet")
        } else if !self.served.is_ready() {
            Some("there is no certificate yet")
        } else {
            None
        }
    }
}

/// Serves `/healthz`, `/readyz` and `/metrics`. Ends only with an error.
///
/// # Errors
/// When the socket cannot be used.
pub async fn serve_probes(
    context: Context,
    readiness: Readiness,
    listener: TcpListener,
) -> anyhow::Result<()> {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(move || async move { ready(&readiness) }))
        .route("/metrics", get(move || async move { metrics(&context) }));
    axum_server::from_tcp(listener)?
        .http1_only()
        .serve(app.into_make_service())
        .await
        .context("the server of probes and metrics ended")
}

fn ready(readiness: &Readiness) -> Refusal {
    match readiness.obstacle() {
        None => (StatusCode::OK, "ok".to_owned()),
        Some(obstacle) => (StatusCode::SERVICE_UNAVAILABLE, obstacle.to_owned()),
    }
}

fn metrics(context: &Context) -> Response {
    let (accepted, invalid) = context.policies.counts();
    let count = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
    let text = context
        .metrics
        .render(count(accepted), count(invalid), context.ceiling.get());
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, describe(&error)).into_response(),
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
