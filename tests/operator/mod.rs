//! What tests of the operator on a real API server share: a cluster without a node, the chart installed without a replica,
//! and the operator's own binary running beside it, as the chart's ServiceAccount and with the chart's options.

// Each file that includes this uses its own part.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses its own part of this module"
)]

pub mod objects;
pub mod workloads;

use std::fs::{self, File};
use std::net::TcpListener;
use std::ops::Deref;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::{Context, Result, anyhow, ensure};

use crate::cluster::{Cluster, OPERATOR_NAMESPACE, at_exit, eventually, printed_by};

/// Name of the operator's ServiceAccount as the API server knows it.
pub const OPERATOR_USER: &str = "system:serviceaccount:portcullis-system:portcullis";

/// Its groups.
const OPERATOR_GROUPS: [&str; 2] = [
    "system:serviceaccounts",
    "system:serviceaccounts:portcullis-system",
];

/// How manifests are applied: no field of an object is anybody else's by mistake.
const APPLY: &str = "apply --server-side --field-manager test -f -";

/// A level-1 cluster with the chart installed and the operator running.
#[derive(Debug)]
pub struct Operator {
    cluster: Cluster,
    /// Port of the webhook.
    webhook_port: u16,
    /// Port of probes and metrics.
    pub metrics_port: u16,
    process: OnceLock<u32>,
}

impl Deref for Operator {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// The operator of this test file, ready; started once, also when that fails.
pub fn operator() -> Result<&'static Operator> {
    static OPERATOR: OnceLock<Result<Operator>> = OnceLock::new();
    let started = OPERATOR.get_or_init(Operator::start);
    started.as_ref().map_err(|error| anyhow!("{error:#}"))
}

static TURN: RwLock<()> = RwLock::new(());

/// The operator, for a test that lets others run beside it which want it alone.
pub fn beside_others() -> Result<(RwLockReadGuard<'static, ()>, &'static Operator)> {
    let turn = TURN.read().unwrap_or_else(PoisonError::into_inner);
    Ok((turn, operator()?))
}

/// The operator, leading, for a test that stops it or looks at what all namespaces share.
pub fn alone() -> Result<(RwLockWriteGuard<'static, ()>, &'static Operator)> {
    let turn = TURN.write().unwrap_or_else(PoisonError::into_inner);
    let operator = operator()?;
    // A replica of the test before may have held the Lease when it ended.
    eventually(|| {
        ensure!(operator.leads(operator.metrics_port)?, "the operator leads");
        Ok(())
    })?;
    Ok((turn, operator))
}

impl Operator {
    fn start() -> Result<Self> {
        let cluster = Cluster::start(1, "operator")?;
        // Without a replica: the operator that is tested is the binary of this checkout.
        cluster.helm_install(&["replicaCount=0"])?;
        let operator = Self {
            cluster,
            webhook_port: free_port()?,
            metrics_port: free_port()?,
            process: OnceLock::new(),
        };
        let process = operator.spawn(operator.webhook_port, operator.metrics_port, "operator.log")?;
        let id = *operator.process.get_or_init(|| process.id());
        at_exit("kill -KILL \"$2\"", &id.to_string())?;
        operator.wait_ready(operator.metrics_port, "operator.log")?;
        Ok(operator)
    }

    /// Starts a further replica and waits until it is ready.
    pub fn replica(&self, log: &str) -> Result<Replica> {
        let (webhook_port, metrics_port) = (free_port()?, free_port()?);
        let replica = Replica {
            process: self.spawn(webhook_port, metrics_port, log)?,
            webhook_port,
            metrics_port,
        };
        self.wait_ready(metrics_port, log)?;
        Ok(replica)
    }

