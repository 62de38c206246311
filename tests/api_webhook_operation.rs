//! The operator itself on a real API server: its ceiling, its certificates, its replicas and its end. Apart from the other
//! tests of the webhook, which a changed ceiling would disturb.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use support::{OPERATOR_NAMESPACE, cluster, eventually, free_port};

const POLICY: &str = "
  rulesVersion: v1
  environment: Production
  enforcement: Deny
  workloads: { scope: Namespace }
  podSecurity: { level: Baseline }
";

fn privileged(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: {namespace} }}\nspec: {{ containers: [{{ name: api, image: i, securityContext: {{ privileged: true }} }}] }}\n"
    )
}

/// One test, since each step changes what holds for the whole cluster.
#[test]
fn the_ceiling_the_certificates_and_the_replicas() -> Result<()> {
    let namespace = cluster()?.governed(POLICY)?;
    the_ceiling_holds_within_two_seconds_and_a_wrong_one_changes_nothing(&namespace)?;
    r03_a_deleted_secret_of_certificates_is_written_again_as_it_was()?;
    r06_a_replica_that_is_told_to_end_answers_what_it_still_gets(&namespace)
}

fn the_ceiling_holds_within_two_seconds_and_a_wrong_one_changes_nothing(namespace: &str) -> Result<()> {
    let cluster = cluster()?;
    let set = |ceiling: &str| {
        cluster.kubectl(&format!(
            "patch configmap portcullis -n {OPERATOR_NAMESPACE} --type=merge -p {{\"data\":{{\"enforcementCeiling\":\"{ceiling}\"}}}}"
        ))
    };
    cluster.refused(&privileged(namespace, "one"))?;
    set("Warn")?;
    let started = Instant::now();
    let warning = eventually(Duration::from_secs(5), || {
        cluster.admitted(&privileged(namespace, "one"))
    })?;
    ensure!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    ensure!(warning.contains("[pod/privileged]"), "{warning}");
    set("Off")?;
    eventually(Duration::from_secs(5), || {
        let log = cluster.log("operator.log");
        ensure!(
            log.contains("must be one of Deny, Warn, Audit, got `Off`: the ceiling stays Warn"),
            "{log}"
        );
        Ok(())
    })?;
    cluster.admitted(&privileged(namespace, "two"))?;
    cluster.kubectl(&format!("delete configmap portcullis -n {OPERATOR_NAMESPACE}"))?;
    eventually(Duration::from_secs(5), || {
        cluster.refused(&privileged(namespace, "three"))
    })?;
    Ok(())
}

fn r03_a_deleted_secret_of_certificates_is_written_again_as_it_was() -> Result<()> {
    let cluster = cluster()?;
    let secret = format!("secret portcullis-tls -n {OPERATOR_NAMESPACE}");
    let data = || cluster.kubectl(&format!("get {secret} -o jsonpath={{.data}}"));
    let before = data()?;
    let owner = cluster.kubectl(&format!(
        "get {secret} -o jsonpath={{.metadata.ownerReferences[0].kind}}"
    ))?;
    assert_eq!(owner, "ClusterRole");
    cluster.kubectl(&format!("delete {secret}"))?;
    let after = eventually(Duration::from_secs(10), data)?;
    ensure!(
        before == after,
        "the authority must stay the one that the API server trusts"
    );
    Ok(())
}

fn r06_a_replica_that_is_told_to_end_answers_what_it_still_gets(namespace: &str) -> Result<()> {
    let cluster = cluster()?;
    let (webhook_port, metrics_port) = (free_port()?, free_port()?);
    let mut second = cluster.operator(webhook_port, metrics_port, "second.log")?;
    let started = Instant::now();
    cluster.wait_ready(metrics_port)?;
    ensure!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    let terminate = Command::new("kill")
        .args(["-TERM", &second.id().to_string()])
        .status()?;
    ensure!(terminate.success(), "the second replica is told to end");
    eventually(Duration::from_secs(2), || {
        let answer = cluster.probe(metrics_port, "/readyz")?;
        ensure!(answer == "the process is about to end", "{answer}");
        Ok(())
    })?;
    // Still served while the Service learns of it.
    let served = Command::new("curl")
        .args(["-sk", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}"])
        .arg(format!("https://127.0.0.1:{webhook_port}/validate/token"))
        .output()?;
    assert_eq!(String::from_utf8(served.stdout)?, "405");
    let status = second.wait().context("the second replica ends")?;
    ensure!(status.success(), "{status}: {}", cluster.log("second.log"));
    cluster.refused(&privileged(namespace, "four"))?;
    Ok(())
}
