//! What tests of the operator on a real API server share: a cluster without a node, the chart installed without a replica,
//! and the operator's own binary running beside it, as the chart's ServiceAccount and with the chart's options.

// Each file that includes this uses its own part.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses its own part of this module"
)]

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "portcullis-system";

/// Name of the operator's ServiceAccount as the API server knows it.
const OPERATOR_USER: &str = "system:serviceaccount:portcullis-system:portcullis";

/// A level-1 cluster with the chart installed and the operator running; taken away when the test process ends.
pub struct Cluster {
    name: String,
    environment: Vec<(String, String)>,
    /// Port of the webhook.
    pub webhook_port: u16,
    /// Port of probes and metrics.
    pub metrics_port: u16,
}

/// What kubectl printed.
#[derive(Debug)]
pub struct Printed {
    /// Whether it succeeded.
    pub success: bool,
    /// Its standard output.
    pub out: String,
    /// Warnings and errors.
    pub err: String,
}

/// The cluster of this test file, with the operator ready; started once, also when that fails.
pub fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceLock<Result<Cluster>> = OnceLock::new();
    let started = CLUSTER.get_or_init(Cluster::start);
    started.as_ref().map_err(|error| anyhow!("{error:#}"))
}

impl Cluster {
    fn start() -> Result<Self> {
        let name = format!("operator-{}", std::process::id());
        take_away_at_exit("exec e2e/down --name \"$2\"", &name)?;
        let cluster = Self {
            environment: environment(&name)?,
            name,
            webhook_port: free_port()?,
            metrics_port: free_port()?,
        };
        cluster.install()?;
        let operator = cluster.operator(cluster.webhook_port, cluster.metrics_port, "operator.log")?;
        take_away_at_exit("kill -KILL \"$2\"", &operator.id().to_string())?;
        cluster.wait_ready(cluster.metrics_port)?;
        Ok(cluster)
    }

    /// Without a replica: the operator that is tested is the binary of this checkout.
    fn install(&self) -> Result<()> {
        let mut helm = self.command("helm");
        helm.args(["install", "portcullis"])
            .arg(root().join("charts/portcullis"))
            .args(["--namespace", OPERATOR_NAMESPACE, "--create-namespace"])
            .args(["--set", "replicaCount=0", "--wait", "--timeout", "60s"]);
        let output = helm.output()?;
        ensure!(output.status.success(), "helm install: {}", text(&output.stderr));
        Ok(())
    }