    /// Starts a process with the options that the chart gives it and the rights of its ServiceAccount.
    fn spawn(&self, webhook_port: u16, metrics_port: u16, log: &str) -> Result<Child> {
        let options = self.kubectl(&format!(
            "get deployment portcullis -n {OPERATOR_NAMESPACE} -o jsonpath={{.spec.template.spec.containers[0].args}}"
        ))?;
        let options: Vec<String> = serde_json::from_str(&options)?;
        let is_kept = |it: &String| !it.starts_with("--webhook-port=") && !it.starts_with("--metrics-port=");
        let host = self.variable("E2E_HOST_ADDRESS")?;
        Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(options.into_iter().filter(is_kept))
            .args([
                format!("--webhook-port={webhook_port}"),
                format!("--metrics-port={metrics_port}"),
                format!("--webhook-url=https://{host}:{}", self.webhook_port),
            ])
            .env("KUBECONFIG", self.kubeconfig()?)
            .env("POD_NAMESPACE", OPERATOR_NAMESPACE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.log_file(log)?)?)
            .spawn()
            .context("the operator starts")
    }

    fn kubeconfig(&self) -> Result<String> {
        let mut user = self.command("e2e/user");
        user.args(["--name", &self.name, OPERATOR_USER])
            .args(OPERATOR_GROUPS);
        Ok(printed_by(&mut user)?.trim().to_owned())
    }

    fn wait_ready(&self, metrics_port: u16, log: &str) -> Result<()> {
        eventually(|| {
            let answer = self.probe(metrics_port, "/readyz")?;
            ensure!(answer == "ok", "{answer}, log: {}", self.log(log));
            Ok(())
        })
    }

    /// The body of an answer of a replica's plain port.
    pub fn probe(&self, metrics_port: u16, path: &str) -> Result<String> {
        let mut curl = Command::new("curl");
        printed_by(
            curl.args(["-sS", "--max-time", "5"])
                .arg(format!("http://127.0.0.1:{metrics_port}{path}")),
        )
    }

    /// Whether a replica says that it leads.
    pub fn leads(&self, metrics_port: u16) -> Result<bool> {
        let metrics = self.probe(metrics_port, "/metrics")?;
        Ok(metrics.lines().any(|it| it == "portcullis_leader 1"))
    }

    /// What a replica logged.
    pub fn log(&self, log: &str) -> String {
        let file = self.log_file(log).unwrap_or_default();
        fs::read_to_string(file).unwrap_or_default()
    }

    /// Pauses the operator, so that it answers nothing and writes nothing, until what this gives is dropped.
    pub fn pause(&self) -> Result<Paused> {
        let process = *self.process.get().context("the operator runs")?;
        signal("STOP", process)?;
        Ok(Paused(process))
    }

    /// Megabytes that the operator had resident at the same time, at most, while `during` ran; and what that gave.
    pub fn peak_megabytes<T>(&self, during: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
        let process = *self.process.get().context("the operator runs")?;
        // The peak is counted anew: proc_pid_clear_refs(5).
        fs::write(format!("/proc/{process}/clear_refs"), "5")?;
        let result = during()?;
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let peak = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
        let kilobytes = peak.and_then(|it| it.split_whitespace().next());
        let kilobytes: u64 = kilobytes.context("status has VmHWM")?.parse()?;
        Ok((kilobytes / 1024, result))
    }

    /// Applies a manifest that must be admitted; the warnings.
    pub fn admitted(&self, manifest: &str) -> Result<String> {
        let printed = self.kubectl_printed(APPLY, manifest)?;
        ensure!(printed.success, "must be admitted: {}", printed.err);
        Ok(printed.err)
    }

    /// Applies a manifest that must be admitted with a warning; the warnings.
    pub fn warned(&self, manifest: &str) -> Result<String> {
        self.warned_by(APPLY, manifest)
    }

    /// Applies a manifest that must be refused; the error as kubectl prints it.
    pub fn refused(&self, manifest: &str) -> Result<String> {
        self.refused_by(APPLY, manifest)
    }

    /// Tries once whether a manifest would be refused, see [`Cluster::refused_by`].
    pub fn would_be_refused(&self, manifest: &str) -> Result<bool> {
        let tried = self.kubectl_printed(&format!("{APPLY} --dry-run=server"), manifest)?;
        Ok(!tried.success)
    }

    /// A new namespace with a policy of this spec (YAML, indented by two), once the policy is enforced.
    pub fn governed(&self, spec: &str) -> Result<String> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let namespace = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.kubectl(&format!("create namespace {namespace}"))?;
        self.govern(&namespace, spec)?;
        Ok(namespace)
    }

    /// Puts a policy of this spec (YAML, indented by two) into a namespace and waits until it is enforced, and until the
    /// operator may read the namespace's Secrets if it is to.
    pub fn govern(&self, namespace: &str, spec: &str) -> Result<()> {
        let policy = format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: SecurityPolicy\nmetadata: {{name: magsag, namespace: {namespace}}}\nspec:\n{spec}"
        );
        self.admitted(&policy)?;
        let enforced = "securitypolicies.portcullis.dev/magsag --for=condition=Enforced";
        self.wait(&format!("{enforced} -n {namespace}"))
            .with_context(|| self.log("operator.log"))?;
        if spec.contains("\n  secrets:") {
            eventually(|| {
                ensure!(self.may_read_secrets(namespace)?, "Secrets may not be read yet");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Whether the operator may read the Secrets of a namespace by now: roles take effect a moment after they were written.
    pub fn may_read_secrets(&self, namespace: &str) -> Result<bool> {
        let asked = format!("auth can-i get secrets -n {namespace} --as={OPERATOR_USER}");
        Ok(self.kubectl_printed(&asked, "")?.out.trim() == "yes")
    }
}

/// A further replica, which ends with its test.
#[derive(Debug)]
pub struct Replica {
    process: Child,
    /// Port of its webhook.
    pub webhook_port: u16,
    /// Port of its probes and metrics.
    pub metrics_port: u16,
}

impl Replica {
    /// Tells it to end, as the kubelet does.
    pub fn terminate(&self) -> Result<()> {
        signal("TERM", self.process.id())
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Result<ExitStatus> {
        self.process.wait().context("the replica ends")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A paused operator, which goes on when this is dropped.
#[derive(Debug)]
pub struct Paused(u32);

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = signal("CONT", self.0);
    }
}

fn signal(signal: &str, process: u32) -> Result<()> {
    let mut kill = Command::new("kill");
    printed_by(kill.args([format!("-{signal}"), process.to_string()])).map(drop)
}

/// A free port below those that the kernel hands out to connections and those that e2e/up chooses, so that it stays free
/// until it is used.
fn free_port() -> Result<u16> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let first = usize::try_from(std::process::id())?.wrapping_mul(10);
    let is_free = |port: &u16| TcpListener::bind(("0.0.0.0", *port)).is_ok();
    (0..10_000)
        .map(|_| 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000)
        .filter_map(|it| u16::try_from(it).ok())
        .find(is_free)
        .context("a port from 10000 to 19999 is free")
}
