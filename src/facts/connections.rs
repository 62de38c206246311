//! Connections for the watches of namespaces. Each of them over HTTP/1.1 would need one of its own, with a TLS session
//! and buffers: with a thousand namespaces most of the operator's memory. Over HTTP/2 many share one.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use rustls_pki_types::ServerName;
use tokio::sync::{Semaphore, SemaphorePermit};
use tower::{BoxError, ServiceExt};

/// Watches that share a connection. HTTP/2 recommends to servers that they allow no fewer than 100 at a time; an API
/// server allows that many, and one that is waiting for its turn would tell of nothing.
const SHARED_BY: usize = 50;

/// Pause after which a silent connection is asked whether it still stands: a network that drops it tells nobody.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Time for the answer to that.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(15);

/// Watches that list at a time. All of them begin when the operator starts: at once they would open a connection each
/// before the first could be shared, and keep the API server from everything else.
const LISTING: usize = 8;

/// Longest time for a page of a list: one that never comes must not keep the others waiting.
pub(super) const PAGE_TIME: Duration = Duration::from_secs(30);

/// The connections that are in use.
pub struct Connections {
    connect: Box<dyn Fn() -> Client + Send + Sync>,
    open: Mutex<Vec<Connection>>,
    listing: Semaphore,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

/// A share of a connection, for one watch; given back when it is dropped.
#[derive(Clone)]
pub struct Connection {
    /// Uses the connection, and no other one.
    pub client: Client,
    shares: Arc<()>,
}

impl Connections {
    /// Connections that `connect` makes.
    pub fn new(connect: impl Fn() -> Client + Send + Sync + 'static) -> Self {
        Self {
            connect: Box::new(connect),
            open: Mutex::default(),
            listing: Semaphore::new(LISTING),
        }
    }

    /// Connections to the API server of this configuration, over HTTP/2 where it speaks that.
    ///
    /// # Errors
    /// When the configuration's certificates or credentials cannot be used.
    pub fn to(config: &Config) -> anyhow::Result<Self> {
        let connector = connector(config)?;
        let (base_uri, headers, auth) = (
            config.base_uri_layer(),
            config.extra_headers_layer()?,
            config.auth_layer()?,
        );
        let default_namespace = config.default_namespace.clone();
        Ok(Self::new(move || {
            let http = http(connector.clone()).map_err(BoxError::from);
            let stack = ClientBuilder::new(http, default_namespace.as_str()).with_layer(&headers);
            match &auth {
                Some(auth) => stack.with_layer(auth).with_layer(&base_uri).build(),
                None => stack.with_layer(&base_uri).build(),
            }
        }))
    }

    /// The turn of one watch to list, to be held while it does.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.listing.acquire().await.ok()
    }

    /// A share of a connection that has room for one more.
    pub(super) fn share(&self) -> Connection {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Our own share of each is one.
        open.retain(|it| Arc::strong_count(&it.shares) > 1);
        let has_room = |it: &&Connection| Arc::strong_count(&it.shares) <= SHARED_BY;
        if let Some(connection) = open.iter().find(has_room) {
            return connection.clone();
        }
        let connection = Connection {
            client: (self.connect)(),
            shares: Arc::default(),
        };
        open.push(connection.clone());
        connection
    }
}

type Https = TimeoutConnector<HttpsConnector<HttpConnector>>;

fn connector(config: &Config) -> anyhow::Result<Https> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    let mut builder = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = ServerName::try_from(name.clone())?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let mut connector = TimeoutConnector::new(builder.enable_all_versions().wrap_connector(connector));
    // Of the TLS handshake too.
    connector.set_connect_timeout(config.connect_timeout);
    Ok(connector)
}

fn http(connector: Https) -> legacy::Client<Https, Body> {
    legacy::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .build(connector)
}

#[cfg(test)]
mod tests {
    use axum::Router;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_shared_by_so_many_and_closed_with_the_last() {
        let connections = Connections::new(|| Client::new(Router::new(), "default"));
        let open = |connections: &Connections| connections.open.lock().unwrap().len();
        let mut shares: Vec<_> = (0..SHARED_BY).map(|_| connections.share()).collect();
        assert_eq!(open(&connections), 1);
        let other = connections.share();
        assert_eq!(open(&connections), 2);
        shares.pop();
        shares.push(connections.share());
        assert_eq!(open(&connections), 2, "the room of one that ended is taken again");
        drop(other);
        shares.push(connections.share());
        assert_eq!(open(&connections), 2);
        shares.clear();
        let _last = connections.share();
        assert_eq!(open(&connections), 1);
    }
}
