//! A real cluster for the tests of one file: started by e2e/up, taken away when the test process ends, used by kubectl and
//! helm as a user types them.

// Each file that includes this uses its own part.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses its own part of this module"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "portcullis-system";

/// How long anything may take, on a machine that is busy with something else: it costs nothing while things work.
const PATIENCE: Duration = Duration::from_secs(120);

/// [`PATIENCE`] as kubectl and helm read it.
const TIMEOUT: &str = "--timeout=120s";

/// How often something may take longer than it should, see [`once_within`].
const ROUNDS: usize = 5;

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its name for the scripts of e2e/.
    pub name: String,
    environment: Vec<(String, String)>,
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

impl Cluster {
    /// Starts a cluster of this level (e2e/README.md). `kind` names what it is for.
    pub fn start(level: u8, kind: &str) -> Result<Self> {
        let name = format!("{kind}-{}", std::process::id());
        // Before it is there: starting may fail half-way.
        at_exit("exec e2e/down --name \"$2\"", &name)?;
        // First what a process with our number left behind when the machine was switched off under it. Two statements
        // each: `set -e` does not see a failure before `&&`.
        let script = r#"set -e
            e2e/down --name "$2"
            tools=$(e2e/build tools)
            eval "$tools"
            cluster=$(e2e/up --level "$1" --name "$2")
            eval "$cluster"
            # What another cluster at the same port once served must not be taken for what this one serves.
            export KUBECACHEDIR=$E2E_STATE/kubectl
            env -0"#;
        let mut bash = Command::new("bash");
        bash.args(["-c", script, "bash", &level.to_string(), &name])
            .current_dir(root());
        let output = bash.output()?;
        ensure!(output.status.success(), "e2e/up: {}", text(&output.stderr));
        let pairs = text(&output.stdout);
        let pairs = pairs.split('\0').filter_map(|it| it.split_once('='));
        let environment = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Ok(Self { name, environment })
    }

    /// One of the variables that e2e/up prints.
    pub fn variable(&self, name: &str) -> Result<&str> {
        let found = self.environment.iter().find(|(key, _)| key == name);
        Ok(&found.with_context(|| format!("e2e/up sets {name}"))?.1)
    }

    /// The file in which a process of the cluster, or the operator, writes its log.
    pub fn log_file(&self, name: &str) -> Result<PathBuf> {
        Ok(Path::new(self.variable("E2E_STATE")?).join("log").join(name))
    }

    /// A command with the cluster's environment, in the checkout.
    pub fn command(&self, program: &str) -> Command {
        // Through env, so that the program is looked up on the cluster's PATH.
        let mut command = Command::new("env");
        command
            .arg(program)
            .envs(self.environment.iter().cloned())
            .current_dir(root());
        command
    }

    /// Runs helm; its output.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        printed_by(self.command("helm").args(arguments))
            .with_context(|| format!("helm {}", arguments.join(" ")))
    }

    /// Installs the chart of the checkout as a user would, with these values, and waits for it.
    pub fn helm_install(&self, values: &[&str]) -> Result<()> {
        let mut arguments = vec!["install", "portcullis", "charts/portcullis", "--wait", TIMEOUT];
        arguments.extend(["--namespace", OPERATOR_NAMESPACE, "--create-namespace"]);
        arguments.extend(values.iter().flat_map(|it| ["--set", it]));
        self.helm(&arguments).map(drop)
    }

    /// Runs kubectl with words separated by spaces; its output, or what it printed as its error.
    pub fn kubectl(&self, arguments: &str) -> Result<String> {
        self.kubectl_with(arguments, "")
    }

    /// As [`Cluster::kubectl`], with something on standard input.
    pub fn kubectl_with(&self, arguments: &str, input: &str) -> Result<String> {
        let printed = self.kubectl_printed(arguments, input)?;
        ensure!(printed.success, "{}", printed.err);
        Ok(printed.out)
    }

    /// Runs kubectl and gives all that it printed.
    pub fn kubectl_printed(&self, arguments: &str, input: &str) -> Result<Printed> {
        let mut kubectl = self.command("kubectl");
        kubectl
            .args(arguments.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = kubectl.spawn().context("kubectl starts")?;
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

    /// Reads an object or a list.
    pub fn get(&self, what: &str) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.kubectl(&format!("get {what} -o json"))?,
        )?)
    }

    /// Waits with `kubectl wait`.
    pub fn wait(&self, arguments: &str) -> Result<()> {
        self.kubectl(&format!("wait {arguments} {TIMEOUT}")).map(drop)
    }

    /// Waits until a Deployment is rolled out, `name -n namespace`.
    pub fn rolled_out(&self, deployment: &str) -> Result<()> {
        self.kubectl(&format!("rollout status deployment/{deployment} {TIMEOUT}"))
            .map(drop)
    }

    /// Waits until `apply`, a command that reads a manifest, would be refused, and does it; what kubectl printed as its
    /// error.
    ///
    /// The API server learns of a new webhook configuration a moment after it was written, and each trial is a dry run:
    /// an object that was let in once would be judged as what was there before.
    pub fn refused_by(&self, apply: &str, manifest: &str) -> Result<String> {
        eventually(|| {
            let tried = self.kubectl_printed(&format!("{apply} --dry-run=server"), manifest)?;
            ensure!(!tried.success, "must be refused, but: {}", tried.out);
            Ok(())
        })?;
        let printed = self.kubectl_printed(apply, manifest)?;
        ensure!(
            !printed.success,
            "refused as a dry run, but really: {}",
            printed.out
        );
        Ok(printed.err)
    }

    /// Waits until `apply` would be warned of, see [`Cluster::refused_by`], and does it; the warnings.
    pub fn warned_by(&self, apply: &str, manifest: &str) -> Result<String> {
        eventually(|| {
            let tried = self.kubectl_printed(&format!("{apply} --dry-run=server"), manifest)?;
            ensure!(
                tried.success && !tried.err.is_empty(),
                "must be warned of, but: {tried:?}"
            );
            Ok(())
        })?;
        let printed = self.kubectl_printed(apply, manifest)?;
        ensure!(printed.success, "must be admitted: {}", printed.err);
        Ok(printed.err)
    }
}

/// The checkout.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command; what it printed, or what it printed as its error.
pub fn printed_by(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    Ok(text(&output.stdout))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Tries until it succeeds; the last error when that takes too long even for a busy machine.
pub fn eventually<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("not within {PATIENCE:?}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Repeats a round, which tells how long it took, until one was quick enough. A busy machine makes one round slow or
/// another, but nothing makes a slow product quick.
pub fn once_within(limit: Duration, mut round: impl FnMut() -> Result<Duration>) -> Result<()> {
    let mut slow = Vec::new();
    while slow.len() < ROUNDS {
        let took = round()?;
        if took < limit {
            return Ok(());
        }
        slow.push(took);
    }
    bail!("not once within {limit:?}, but {slow:?}")
}

/// Statics are not dropped: a shell waits for this process to end, however it ends, and runs `command`, whose `$2` is
/// `argument`.
pub fn at_exit(command: &str, argument: &str) -> Result<()> {
    let script = format!("tail --pid=\"$1\" -f /dev/null; {command}");
    let us = std::process::id().to_string();
    Command::new("setsid")
        .args(["bash", "-c", &script, "bash", &us, argument])
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("a shell waits for the end of the tests")
        .map(drop)
}
