//! Speaks to a webhook as an API server does: HTTP/1.1 over TLS, on connections that stay open. One thread each, so that
//! nothing of the measured process' runtime is shared.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

/// Longest wait for any answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that [`Target::load`] keeps open.
pub const CONNECTIONS: usize = 8;

/// A webhook of this machine.
#[derive(Clone, Debug)]
pub struct Target {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Target {
    /// The webhook at `port` of 127.0.0.1, trusted by the authorities in `ca_bundle` (PEM).
    pub fn new(port: u16, ca_bundle: &str) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(ca_bundle.as_bytes()) {
            roots.add(authority?)?;
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            tls: Arc::new(tls),
        })
    }

    /// Opens a connection.
    pub fn connect(&self) -> anyhow::Result<Connection> {
        let socket = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        let name = ServerName::from(self.address.ip());
        let session = ClientConnection::new(Arc::clone(&self.tls), name)?;
        Ok(Connection(BufReader::new(StreamOwned::new(session, socket))))
    }

    /// Sends `count` requests, `requests` in turn, over all connections at once, each answered before the next. Every
    /// answer must admit.
    pub fn load(&self, requests: &[Request], count: usize) -> anyhow::Result<Duration> {
        let started = Instant::now();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTIONS)
                .map(|first| scope.spawn(move || self.load_one(requests, first, count / CONNECTIONS)))
                .collect();
            for thread in threads {
                match thread.join() {
                    Ok(result) => result?,
                    Err(_) => bail!("a connection's thread panicked"),
                }
            }
            Ok(())
        })?;
        Ok(started.elapsed())
    }

    /// The share of one connection; each begins with another request.
    fn load_one(&self, requests: &[Request], first: usize, count: usize) -> anyhow::Result<()> {
        let mut connection = self.connect()?;
        for request in requests.iter().cycle().skip(first).take(count) {
            let answer = connection.send(request)?;
            ensure!(
                is_admitted(&answer),
                "{} must be admitted: {answer}",
                request.what
            );
        }
        Ok(())
    }
}

/// Whether an answer admits.
pub fn is_admitted(answer: &str) -> bool {
    answer.contains(r#""allowed":true"#)
}

/// One POST, written out once.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it asks about, for messages.
    what: String,
    bytes: Vec<u8>,
}

impl Request {
    /// A POST of `body` to `path`, with the headers that an API server sends.
    pub fn new(path: &str, what: &str, body: &str) -> Self {
        let text = format!(
            "POST {path}?timeout=5s HTTP/1.1\r\nHost: webhook\r\nUser-Agent: kube-apiserver-admission\r\nContent-Length: {}\r\nAccept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n{body}",
            body.len()
        );
        Self {
            what: what.to_owned(),
            bytes: text.into_bytes(),
        }
    }
}

/// One open connection.
#[derive(Debug)]
pub struct Connection(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Connection {
    /// Sends a request; the body of its answer, which must have status 200.
    pub fn send(&mut self, request: &Request) -> anyhow::Result<String> {
        self.0.get_mut().write_all(&request.bytes)?;
        let status = self.line()?;
        let mut length = None;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = Some(value.trim().parse()?);
            }
        }
        let mut body = vec![0; length.context("the answer states its length")?];
        self.0.read_exact(&mut body)?;
        let body = String::from_utf8(body)?;
        ensure!(status == "HTTP/1.1 200 OK", "{}: {status}: {body}", request.what);
        Ok(body)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.0.read_line(&mut line)? > 0, "the connection was closed");
        Ok(line.trim_end().to_owned())
    }
}
