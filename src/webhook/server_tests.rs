//! What a hostile or odd client meets: the real server, over real TLS, without a cluster behind it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, FromArgMatches};
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::{Client, Config};
use rstest::rstest;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::*;
use crate::context::OperatorArgs;
use crate::facts::{Connections, Policies};
use crate::metrics::Metrics;
use crate::webhook::certificates::{Certificates, renew};
use crate::webhook::{Token, Trust};

const LIMITS: Limits = Limits {
    body: 8 * 1024 * 1024,
    handshake: Duration::from_millis(500),
    head: Duration::from_millis(500),
    body_time: Duration::from_secs(1),
    bodies: 20 * 1024 * 1024,
    wait: Duration::from_millis(100),
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const REVIEW: &str = r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request":
    {"uid": "1", "operation": "DELETE", "namespace": "agents", "name": "api", "oldObject": null, "object": null}}"#;

/// A running webhook.
struct Webhook {
    address: SocketAddr,
    certificates: Certificates,
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

impl Webhook {
    fn start() -> Result<Self> {
        let names = BTreeSet::from(["localhost".to_owned()]);
        let certificates = renew(None, &names, Timestamp::now())?.expect("there were none");
        let served = Arc::new(Served::default());
        served.install(&certificates.certificate, &certificates.key)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let handle = Handle::new();
        tokio::spawn(serve(context()?, served, LIMITS, listener, handle));
        Ok(Self {
            address,
            certificates,
        })
    }

    fn tcp(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }

    fn connect(&self) -> Result<Connection> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(
            self.certificates.ca_bundle.as_bytes(),
        )?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
        Ok(StreamOwned::new(connection, self.tcp()?))
    }

    /// Sends a whole request; status and body of the answer.
    fn ask(&self, request: &[u8]) -> Result<(u16, String)> {
        let mut connection = self.connect()?;
        connection.write_all(request)?;
        answer_of(&mut connection)
    }
}

/// Reads until the server closes; it does not say goodbye where it refuses to read on.
fn answer_of(connection: &mut Connection) -> Result<(u16, String)> {
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = connection.read(&mut chunk) {
        answer.extend_from_slice(&chunk[..count]);
    }
    let answer = String::from_utf8(answer)?;
    let status = answer.split(' ').nth(1).unwrap_or("0").parse()?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok((status, body.to_owned()))
}

fn context() -> Result<Context> {
    let trust = Trust {
        ca_bundle: Vec::new(),
        token: Token::parse(TOKEN).expect("it has the form of one"),
    };
    let matches =
        OperatorArgs::augment_args(clap::Command::new("operator")).try_get_matches_from(["operator"])?;
    let config = Config::new("http://127.0.0.1:1".parse()?);
    let policies = Policies::new(Vec::new());
    for (namespace, enforcement) in [("agents", "Deny"), ("adopting", "Warn")] {
        policies.apply(&DeserializeGuard(Ok(serde_json::from_value(json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy",
            "metadata": {"name": "magsag", "namespace": namespace},
            "spec": {"rulesVersion": "v1", "environment": "Production", "enforcement": enforcement,
                "workloads": {"scope": "Namespace"}, "http": {}},
        }))?)));
    }
    Ok(Context {
        connections: Arc::new(Connections::to(&config)?),
        client: Client::try_from(config)?,
        args: Arc::new(OperatorArgs::from_arg_matches(&matches)?),
        policies: Arc::new(policies),
        watched: Arc::default(),
        ceiling: Arc::default(),
        metrics: Arc::new(Metrics::new()?),
        trust: watch::channel(Some(trust)).1,
    })
}

fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path}/{TOKEN} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The head of a request with a body of `size` bytes, of which none is sent yet.
fn begun(size: usize) -> String {
    format!("POST /validate/{TOKEN} HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: {size}\r\n\r\n")
}

const JSON: &str = "Content-Type: application/json\r\n";

/// Runs blocking code of a client beside the server.
async fn client<T: Send + 'static>(run: impl FnOnce(&Webhook) -> Result<T> + Send + 'static) -> T {
    let webhook = Webhook::start().expect("the webhook starts");
    let result = tokio::task::spawn_blocking(move || run(&webhook)).await;
    result.expect("the client runs").expect("the client is answered")
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_a_deletion_is_allowed_with_the_uid_that_was_sent() {
    let (status, body) = client(|it| it.ask(&post("/validate", JSON, REVIEW.as_bytes()))).await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"1","allowed":true}}"#
    );
}