    /// Starts a replica, with the options that the chart gives it and the rights of its ServiceAccount.
    pub fn operator(&self, webhook_port: u16, metrics_port: u16, log: &str) -> Result<Child> {
        let options = self.kubectl(&format!(
            "get deployment portcullis -n {OPERATOR_NAMESPACE} -o jsonpath={{.spec.template.spec.containers[0].args}}"
        ))?;
        let options: Vec<String> = serde_json::from_str(&options)?;
        let is_kept = |it: &String| !it.starts_with("--webhook-port=") && !it.starts_with("--metrics-port=");
        let host = self.variable("E2E_HOST_ADDRESS")?;
        let log = File::create(Path::new(self.variable("E2E_STATE")?).join("log").join(log))?;
        Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(options.into_iter().filter(is_kept))
            .args([
                format!("--webhook-port={webhook_port}"),
                format!("--metrics-port={metrics_port}"),
                format!("--webhook-url=https://{host}:{}", self.webhook_port),
            ])
            .env("KUBECONFIG", self.operator_kubeconfig()?)
            .env("POD_NAMESPACE", OPERATOR_NAMESPACE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("the operator starts")
    }

    fn operator_kubeconfig(&self) -> Result<String> {
        let mut user = Command::new(root().join("e2e/user"));
        let groups = [
            "system:serviceaccounts",
            "system:serviceaccounts:portcullis-system",
        ];
        let output = user
            .args(["--name", &self.name, OPERATOR_USER])
            .args(groups)
            .output()?;
        ensure!(output.status.success(), "e2e/user: {}", text(&output.stderr));
        Ok(text(&output.stdout).trim().to_owned())
    }

    /// Waits until a replica says that it is ready.
    pub fn wait_ready(&self, metrics_port: u16) -> Result<()> {
        eventually(Duration::from_secs(30), || {
            let answer = self.probe(metrics_port, "/readyz")?;
            ensure!(answer == "ok", "{answer}, log: {}", self.log("operator.log"));
            Ok(())
        })
    }

    /// The body of an answer of a replica's plain port.
    pub fn probe(&self, metrics_port: u16, path: &str) -> Result<String> {
        let mut curl = Command::new("curl");
        let output = curl
            .args(["-sS", "--max-time", "5"])
            .arg(format!("http://127.0.0.1:{metrics_port}{path}"))
            .output()?;
        ensure!(output.status.success(), "{}", text(&output.stderr));
        Ok(text(&output.stdout))
    }

    /// What a replica logged.
    pub fn log(&self, log: &str) -> String {
        let state = self.variable("E2E_STATE").unwrap_or_default();
        fs::read_to_string(Path::new(state).join("log").join(log)).unwrap_or_default()
    }

    fn variable(&self, name: &str) -> Result<&str> {
        let found = self.environment.iter().find(|(key, _)| key == name);
        Ok(&found.with_context(|| format!("e2e/up sets {name}"))?.1)
    }

    fn command(&self, program: &str) -> Command {
        // Through env, so that the program is looked up on the cluster's PATH.
        let mut command = Command::new("env");
        command
            .arg(program)
            .envs(self.environment.iter().cloned())
            .current_dir(root());
        command
    }

    /// Runs kubectl with words separated by spaces; its output, or what it printed as its error.
    pub fn kubectl(&self, arguments: &str) -> Result<String> {
        let printed = self.kubectl_with(arguments, "")?;
        ensure!(printed.success, "kubectl {arguments}: {}", printed.err);
        Ok(printed.out)
    }

    /// Runs kubectl with something on standard input.
    pub fn kubectl_with(&self, arguments: &str, input: &str) -> Result<Printed> {
        let mut child = self
            .command("kubectl")
            .args(arguments.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("kubectl starts")?;
        let mut stdin = child.stdin.take().context("kubectl reads")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        Ok(Printed {
            success: output.status.success(),
            out: text(&output.stdout),
            err: text(&output.stderr).trim_end().to_owned(),
        })
    }

    /// Applies a manifest that must be admitted; the warnings.
    pub fn admitted(&self, manifest: &str) -> Result<String> {
        let printed = self.kubectl_with("apply --server-side --field-manager test -f -", manifest)?;
        ensure!(printed.success, "must be admitted: {}", printed.err);
        Ok(printed.err)
    }

    /// Creates from a manifest that must be refused; the error as kubectl prints it.
    pub fn refused(&self, manifest: &str) -> Result<String> {
        let printed = self.kubectl_with("apply --server-side --field-manager test -f -", manifest)?;
        ensure!(!printed.success, "must be refused, but: {}", printed.out);
        Ok(printed.err)
    }

    /// A new namespace with a policy of this spec (YAML, indented by two), once the policy is enforced.
    pub fn governed(&self, spec: &str) -> Result<String> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let namespace = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.kubectl(&format!("create namespace {namespace}"))?;
        self.govern(&namespace, spec)?;
        Ok(namespace)
    }

    /// Puts a policy of this spec (YAML, indented by two) into a namespace and waits until it is enforced.
    pub fn govern(&self, namespace: &str, spec: &str) -> Result<()> {
        let policy = format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: SecurityPolicy\nmetadata: {{name: magsag, namespace: {namespace}}}\nspec:\n{spec}"
        );
        self.admitted(&policy)?;
        let waited = self.kubectl(&format!(
            "wait securitypolicies.portcullis.dev/magsag -n {namespace} --for=condition=Enforced --timeout=30s"
        ));
        waited.map(drop).with_context(|| self.log("operator.log"))
    }
}

/// The checkout.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Tries until it succeeds; the last error when the time is over.
pub fn eventually<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("not within {limit:?}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Starts a cluster; the environment in which kubectl and helm reach it. A shell reads the `export` lines.
fn environment(name: &str) -> Result<Vec<(String, String)>> {
    let script = r#"set -e
        tools=$(e2e/build tools)
        eval "$tools"
        cluster=$(e2e/up --level 1 --name "$1")
        eval "$cluster"
        env -0"#;
    let mut bash = Command::new("bash");
    let output: Output = bash
        .args(["-c", script, "bash", name])
        .current_dir(root())
        .output()?;
    if !output.status.success() {
        bail!("e2e/up: {}", text(&output.stderr));
    }
    let pairs = text(&output.stdout);
    let pairs = pairs.split('\0').filter_map(|it| it.split_once('='));
    Ok(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

/// Statics are not dropped: a shell waits for this process to end, however it ends, and runs `command`, whose `$2` is
/// `argument`.
fn take_away_at_exit(command: &str, argument: &str) -> Result<()> {
    let script = format!("tail --pid=\"$1\" -f /dev/null; {command}");
    Command::new("setsid")
        .args([
            "bash",
            "-c",
            &script,
            "bash",
            &std::process::id().to_string(),
            argument,
        ])
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("a shell waits for the end of the tests")
        .map(drop)
}
