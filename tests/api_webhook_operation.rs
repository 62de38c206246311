//! The operator itself on a real API server: its ceiling, its certificates, its replicas and its end. Apart from the other
//! tests of the webhook, which a changed ceiling would disturb.

mod cluster;
mod operator;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cluster::{OPERATOR_NAMESPACE, eventually, once_within, printed_by};
use operator::operator;

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

/// One test, since each step changes what holds for the whole operator.
#[test]
fn the_ceiling_the_certificates_and_the_replicas() -> Result<()> {
    let namespace = operator()?.governed(POLICY)?;
    the_ceiling_holds_within_two_seconds_and_a_wrong_one_changes_nothing(&namespace)?;
    r03_a_deleted_secret_of_certificates_is_written_again_as_it_was()?;
    r06_a_replica_that_is_told_to_end_answers_what_it_still_gets(&namespace)
}

fn the_ceiling_holds_within_two_seconds_and_a_wrong_one_changes_nothing(namespace: &str) -> Result<()> {
    let operator = operator()?;
    let set = |ceiling: &str| {
        operator.kubectl(&format!(
            "patch configmap portcullis -n {OPERATOR_NAMESPACE} --type=merge -p {{\"data\":{{\"enforcementCeiling\":\"{ceiling}\"}}}}"
        ))
    };
    once_within(Duration::from_secs(2), || {
        set("Deny")?;
        operator.refused(&privileged(namespace, "one"))?;
        set("Warn")?;
        let started = Instant::now();
        eventually(|| {
            let began = started.elapsed();
            let refused = operator.would_be_refused(&privileged(namespace, "one"))?;
            ensure!(!refused, "still refused");
            Ok(began)
        })
    })?;
    let warning = operator.admitted(&privileged(namespace, "one"))?;
    ensure!(warning.contains("[pod/privileged]"), "{warning}");
    set("Off")?;
    eventually(|| {
        let log = operator.log("operator.log");
        ensure!(
            log.contains("must be one of Deny, Warn, Audit, got `Off`: the ceiling stays Warn"),
            "{log}"
        );
        Ok(())
    })?;
    operator.admitted(&privileged(namespace, "two"))?;
    operator.kubectl(&format!("delete configmap portcullis -n {OPERATOR_NAMESPACE}"))?;
    operator.refused(&privileged(namespace, "three")).map(drop)
}

fn r03_a_deleted_secret_of_certificates_is_written_again_as_it_was() -> Result<()> {
    let operator = operator()?;
    let secret = format!("secret portcullis-tls -n {OPERATOR_NAMESPACE}");
    let data = || operator.kubectl(&format!("get {secret} -o jsonpath={{.data}}"));
    let before = data()?;
    let owner = operator.kubectl(&format!(
        "get {secret} -o jsonpath={{.metadata.ownerReferences[0].kind}}"
    ))?;
    assert_eq!(owner, "ClusterRole");
    operator.kubectl(&format!("delete {secret}"))?;
    let after = eventually(data)?;
    ensure!(
        before == after,
        "the authority must stay the one that the API server trusts"
    );
    Ok(())
}

fn r06_a_replica_that_is_told_to_end_answers_what_it_still_gets(namespace: &str) -> Result<()> {
    let operator = operator()?;
    let second = operator.replica("second.log")?;
    second.terminate()?;
    eventually(|| {
        let answer = operator.probe(second.metrics_port, "/readyz")?;
        ensure!(answer == "the process is about to end", "{answer}");
        Ok(())
    })?;
    // Still served while the Service learns of it.
    let mut curl = Command::new("curl");
    curl.args(["-sk", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}"])
        .arg(format!(
            "https://127.0.0.1:{}/validate/token",
            second.webhook_port
        ));
    assert_eq!(printed_by(&mut curl)?, "405");
    let status = second.ended()?;
    ensure!(status.success(), "{status}: {}", operator.log("second.log"));
    operator.refused(&privileged(namespace, "four")).map(drop)
}