#[rstest]
#[case::content_type(
    "/validate",
    "Content-Type: application/yaml\r\n",
    "{}",
    415,
    "the body must be application/json without a content encoding"
)]
#[case::no_type(
    "/validate",
    "",
    "{}",
    415,
    "the body must be application/json without a content encoding"
)]
#[case::gzip(
    "/validate",
    "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
    "{}",
    415,
    "the body must be application/json without a content encoding"
)]
#[case::path("/validat", JSON, REVIEW, 404, "")]
#[case::broken(
    "/mutate",
    JSON,
    "{",
    400,
    "the body must be one JSON object: EOF while parsing an object at line 1 column 1"
)]
#[case::trailing(
    "/policies",
    JSON,
    "{} {}",
    400,
    "the body must be one JSON object: trailing characters at line 1 column 4"
)]
#[case::nothing(
    "/validate",
    JSON,
    "{}",
    400,
    "`apiVersion` and `kind` must be admission.k8s.io/v1 and AdmissionReview, got `` and ``"
)]
#[tokio::test(flavor = "multi_thread")]
async fn r23_r24_what_is_no_review_is_refused(
    #[case] path: &'static str,
    #[case] headers: &'static str,
    #[case] body: &'static str,
    #[case] status: u16,
    #[case] text: &str,
) {
    let answer = client(move |it| it.ask(&post(path, headers, body.as_bytes()))).await;
    assert_eq!(answer, (status, text.to_owned()));
}

#[rstest]
#[case("/validate")]
#[case("/validate/")]
#[case("/validate/0123456789abcdef")]
#[case("/mutate/0000000000000000000000000000000000000000000000000000000000000000")]
#[case("/policies/0000000000000000000000000000000000000000000000000000000000000000")]
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_know_the_token_is_not_answered(#[case] path: &'static str) {
    let answer = client(move |it| {
        let request = post(path, JSON, REVIEW.as_bytes());
        it.ask(
            String::from_utf8(request)?
                .replacen(&format!("/{TOKEN} "), " ", 1)
                .as_bytes(),
        )
    });
    assert_eq!(answer.await, (404, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn r24_get_is_refused() {
    let request = format!("GET /validate/{TOKEN} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(client(move |it| it.ask(request.as_bytes())).await.0, 405);
}

/// A review as the API server writes it, of an Ingress that takes it beyond 8 MiB.
fn too_large(namespace: &str, operation: &str) -> String {
    let path = "\\u003c".repeat(LIMITS.body / 6 + 1);
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"42","kind":{{"group":"networking.k8s.io","version":"v1","kind":"Ingress"}},"resource":{{"group":"networking.k8s.io","version":"v1","resource":"ingresses"}},"name":"api","namespace":"{namespace}","operation":"{operation}","userInfo":{{"username":"alice"}},"object":{{"spec":{{"rules":[{{"http":{{"paths":[{{"path":"/{path}"}}]}}}}]}}}},"oldObject":null}}}}"#
    )
}

const TOO_LARGE: &str = "Ingress agents/api is too large to be judged: it must have at most 8388608 bytes as JSON, together with what it was before; make it smaller";

#[rstest]
#[case::create("/validate", "agents", "CREATE", false, TOO_LARGE)]
#[case::update("/mutate", "agents", "UPDATE", false, TOO_LARGE)]
#[case::deletion("/validate", "agents", "DELETE", true, "")]
#[case::where_nothing_is_refused(
    "/validate",
    "adopting",
    "CREATE",
    true,
    "Ingress adopting/api is too large to be judged: it must have at most 8388608 bytes as JSON, together with what it was b…"
)]
#[tokio::test(flavor = "multi_thread")]
async fn r21_a_review_of_more_than_8_mib_is_refused_unread_as_a_review(
    #[case] path: &'static str,
    #[case] namespace: &'static str,
    #[case] operation: &'static str,
    #[case] allowed: bool,
    #[case] text: &str,
) {
    let (status, body) =
        client(move |it| it.ask(&post(path, JSON, too_large(namespace, operation).as_bytes()))).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(said(&body, allowed), text);
    if !allowed {
        let review: Value = serde_json::from_str(&body).unwrap();
        let status = &review["response"]["status"];
        assert_eq!(status["code"], 413);
        assert_eq!(status["reason"], "RequestEntityTooLarge");
    }
}

