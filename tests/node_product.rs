//! The product as its users meet it, on a real node: installed with helm, used with kubectl.

mod node;

use anyhow::{Result, bail, ensure};
use node::{Cluster, OPERATOR_NAMESPACE, cluster, eventually};
use std::time::Duration;

/// The policy of the samples, in a namespace of its own and with another enforcement.
fn policy(namespace: &str, enforcement: &str) -> String {
    include_str!("../manifests/samples/magsag.yaml")
        .replace("namespace: agents", &format!("namespace: {namespace}"))
        .replace("enforcement: Deny", &format!("enforcement: {enforcement}"))
}

/// The Deployment of the samples that breaks the policy in three places.
fn bad_deployment(namespace: &str) -> String {
    include_str!("../manifests/samples/bad-deployment.yaml")
        .replace("namespace: agents", &format!("namespace: {namespace}"))
}

const ROOT_MENDED: (&str, &str) = (
    "          args: [serve, \"8000\"]\n",
    "          args: [serve, \"8000\"]\n          securityContext: { runAsNonRoot: true, runAsUser: 65532 }\n",
);
const CORS_MENDED: (&str, &str) = (r#"'["*"]'"#, r#"'["https://app.example.com"]'"#);

fn mended(namespace: &str, mends: &[(&str, &str)]) -> String {
    mends
        .iter()
        .fold(bad_deployment(namespace), |manifest, (from, to)| {
            assert!(manifest.contains(from), "the sample holds {from}");
            manifest.replace(from, to)
        })
}

#[test]
fn a_bad_deployment_is_refused_in_one_message_and_admitted_when_mended_step_by_step() -> Result<()> {
    let cluster = cluster()?;
    cluster.govern("agents", &policy("agents", "Deny"))?;

    insta::assert_snapshot!("three_violations", cluster.refusal(&bad_deployment("agents"))?);
    insta::assert_snapshot!(
        "two_violations",
        cluster.refusal(&mended("agents", &[ROOT_MENDED]))?
    );
    let deployment = mended("agents", &[ROOT_MENDED, CORS_MENDED]);
    insta::assert_snapshot!("one_violation", cluster.refusal(&deployment)?);
    cluster.kubectl(
        "create secret generic magsag -n agents --from-literal=api-key=0123456789abcdef0123456789abcdef",
    )?;
    // At once: before a denial that rests on a Secret, the API server is asked.
    insta::assert_snapshot!("admitted", cluster.apply(&deployment)?.trim_end());
    cluster.kubectl("rollout status deployment/api -n agents --timeout=60s")?;

    network_policies_have_effect_both_ways(cluster)
}

/// The running API is reached by whom a flow names and by nobody else.
fn network_policies_have_effect_both_ways(cluster: &Cluster) -> Result<()> {
    let path = "{.items[0].status.podIP}";
    let address = cluster.kubectl(&format!(
        "get pods -n agents -l app=magsag-api -o jsonpath={path}"
    ))?;
    let address = format!("{address}:8000");
    cluster.kubectl("create namespace ingress-nginx")?;
    ensure!(
        cluster.dial("ingress-nginx", "{}", &address)?,
        "a flow lets the ingress controller through"
    );
    ensure!(
        !cluster.dial("agents", r#"{"app": "stranger"}"#, &address)?,
        "a stranger of the same namespace is dropped"
    );
    ensure!(
        !cluster.dial("default", "{}", &address)?,
        "a stranger of another namespace is dropped"
    );
    Ok(())
}

#[test]
fn helm_test_sees_a_bad_workload_refused_and_leaves_nothing() -> Result<()> {
    let cluster = cluster()?;
    let output = cluster.helm(&["test", "portcullis", "--namespace", OPERATOR_NAMESPACE, "--logs"])?;
    ensure!(output.contains("a bad workload is refused"), "{output}");
    eventually(Duration::from_secs(30), || {
        let names = cluster.kubectl("get namespaces,clusterroles -o name")?;
        ensure!(!names.contains("self-test"), "left: {names}");
        Ok(())
    })
}

#[test]
fn warn_admits_with_the_violations_as_warnings() -> Result<()> {
    let cluster = cluster()?;
    cluster.govern("warned", &policy("warned", "Warn"))?;
    let output = cluster.kubectl_output("apply -f -", &bad_deployment("warned"))?;
    ensure!(output.status.success(), "admitted");
    insta::assert_snapshot!("warnings", String::from_utf8(output.stderr)?.trim_end());
    Ok(())
}

#[test]
fn audit_admits_silently_and_counts() -> Result<()> {
    let cluster = cluster()?;
    cluster.govern("audited", &policy("audited", "Audit"))?;
    let output = cluster.kubectl_output("apply -f -", &bad_deployment("audited"))?;
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "admitted without a warning"
    );
    eventually(Duration::from_secs(20), || {
        let path = "{.status.workloads.matched}";
        let matched = cluster.kubectl(&format!(
            "get securitypolicies.portcullis.dev magsag -n audited -o jsonpath={path}"
        ))?;
        ensure!(matched == "1", "matched: {matched}");
        Ok(())
    })
}

#[test]
fn a_deployment_from_before_the_policy_scales_and_restarts() -> Result<()> {
    let cluster = cluster()?;
    cluster.kubectl("create namespace before")?;
    let root = bad_deployment("before").replace(
        "image: portcullis.test/probe:v1",
        "image: portcullis.test/probe:v1\n          imagePullPolicy: Never",
    );
    let root = root.replace("            - name: MAGSAG_API_KEY\n              valueFrom:\n                secretKeyRef: { name: magsag, key: api-key }\n", "");
    cluster.apply(&root)?;
    cluster.kubectl("rollout status deployment/api -n before --timeout=60s")?;
    cluster.apply(&policy("before", "Deny"))?;
    cluster.wait_enforced("before")?;

    cluster.kubectl("scale deployment/api --replicas=2 -n before")?;
    cluster.kubectl("rollout status deployment/api -n before --timeout=60s")?;
    cluster.kubectl("rollout restart deployment/api -n before")?;
    cluster.kubectl("rollout status deployment/api -n before --timeout=60s")?;
    cluster.kubectl("delete pods --all -n before --now")?;
    cluster
        .kubectl("rollout status deployment/api -n before --timeout=60s")
        .map(drop)
}

#[test]
fn r31_kubectl_debug_with_root_is_refused() -> Result<()> {
    let cluster = cluster()?;
    let policy = r#"{"apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy", "metadata": {"name": "debug", "namespace": "debugged"},
        "spec": {"rulesVersion": "v1", "environment": "Production", "enforcement": "Deny", "workloads": {"scope": "Namespace"}, "podSecurity": {}}}"#;
    cluster.govern("debugged", policy)?;
    let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api", "namespace": "debugged"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "api", "image": "portcullis.test/probe:v1", "args": ["serve", "8000"],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}}"#;
    cluster.apply(pod)?;
    cluster.kubectl("wait pod/api --for=condition=Ready -n debugged --timeout=60s")?;
    let debug = "debug api -n debugged --image=portcullis.test/probe:v1 --profile=sysadmin --container=intruder -- sleep 1";
    let Err(refusal) = cluster.kubectl(debug) else {
        bail!("must be refused")
    };
    insta::assert_snapshot!("debug", refusal);
    Ok(())
}

#[test]
fn a_secret_created_after_the_policy_turns_its_status() -> Result<()> {
    let cluster = cluster()?;
    cluster.govern("waiting", &policy("waiting", "Deny"))?;
    let ready = || {
        let path = r#"{.status.conditions[?(@.type=="Ready")].reason}={.status.secrets.missing}"#;
        cluster.kubectl(&format!(
            "get securitypolicies.portcullis.dev magsag -n waiting -o jsonpath={path}"
        ))
    };
    eventually(Duration::from_secs(10), || {
        let status = ready()?;
        ensure!(status == "SecretMissing=2", "{status}");
        Ok(())
    })?;
    cluster.kubectl("create secret generic magsag -n waiting --from-literal=api-key=0123456789abcdef")?;
    cluster.kubectl(
        "create secret generic magsag-worker -n waiting --from-literal=model-key=0123456789abcdef",
    )?;
    cluster
        .kubectl("wait securitypolicies.portcullis.dev/magsag -n waiting --for=condition=Ready --timeout=5s")
        .map(drop)
}
