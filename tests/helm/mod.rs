//! What tests of the chart on a real API server share: a cluster without a node, the chart installed with no operator
//! running, kubectl as a user types it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "portcullis-system";

/// A level-1 cluster with the chart installed; taken away when the test process ends.
pub struct Cluster {
    environment: Vec<(String, String)>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The cluster of this test file, made ready by `prepare`; started once, also when that fails.
pub fn cluster(prepare: fn(&Cluster) -> Result<()>) -> Result<&'static Cluster> {
    static CLUSTER: OnceLock<Result<Cluster>> = OnceLock::new();
    let started = CLUSTER.get_or_init(|| {
        let cluster = Cluster::start()?;
        prepare(&cluster)?;
        Ok(cluster)
    });
    started.as_ref().map_err(|error| anyhow!("{error:#}"))
}

impl Cluster {
    fn start() -> Result<Self> {
        let name = format!("chart-{}", std::process::id());
        let cluster = Self {
            environment: environment(&name)?,
        };
        take_away_at_exit(&name)?;
        cluster.install()?;
        Ok(cluster)
    }

    /// As a user would, but without a single replica: what holds here is held by the API server alone.
    fn install(&self) -> Result<()> {
        let mut helm = self.command("helm");
        helm.args(["install", "portcullis"])
            .arg(root().join("charts/portcullis"))
            .args(["--namespace", OPERATOR_NAMESPACE, "--create-namespace"])
            .args(["--set", "replicaCount=0", "--wait", "--timeout", "60s"]);
        let output = helm.output()?;
        ensure!(
            output.status.success(),
            "helm install: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        // Through env, so that the program is looked up on the cluster's PATH.
        let mut command = Command::new("env");
        command.arg(program).envs(self.environment.iter().cloned());
        command
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
        Ok(child.wait_with_output()?)
    }
}

/// What an admission policy of the chart said if it refused; an error when anything else went wrong.
pub fn refusal_of(result: Result<String>, policy: &str) -> Result<Option<String>> {
    let Err(error) = result else {
        return Ok(None);
    };
    let text = error.to_string();
    let by = format!(
        " is forbidden: ValidatingAdmissionPolicy 'portcullis-{policy}' with binding 'portcullis-{policy}' denied request: "
    );
    let (before, message) = text
        .split_once(&by)
        .with_context(|| format!("refused by portcullis-{policy}, but: {text}"))?;
    ensure!(
        before.starts_with("Error from server (Forbidden): "),
        "status 403, but: {text}"
    );
    Ok(Some(message.to_owned()))
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
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
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
    let output = Command::new("bash")
        .args(["-c", script, "bash", name])
        .current_dir(root())
        .output()?;
    ensure!(
        output.status.success(),
        "e2e/up: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let pairs = text.split('\0').filter_map(|it| it.split_once('='));
    Ok(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

/// Statics are not dropped: a shell waits for this process to end, however it ends, and takes the cluster away.
fn take_away_at_exit(name: &str) -> Result<()> {
    let script = r#"tail --pid="$1" -f /dev/null; exec e2e/down --name "$2""#;
    Command::new("setsid")
        .args([
            "bash",
            "-c",
            script,
            "bash",
            &std::process::id().to_string(),
            name,
        ])
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("e2e/down waits")
        .map(drop)
}