/// What an answer to the question 42 says, as a refusal or as a warning; it must be `allowed`.
fn said(body: &str, allowed: bool) -> String {
    let review: Value = serde_json::from_str(body).unwrap();
    let response = &review["response"];
    assert_eq!(
        (&response["uid"], &response["allowed"]),
        (&json!("42"), &json!(allowed)),
        "{body}"
    );
    let said = if allowed {
        &response["warnings"][0]
    } else {
        &response["status"]["message"]
    };
    said.as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn r21_a_body_of_more_than_8_mib_that_is_no_review_is_answered_with_413() {
    let body = vec![b' '; LIMITS.body + 1];
    let answer = client(move |it| it.ask(&post("/validate", JSON, &body)));
    let text = "the body must have at most 8388608 bytes".to_owned();
    assert_eq!(answer.await, (413, text));
}

#[tokio::test(flavor = "multi_thread")]
async fn r21_a_review_that_grows_beyond_8_mib_is_refused_as_a_review() {
    let (status, body) = client(|it| {
        let mut connection = it.connect()?;
        let head = format!(
            "POST /validate/{TOKEN} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
        );
        write!(connection, "{head}{JSON}\r\n")?;
        for chunk in too_large("agents", "CREATE").as_bytes().chunks(1024 * 1024) {
            write!(connection, "{:x}\r\n", chunk.len())?;
            connection.write_all(chunk)?;
            connection.write_all(b"\r\n")?;
        }
        connection.write_all(b"0\r\n\r\n")?;
        answer_of(&mut connection)
    })
    .await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(TOO_LARGE), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r21_of_a_body_that_is_too_large_64_kib_are_held() {
    let status = client(|it| {
        // Together they state more than may be held of bodies that are accepted.
        let head = begun(LIMITS.bodies) + "{";
        let mut large = [it.connect()?, it.connect()?, it.connect()?];
        for connection in &mut large {
            connection.write_all(head.as_bytes())?;
            connection.flush()?;
        }
        std::thread::sleep(LIMITS.wait);
        Ok(it.ask(&post("/validate", JSON, REVIEW.as_bytes()))?.0)
    });
    assert_eq!(status.await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn r21_a_body_of_8_mib_is_answered() {
    let mut body = REVIEW.to_owned();
    body.push_str(&" ".repeat(LIMITS.body - body.len()));
    assert_eq!(
        client(move |it| it.ask(&post("/validate", JSON, body.as_bytes())))
            .await
            .0,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn r25_a_slow_head_ends_the_connection() {
    let took = client(|it| {
        let mut connection = it.connect()?;
        connection.write_all(b"POST /validate HTTP/1.1\r\nHost:")?;
        connection.flush()?;
        let started = Instant::now();
        answer_of(&mut connection).map_or_else(|_| Ok(started.elapsed()), |_| Ok(started.elapsed()))
    })
    .await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r25_a_slow_body_is_refused() {
    let answer = client(|it| {
        let mut connection = it.connect()?;
        write!(connection, "{}{{", begun(100))?;
        answer_of(&mut connection)
    })
    .await;
    assert_eq!(answer, (408, "the body did not arrive in time".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_held_are_bounded_and_their_room_is_given_back() {
    let answers = client(|it| {
        let head = begun(LIMITS.body);
        let mut large = REVIEW.to_owned();
        large.push_str(&" ".repeat(LIMITS.body - large.len()));
        let mut slow = [it.connect()?, it.connect()?];
        for connection in &mut slow {
            connection.write_all(head.as_bytes())?;
            connection.flush()?;
        }
        std::thread::sleep(LIMITS.wait);
        let beside = it.ask(&post("/validate", JSON, REVIEW.as_bytes()))?.0;
        let third = it.ask(head.as_bytes())?;
        for connection in &mut slow {
            assert_eq!(answer_of(connection)?.0, 408);
        }
        let after = it.ask(&post("/validate", JSON, large.as_bytes()))?.0;
        Ok((beside, third, after))
    });
    let (beside, third, after) = answers.await;
    assert_eq!((beside, after), (200, 200));
    assert_eq!(
        third,
        (503, "too many requests are being answered: try again".to_owned())
    );
}

/// A review as the API server writes it, of an Ingress that is small.
fn small(namespace: &str, operation: &str) -> String {
    too_large(namespace, operation).replace("\\u003c", "")
}

/// Takes all the room there is for bodies, for as long as the connections are held and the time for a body lasts.
fn fill(webhook: &Webhook) -> Result<Vec<Connection>> {
    let mut held = Vec::new();
    let mut left = LIMITS.bodies;
    while left > 0 {
        let size = left.min(LIMITS.body);
        let mut connection = webhook.connect()?;
        connection.write_all(begun(size).as_bytes())?;
        connection.flush()?;
        held.push(connection);
        left -= size;
    }
    std::thread::sleep(LIMITS.wait);
    Ok(held)
}

const NO_ROOM: &str = "Portcullis could not judge Ingress agents/api: too many requests are being answered. This is an error of Portcullis and not of the object: try again, and if it stays, look at the operator's log";

#[rstest]
#[case::create("/validate", "agents", "CREATE", false, NO_ROOM)]
#[case::mutation("/mutate", "agents", "UPDATE", false, NO_ROOM)]
#[case::deletion("/validate", "agents", "DELETE", true, "")]
#[case::where_nothing_is_refused(
    "/validate",
    "adopting",
    "CREATE",
    true,
    "Portcullis could not judge Ingress adopting/api: too many requests are being answered. This is an error of Portcullis a…"
)]
#[tokio::test(flavor = "multi_thread")]
async fn r21_a_review_without_room_is_refused_as_a_review_and_not_let_through_as_in_an_outage(
    #[case] path: &'static str,
    #[case] namespace: &'static str,
    #[case] operation: &'static str,
    #[case] allowed: bool,
    #[case] text: &str,
) {
    let (status, body) = client(move |it| {
        let held = fill(it)?;
        let answer = it.ask(&post(path, JSON, small(namespace, operation).as_bytes()))?;
        drop(held);
        Ok(answer)
    })
    .await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(said(&body, allowed), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn r25_a_review_that_does_not_arrive_in_time_is_refused_as_a_review() {
    let (status, body) = client(|it| {
        let mut connection = it.connect()?;
        let review = too_large("agents", "CREATE");
        let (sent, _) = review.split_at(MAX_HEAD / 2);
        write!(connection, "{}{sent}", begun(LIMITS.body))?;
        answer_of(&mut connection)
    })
    .await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        said(&body, false),
        NO_ROOM.replace(
            "too many requests are being answered",
            "its review did not arrive in time"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn r25_a_thousand_idle_connections_keep_nobody_else_waiting() {
    let (status, took) = client(|it| {
        let idle: Vec<TcpStream> = (0..1000).map(|_| it.tcp()).collect::<Result<_>>()?;
        let started = Instant::now();
        let (status, _) = it.ask(&post("/validate", JSON, REVIEW.as_bytes()))?;
        drop(idle);
        Ok((status, started.elapsed()))
    })
    .await;
    assert_eq!(status, 200);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r26_tls_1_1_is_refused() {
    // A ClientHello of version 1.1 that offers TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA.
    let body = [&[3, 2][..], &[7; 32], &[0], &[0, 2, 0xc0, 0x13], &[1, 0]].concat();
    let length = u8::try_from(body.len()).unwrap();
    let hello = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat();
    let answer = client(move |it| {
        let mut stream = it.tcp()?;
        stream.write_all(&hello)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    })
    .await;
    // A fatal alert and nothing else.
    assert_eq!((answer[0], answer[5], answer.len()), (21, 2, 7), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r26_plain_http_is_refused() {
    let answer = client(|it| {
        let mut stream = it.tcp()?;
        stream.write_all(&post("/validate", JSON, REVIEW.as_bytes()))?;
        let mut answer = Vec::new();
        // The rest of the request may meet a closed connection.
        let _ = stream.read_to_end(&mut answer);
        Ok(answer)
    })
    .await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}
