//! The command line as it is typed: exit codes, text and JSON, and input that is too large to be written down.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portcullis_engine::rules;
use serde_json::{Value, json};

/// Far more than these inputs take, without optimisation and beside other builds; a square of their size takes longer.
const QUICK: Duration = Duration::from_secs(60);

const POLICY: &str = "tests/cli/check.in/policy.yaml";

#[test]
fn transcripts() {
    trycmd::TestCases::new()
        .case("tests/cli/*.md")
        .case("tests/cli/*.toml");
}

#[test]
fn every_rule_has_a_page_that_explain_prints() -> Result<()> {
    for rule in rules::all() {
        let output = portcullis(&["explain", rule.id.as_str()])?;
        assert_eq!(
            String::from_utf8(output.stdout)?.trim_end(),
            rule.page.trim_end(),
            "{}",
            rule.id
        );
        assert_eq!(output.status.code(), Some(0));
    }
    Ok(())
}

#[test]
fn rules_are_listed_for_machines() -> Result<()> {
    let output = portcullis(&["rules", "--format", "json"])?;
    let listed: Value = serde_json::from_slice(&output.stdout)?;
    let ids: Vec<&str> = listed["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["id"].as_str())
        .collect();
    assert_eq!(ids, rules::all().map(|it| it.id.as_str()).collect::<Vec<_>>());
    let expected = json!({
        "id": "pod/run-as-non-root",
        "severities": {"Development": "Warn", "Staging": "Deny", "Production": "Deny"},
        "section": "spec.podSecurity",
        "meaning": "no container may start as root",
    });
    assert_eq!(listed["rules"][0], expected);
    Ok(())
}

#[test]
fn crds_are_printed_as_they_are_checked_in() -> Result<()> {
    let output = portcullis(&["crds"])?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked_in = std::fs::read_to_string(root.join("crds/securitypolicies.portcullis.dev.yaml"))?;
    assert_eq!(String::from_utf8(output.stdout)?, checked_in);
    Ok(())
}

#[test]
fn a_closed_pipe_is_no_error() -> Result<()> {
    let mut child = command(&["crds"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // What is printed is larger than a pipe holds, so that the writer meets the closed end.
    let mut first = [0; 16];
    child.stdout.take().context("a pipe")?.read_exact(&mut first)?;
    let mut complaint = String::new();
    child
        .stderr
        .take()
        .context("a pipe")?
        .read_to_string(&mut complaint)?;
    assert_eq!(child.wait()?.code(), Some(0));
    assert_eq!(complaint, "");
    Ok(())
}

#[test]
fn a_pipe_gets_no_colours() -> Result<()> {
    let output = portcullis(&["check", POLICY, "tests/cli/check.in/deploy.yaml"])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stdout.contains(&0x1b));
    Ok(())
}

#[test]
fn a_policy_of_1000_entries_is_read_and_one_more_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let policy = |count: usize| {
        let entry = |index: usize| {
            json!({"name": format!("key-{index}"), "env": format!("KEY_{index}"),
                   "secretRef": {"name": "app", "key": format!("key-{index}")}})
        };
        json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy",
            "metadata": {"name": "large", "namespace": "shop"},
            "spec": {
                "rulesVersion": "v1", "environment": "Production", "enforcement": "Deny",
                "workloads": {"scope": "Namespace"},
                "secrets": {"entries": (0..count).map(entry).collect::<Vec<_>>()},
            },
        })
    };
    let check = |count| -> Result<Output> {
        let file = folder.path().join("policy.json");
        std::fs::write(&file, policy(count).to_string())?;
        let started = Instant::now();
        let output = portcullis(&["check", &file.to_string_lossy(), "tests/cli/check.in/app"])?;
        ensure!(started.elapsed() < QUICK, "took {:?}", started.elapsed());
        Ok(output)
    };
    assert_eq!(check(1000)?.status.code(), Some(0));
    let refused = check(1001)?;
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8(refused.stderr)?;
    assert!(
        message.ends_with("`spec.secrets.entries` must have at most 1000 items, got 1001\n"),
        "{message}"
    );
    Ok(())
}

#[test]
fn eight_mebibytes_of_json_are_judged() -> Result<()> {
    let deployment = |index: usize| {
        let variable = |it: usize| json!({"name": format!("SETTING_{it}"), "value": "x".repeat(100)});
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": format!("app-{index}"), "namespace": "shop"},
            "spec": {"template": {"spec": {
                "securityContext": {"runAsNonRoot": true, "runAsUser": 10001},
                "containers": [{
                    "name": "app", "image": "registry.example.com/app:1.4.2",
                    "securityContext": {"readOnlyRootFilesystem": true},
                    "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "256Mi"}},
                    "readinessProbe": {"tcpSocket": {"port": 8000}},
                    "livenessProbe": {"tcpSocket": {"port": 8000}},
                    "env": (0..60).map(variable).collect::<Vec<_>>(),
                }],
            }}},
        })
    };
    let list =
        json!({"apiVersion": "v1", "kind": "List", "items": (0..1100).map(deployment).collect::<Vec<_>>()});
    let text = list.to_string();
    assert!(text.len() > 8 * 1024 * 1024, "{} bytes", text.len());

    let started = Instant::now();
    let mut child = command(&["check", "--policy", POLICY, "--quiet", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("a pipe")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(started.elapsed() < QUICK, "took {:?}", started.elapsed());
    assert_eq!(
        String::from_utf8(output.stdout)?,
        "1100 objects judged: 0 Deny, 0 Warn, 0 Audit, 0 not judged\n"
    );
    assert_eq!(output.status.code(), Some(0));
    Ok(())
}

#[test]
fn the_log_level_must_be_a_level() -> Result<()> {
    let output = portcullis(&["operator", "--log-level", "inof"])?;
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr)?;
    assert!(
        message.contains("must be one of error, warn, info, debug, trace, off, got `inof`"),
        "{message}"
    );
    Ok(())
}

fn portcullis(args: &[&str]) -> Result<Output> {
    Ok(command(args).output()?)
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}
