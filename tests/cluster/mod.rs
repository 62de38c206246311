//! A real cluster for the tests of one file: started by e2e/up, taken away when the test process ends, used by kubectl and
//! helm as a user types them.

// Each file that includes this uses its own part.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses its own part of this module"
)]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "portcullis-system";

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
        // Two statements each: `set -e` does not see a failure before `&&`.
        let script = r#"set -e
            tools=$(e2e/build tools)
            eval "$tools"
            cluster=$(e2e/up --level "$1" --name "$2")
            eval "$cluster"
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
        let output = self.command("helm").args(arguments).output()?;
        ensure!(
            output.status.success(),
            "helm {}: {}",
            arguments.join(" "),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// Installs the chart of the checkout as a user would, with these values, and waits for it.
    pub fn helm_install(&self, values: &[&str]) -> Result<()> {
        let mut arguments = vec![
            "install",
            "portcullis",
            "charts/portcullis",
            "--wait",
            "--timeout",
            "120s",
        ];
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
}

/// The checkout.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What a program printed.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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

/// Statics are not dropped: a shell waits for this process to end, however it ends, and runs `command`, whose `$2` is
/// `argument`.
pub fn at_exit(command: &str, argument: &str) -> Result<()> {
    let script = format!("tail --pid=\"$1\" -f /dev/null; {command}");
    let mut shell = Command::new("setsid");
    shell.args([
        "bash",
        "-c",
        &script,
        "bash",
        &std::process::id().to_string(),
        argument,
    ]);
    shell
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    shell
        .spawn()
        .context("a shell waits for the end of the tests")
        .map(drop)
}
