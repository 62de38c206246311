//! The two listeners: the webhook over TLS, and probes and metrics in plain text.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

use super::handler::{self, Unread, Webhook, time_limit};
use super::tls::{Served, server_config};
use crate::context::Context;
use crate::error::describe;

/// Bytes that are kept of a body that is not read: the API server writes fewer before the objects.
const MAX_HEAD: usize = 64 * 1024;

/// Heads that are held at the same time, beside the bodies. Each is held for as long as the rest of its body is on its way.
const HEADS: usize = 128;

/// How much and how long a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest body in bytes; of a larger one only the head is kept.
    pub body: usize,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for the head of a request, counted from the end of the request before.
    pub head: Duration,
    /// Time for the body of a request, as far as the API server waits that long.
    pub body_time: Duration,
    /// Bytes of the bodies of all requests that are held at the same time.
    pub bodies: usize,
    /// Time that a request waits for room among them; at most half of what the API server waits.
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
    /// Bytes of bodies that may still be held.
    room: Arc<Semaphore>,
    /// Heads that may still be held, where a body finds no room.
    heads: Arc<Semaphore>,
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
            heads: Arc::new(Semaphore::new(HEADS)),
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
    let started = Instant::now();
    let (body, _held) = match read(request, app, started).await {
        Ok(read) => read,
        Err(refusal) => return unread(refusal),
    };
    let answer = match body {
        Received::Whole(bytes) => handler::answer(&app.context, webhook, &bytes, started).await,
        Received::Head(head, why) => handler::answer_unread(&app.context, webhook, &head, why, started),
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
    /// Its first bytes, and why there are no more.
    Head(Vec<u8>, Unread),
}

/// The body of a request, if it is JSON, and its room, to be held as long. `started` is when the request came.
async fn read<'a>(
    request: Request,
    app: &'a App,
    started: Instant,
) -> Result<(Received, SemaphorePermit<'a>), Refusal> {
    let limits = app.limits;
    check_type(request.headers())?;
    // A body that does not state its size may be of any that is accepted.
    let size = content_length(request.headers()).unwrap_or(limits.body);
    // Whoever asks us must get an answer before it stops waiting: silence admits the object where Ignore is set.
    let limit = time_limit(&app.context);
    let room = match size > limits.body {
        true => Err(Unread::TooLarge(limits.body)),
        false => hold(&app.room, size, limits.wait.min(limit / 2))
            .await
            .ok_or(Unread::NoRoom),
    };
    let time = limits.body_time.min(limit.saturating_sub(started.elapsed()));
    let end = tokio::time::Instant::now() + time;
    let (room, most, unread) = match room {
        Ok(room) => (room, size, None),
        Err(why) => {
            let head = hold(&app.heads, 1, time).await;
            let head = head.ok_or_else(|| (why.status(), why.to_string()))?;
            (head, MAX_HEAD, Some(why))
        }
    };
    let mut kept = Vec::with_capacity(size.min(most));
    let body = collect(request.into_body(), most, &mut kept);
    let unread = match tokio::time::timeout_at(end, body).await {
        Ok(Ok(true)) => unread,
        Ok(Ok(false)) => Some(unread.unwrap_or(Unread::TooLarge(limits.body))),
        Ok(Err(error)) => {
            let text = format!("the body broke off: {}", describe(&error));
            return Err((StatusCode::BAD_REQUEST, text));
        }
        Err(_) => Some(unread.unwrap_or(Unread::Slow)),
    };
    let body = match unread {
        None => Received::Whole(kept),
        Some(why) => {
            kept.truncate(MAX_HEAD);
            kept.shrink_to_fit();
            Received::Head(kept, why)
        }
    };
    Ok((body, room))
}

/// Room for `amount`, once there is; `None` when there is none in `time`.
async fn hold(room: &Semaphore, amount: usize, time: Duration) -> Option<SemaphorePermit<'_>> {
    let permits = u32::try_from(amount).unwrap_or(u32::MAX);
    let permit = tokio::time::timeout(time, room.acquire_many(permits)).await;
    permit.ok()?.ok()
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Keeps no more than `limit` bytes, and reads the rest all the same: while the API server is still writing it takes a
/// closed connection for our outage, whatever was answered. Returns whether all is kept.
async fn collect(body: Body, limit: usize, kept: &mut Vec<u8>) -> Result<bool, axum::Error> {
    let mut is_whole = true;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk: Bytes = chunk?;
        let room = limit - kept.len();
        is_whole &= chunk.len() <= room;
        kept.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
    }
    Ok(is_whole)
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
