//! What the tests on a real node share: one cluster for each test file, the operator installed with helm, kubectl as a
//! user types it.

// Each file that includes this uses its own part.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses its own part of this module"
)]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "portcullis-system";

/// A level-3 cluster with the operator's image loaded; taken away when the test process ends.
pub struct Cluster {
    environment: Vec<(String, String)>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The cluster of this test file, with the operator installed.
pub fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    let started = CLUSTER.get_or_init(|| Cluster::start().map_err(|error| format!("{error:#}")));
    started
        .as_ref()
        .map_err(|error| anyhow::anyhow!("the cluster does not start: {error}"))
}

impl Cluster {
    fn start() -> Result<Self> {
        let name = format!("test-{}", std::process::id());
        let up = Command::new(root().join("e2e/up"))
            .args(["--level", "3", "--name", &name])
            .output()?;
        ensure!(
            up.status.success(),
            "e2e/up: {}",
            String::from_utf8_lossy(&up.stderr)
        );
        take_away_at_exit(&name)?;
        let cluster = Self {
            environment: exports(&String::from_utf8(up.stdout)?)?,
        };
        let image = root().join("dist/portcullis.tar");
        ensure!(
            image.exists(),
            "dist/portcullis.tar is not there: run `make image`"
        );
        cluster.run(Command::new(root().join("e2e/load-image")).arg(image))?;
        cluster.install()?;
        Ok(cluster)
    }

    /// Installs the operator as a user would, and waits for it.
    pub fn install(&self) -> Result<()> {
        let mut helm = Command::new("helm");
        helm.args(["install", "portcullis"])
            .arg(root().join("charts/portcullis"));
        helm.args([
            "--namespace",
            OPERATOR_NAMESPACE,
            "--create-namespace",
            "--wait",
            "--timeout",
            "120s",
        ]);
        helm.args([
            "--set",
            "image.repository=portcullis.test/portcullis",
            "--set",
            "image.tag=dev",
        ]);
        self.run(&mut helm).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("env");
        command
            .arg(program)
            .envs(self.environment.iter().map(|(k, v)| (k, v)));
        command
    }

    fn run(&self, command: &mut Command) -> Result<String> {
        let mut wrapped = self.command(&command.get_program().to_string_lossy());
        let output = wrapped.args(command.get_args()).output()?;
        ensure!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs helm; its output.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        self.run(Command::new("helm").args(arguments))
    }

    /// Runs kubectl with words separated by spaces; its output, or what it printed as its error.
    pub fn kubectl(&self, arguments: &str) -> Result<String> {
        self.kubectl_with(arguments, "")
    }

    /// As [`Cluster::kubectl`], with something on standard input.
    pub fn kubectl_with(&self, arguments: &str, input: &str) -> Result<String> {
        let output = self.kubectl_output(arguments, input)?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs kubectl and gives all that it printed.
    pub fn kubectl_output(&self, arguments: &str, input: &str) -> Result<Output> {
        let mut command = self.command("kubectl");
        command
            .args(arguments.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("kubectl starts")?;
        child
            .stdin
            .take()
            .context("kubectl reads")?
            .write_all(input.as_bytes())?;
        Ok(child.wait_with_output()?)
    }

    /// Applies a manifest; what kubectl printed as its error where it was refused.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_with("apply -f -", manifest)
    }

    /// The text with which a manifest is refused; an error when it is not.
    pub fn refusal(&self, manifest: &str) -> Result<String> {
        match self.apply(manifest) {
            Ok(output) => bail!("must be refused, but: {output}"),
            Err(refusal) => Ok(refusal.to_string()),
        }
    }

    /// Makes a namespace with a policy in it, and waits until it is enforced.
    pub fn govern(&self, namespace: &str, policy: &str) -> Result<()> {
        self.kubectl(&format!("create namespace {namespace}"))?;
        self.apply(policy)?;
        self.wait_enforced(namespace)
    }

    /// Waits until the policies of the namespace are enforced.
    pub fn wait_enforced(&self, namespace: &str) -> Result<()> {
        let resource = "securitypolicies.portcullis.dev --all";
        self.kubectl(&format!(
            "wait {resource} --for=condition=Enforced --timeout=60s -n {namespace}"
        ))
        .map(drop)
    }

    /// Exit code of `probe dial` in a pod with these labels, for each of the addresses: 0 is a connection.
    pub fn dial(&self, namespace: &str, labels: &str, address: &str) -> Result<bool> {
        let name = format!("dial-{}", unique());
        let pod = format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}", "namespace": "{namespace}", "labels": {labels}}},
            "spec": {{"restartPolicy": "Never", "automountServiceAccountToken": false,
            "securityContext": {{"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {{"type": "RuntimeDefault"}}}},
            "containers": [{{"name": "dial", "image": "portcullis.test/probe:v1", "args": ["dial", "{address}"],
            "securityContext": {{"allowPrivilegeEscalation": false, "capabilities": {{"drop": ["ALL"]}}}}}}]}}}}"#
        );
        self.apply(&pod)?;
        let path = "{.status.containerStatuses[0].state.terminated.exitCode}";
        let code = eventually(Duration::from_secs(30), || {
            let code = self.kubectl(&format!("get pod {name} -n {namespace} -o jsonpath={path}"))?;
            ensure!(!code.is_empty(), "the pod has not ended");
            Ok(code)
        })?;
        self.kubectl(&format!("delete pod {name} -n {namespace} --now"))?;
        Ok(code == "0")
    }
}

/// A number that this process has not used before.
pub fn unique() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
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
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Reads the `export NAME=VALUE` lines of e2e/up by letting a shell read them.
fn exports(lines: &str) -> Result<Vec<(String, String)>> {
    let script = format!("{lines}\nenv -0");
    let output = Command::new("bash").args(["-c", &script]).output()?;
    ensure!(
        output.status.success(),
        "the environment of the cluster is readable"
    );
    let text = String::from_utf8(output.stdout)?;
    let pairs = text
        .split('\0')
        .filter_map(|it| it.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
    Ok(pairs.collect())
}

/// Statics are not dropped: a shell waits for this process to end, however it ends, and takes the cluster away.
fn take_away_at_exit(name: &str) -> Result<()> {
    let down = root().join("e2e/down");
    let script = format!(
        "tail --pid={} -f /dev/null; exec {} --name {name}",
        std::process::id(),
        down.display()
    );
    let mut command = Command::new("setsid");
    command
        .args(["bash", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().context("e2e/down waits").map(drop)
}
