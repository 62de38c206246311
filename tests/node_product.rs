//! The product as its users meet it, on a real node: installed with helm, used with kubectl.

mod cluster;
mod node;

use anyhow::{Result, bail, ensure};
use cluster::{OPERATOR_NAMESPACE, eventually};
use node::{Node, node};

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
    let node = node()?;
    node.govern("agents", &policy("agents", "Deny"))?;
    wait_secrets(node, "agents", "SecretMissing=2")?;

    insta::assert_snapshot!("three_violations", node.refusal(&bad_deployment("agents"))?);
    insta::assert_snapshot!("two_violations", node.refusal(&mended("agents", &[ROOT_MENDED]))?);
    let deployment = mended("agents", &[ROOT_MENDED, CORS_MENDED]);
    insta::assert_snapshot!("one_violation", node.refusal(&deployment)?);
    node.kubectl(
        "create secret generic magsag -n agents --from-literal=api-key=0123456789abcdef0123456789abcdef",
    )?;
    // At once: before a denial that rests on a Secret, the API server is asked.
    insta::assert_snapshot!("admitted", node.apply(&deployment)?.trim_end());
    node.rolled_out("api -n agents")?;

    network_policies_have_effect_both_ways(node)
}

/// The running API is reached by whom a flow names and by nobody else.
fn network_policies_have_effect_both_ways(node: &Node) -> Result<()> {
    let path = "{.items[0].status.podIP}";
    let address = node.kubectl(&format!(
        "get pods -n agents -l app=magsag-api -o jsonpath={path}"
    ))?;
    let address = format!("{address}:8000");
    node.kubectl("create namespace ingress-nginx")?;
    // Who is let through and who is not is known to the node a moment after the pods are there.
    let lets_through = |namespace, labels, expected, who: &str| {
        eventually(|| {
            ensure!(node.dial(namespace, labels, &address)? == expected, "{who}");
            Ok(())
        })
    };
    lets_through(
        "ingress-nginx",
        "{}",
        true,
        "a flow lets the ingress controller through",
    )?;
    lets_through(
        "agents",
        r#"{"app": "stranger"}"#,
        false,
        "a stranger of the same namespace is dropped",
    )?;
    lets_through(
        "default",
        "{}",
        false,
        "a stranger of another namespace is dropped",
    )
}

#[test]
fn helm_test_sees_a_bad_workload_refused_and_leaves_nothing() -> Result<()> {
    let node = node()?;
    let output = node.helm(&["test", "portcullis", "--namespace", OPERATOR_NAMESPACE, "--logs"])?;
    ensure!(output.contains("a bad workload is refused"), "{output}");
    eventually(|| {
        let names = node.kubectl("get namespaces,clusterroles -o name")?;
        ensure!(!names.contains("self-test"), "left: {names}");
        Ok(())
    })
}

#[test]
fn warn_admits_with_the_violations_as_warnings() -> Result<()> {
    let node = node()?;
    node.govern("warned", &policy("warned", "Warn"))?;
    // Until the operator reads the namespace's Secrets, it says that it cannot judge them.
    wait_secrets(node, "warned", "SecretMissing=2")?;
    insta::assert_snapshot!("warnings", node.warnings(&bad_deployment("warned"))?);
    Ok(())
}

/// Waits until the status says this of the policy's Secrets: the reason of Ready and how many are missing.
fn wait_secrets(node: &Node, namespace: &str, expected: &str) -> Result<()> {
    let path = r#"{.status.conditions[?(@.type=="Ready")].reason}={.status.secrets.missing}"#;
    let get = format!("get securitypolicies.portcullis.dev magsag -n {namespace} -o jsonpath={path}");
    eventually(|| {
        let status = node.kubectl(&get)?;
        ensure!(status == expected, "{status}");
        Ok(())
    })
}

#[test]
fn audit_admits_silently_and_counts() -> Result<()> {
    let node = node()?;
    node.govern("audited", &policy("audited", "Audit"))?;
    let output = node.kubectl_printed("apply -f -", &bad_deployment("audited"))?;
    ensure!(
        output.success && output.err.is_empty(),
        "admitted without a warning"
    );
    eventually(|| {
        let path = "{.status.workloads.matched}";
        let matched = node.kubectl(&format!(
            "get securitypolicies.portcullis.dev magsag -n audited -o jsonpath={path}"
        ))?;
        ensure!(matched == "1", "matched: {matched}");
        Ok(())
    })
}

#[test]
fn a_deployment_from_before_the_policy_scales_and_restarts() -> Result<()> {
    let node = node()?;
    node.kubectl("create namespace before")?;
    let root = bad_deployment("before").replace(
        "image: portcullis.test/probe:v1",
        "image: portcullis.test/probe:v1\n          imagePullPolicy: Never",
    );
    let root = root.replace("            - name: MAGSAG_API_KEY\n              valueFrom:\n                secretKeyRef: { name: magsag, key: api-key }\n", "");
    node.apply(&root)?;
    node.rolled_out("api -n before")?;
    node.apply(&policy("before", "Deny"))?;
    node.wait_enforced("before")?;

    node.kubectl("scale deployment/api --replicas=2 -n before")?;
    node.rolled_out("api -n before")?;
    node.kubectl("rollout restart deployment/api -n before")?;
    node.rolled_out("api -n before")?;
    node.kubectl("delete pods --all -n before --now")?;
    node.rolled_out("api -n before")
}

#[test]
fn r31_kubectl_debug_with_root_is_refused() -> Result<()> {
    let node = node()?;
    let policy = r#"{"apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy", "metadata": {"name": "debug", "namespace": "debugged"},
        "spec": {"rulesVersion": "v1", "environment": "Production", "enforcement": "Deny", "workloads": {"scope": "Namespace"}, "podSecurity": {}}}"#;
    node.govern("debugged", policy)?;
    let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api", "namespace": "debugged"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "api", "image": "portcullis.test/probe:v1", "args": ["serve", "8000"],
        "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
        "readinessProbe": {"exec": {"command": ["/probe", "get", "http://127.0.0.1:8000/"]}},
        "livenessProbe": {"exec": {"command": ["/probe", "get", "http://127.0.0.1:8000/"]}},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}}"#;
    node.apply(pod)?;
    node.wait("pod/api --for=condition=Ready -n debugged")?;
    let root = pod.replace(r#""name": "api", "namespace""#, r#""name": "root", "namespace""#);
    node.refusal(&root.replace(r#""runAsNonRoot": true, "runAsUser": 65532"#, r#""runAsUser": 0"#))?;
    let debug = "debug api -n debugged --image=portcullis.test/probe:v1 --profile=sysadmin --container=intruder -- sleep 1";
    let Err(refusal) = node.kubectl(debug) else {
        bail!("must be refused")
    };
    insta::assert_snapshot!("debug", refusal);
    Ok(())
}

#[test]
fn a_secret_created_after_the_policy_turns_its_status() -> Result<()> {
    let node = node()?;
    node.govern("waiting", &policy("waiting", "Deny"))?;
    wait_secrets(node, "waiting", "SecretMissing=2")?;
    node.kubectl("create secret generic magsag -n waiting --from-literal=api-key=0123456789abcdef")?;
    node.kubectl("create secret generic magsag-worker -n waiting --from-literal=model-key=0123456789abcdef")?;
    node.wait("securitypolicies.portcullis.dev/magsag -n waiting --for=condition=Ready")
}
