//! The cluster of B5 and B6: namespaces with a policy each and what its objects refer to, and the operator beside it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::PostParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use portcullis_api::{SecurityPolicy, condition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::client::{Request, Target, is_admitted};
use crate::{mix, process, results};

/// Namespace of the operator.
const OPERATOR_NAMESPACE: &str = "portcullis-system";

/// Requests to the API server that are open at a time.
const PARALLEL: usize = 16;

/// Longest wait for anything.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Makes namespaces, each with the mix' policy and the Secrets and ConfigMaps that its objects refer to.
pub async fn govern(client: &Client, namespaces: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
    futures::stream::iter(namespaces.into_iter().map(|it| govern_one(client, it)))
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await
}

async fn govern_one(client: &Client, namespace: String) -> anyhow::Result<()> {
    let body: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
    Api::all(client.clone())
        .create(&PostParams::default(), &body)
        .await?;
    for (name, keys) in mix::secrets() {
        let data: serde_json::Map<_, _> = keys
            .into_iter()
            .map(|key| (key.to_owned(), json!("changed")))
            .collect();
        create::<Secret>(
            client,
            &namespace,
            json!({"metadata": {"name": name}, "stringData": data}),
        )
        .await?;
    }
    for (name, data) in mix::config_maps() {
        create::<ConfigMap>(
            client,
            &namespace,
            json!({"metadata": {"name": name}, "data": data}),
        )
        .await?;
    }
    let mut policy = mix::policy()?;
    policy.metadata.namespace = Some(namespace.clone());
    create::<SecurityPolicy>(client, &namespace, json!(policy)).await
}

async fn create<K>(client: &Client, namespace: &str, object: Value) -> anyhow::Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let created = api
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await;
    created
        .map(drop)
        .with_context(|| format!("failed to create {} in {namespace}", K::kind(&())))
}

/// Waits until all policies are in force, as their status says: the webhook is called for their namespaces then.
pub async fn wait_enforced(client: &Client, count: usize) -> anyhow::Result<()> {
    let policies: Api<SecurityPolicy> = Api::all(client.clone());
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let all = policies.list(&Default::default()).await?;
        let enforced = all.iter().filter(|it| is_enforced(it)).count();
        if enforced == count {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{enforced} of {count} policies are in force after {TIMEOUT:?}"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn is_enforced(policy: &SecurityPolicy) -> bool {
    let mut conditions = policy.status.iter().flat_map(|it| &it.conditions);
    conditions.any(|it| it.type_ == condition::ENFORCED && it.status == "True")
}

/// A Pod that breaks the policy of `namespace`, once it is in force, sent to `path`.
pub fn violating(namespace: &str, path: &str) -> anyhow::Result<Request> {
    let reviews = mix::reviews()?;
    let pod = reviews
        .iter()
        .find(|it| it.kind == "Pod")
        .context("the mix has a Pod")?;
    let body = pod
        .body
        .replace(
            &format!(r#""namespace":"{}""#, mix::NAMESPACE),
            &format!(r#""namespace":"{namespace}""#),
        )
        .replace(r#""runAsNonRoot":true"#, r#""runAsNonRoot":false"#);
    Ok(Request::new(path, "a Pod that runs as root", &body))
}

/// The operator's binary as it is shipped, started as the chart would start it; ended with this value.
#[derive(Debug)]
pub struct Operator {
    child: Child,
    port: u16,
    metrics_port: u16,
}

impl Operator {
    /// Starts it with these options and the rights of the chart's ServiceAccount.
    pub fn start(options: &[String]) -> anyhow::Result<Self> {
        let (port, metrics_port) = (free_port()?, free_port()?);
        let variable = |name| std::env::var(name).with_context(|| format!("{name} must be set"));
        let child = Command::new(variable("BENCH_OPERATOR")?)
            .args(options)
            .args([
                format!("--webhook-port={port}"),
                format!("--metrics-port={metrics_port}"),
                format!("--webhook-url=https://127.0.0.1:{port}"),
            ])
            .env("KUBECONFIG", variable("BENCH_OPERATOR_KUBECONFIG")?)
            .env("POD_NAMESPACE", OPERATOR_NAMESPACE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(results::folder()?.join("operator.log"))?,
            )
            .spawn()?;
        Ok(Self {
            child,
            port,
            metrics_port,
        })
    }

    /// Its resident memory.
    pub fn resident_megabytes(&self) -> anyhow::Result<f64> {
        process::resident_megabytes(self.child.id())
    }

    /// CPU time that it has used.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        process::cpu_time(self.child.id())
    }

    /// Waits until it says that it can answer admissions.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        let attempt = || {
            let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.metrics_port))?;
            socket.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            ensure!(answer.starts_with("HTTP/1.0 200"), "not ready: {answer}");
            Ok(())
        };
        eventually(attempt)
    }

    /// Its webhook.
    pub fn webhook(&self, access: &Access) -> anyhow::Result<Target> {
        Target::new(self.port, &access.authority)
    }

    /// Waits until a connection is accepted and the policy behind `request` refuses it.
    pub fn wait_refused(target: &Target, request: &Request) -> anyhow::Result<()> {
        eventually(|| {
            let answer = target.connect()?.send(request)?;
            ensure!(
                !is_admitted(&answer) && answer.contains(r#""code":403"#),
                "not refused: {answer}"
            );
            Ok(())
        })
    }

    /// Ends it as a kubelet would, so that it gives back its Lease.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let status = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()?;
        ensure!(status.success(), "kill failed");
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It has ended already unless a step before failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it takes to call the webhook: only the API server knows the path.
#[derive(Debug)]
pub struct Access {
    /// The authorities by which it is trusted, in PEM.
    pub authority: String,
    /// Path of the webhook that judges.
    pub path: String,
}

impl Access {
    /// Reads it from the Secret in which an operator with these options keeps it.
    pub async fn read(client: &Client, options: &[String]) -> anyhow::Result<Self> {
        let name = options.iter().find_map(|it| it.strip_prefix("--tls-secret="));
        let secrets: Api<Secret> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
        let secret = secrets.get(name.context("the options name the Secret")?).await?;
        let mut data = secret.data.unwrap_or_default();
        let mut text = |key| -> anyhow::Result<String> {
            let value = data
                .remove(key)
                .with_context(|| format!("the Secret has {key}"))?;
            Ok(String::from_utf8(value.0)?)
        };
        Ok(Self {
            authority: text("ca.crt")?,
            path: format!("/validate/{}", text("token")?),
        })
    }
}

/// The options of the chart's Deployment but for its ports.
pub async fn options(client: &Client) -> anyhow::Result<Vec<String>> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let spec = deployments
        .get("portcullis")
        .await?
        .spec
        .context("a Deployment has a spec")?;
    let pod = spec.template.spec.context("a Deployment has a pod")?;
    let args = pod.containers.into_iter().filter_map(|it| it.args).flatten();
    let is_port = |it: &String| it.starts_with("--webhook-port=") || it.starts_with("--metrics-port=");
    Ok(args.filter(|it| !is_port(it)).collect())
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Tries every few milliseconds until it succeeds.
fn eventually(mut attempt: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error.context("gave up waiting")),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}
