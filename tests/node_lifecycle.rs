//! What must survive on a real node: the operator gone, back, and uninstalled. One test after the other, since each
//! takes the operator away.

mod cluster;
mod node;

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use cluster::{OPERATOR_NAMESPACE, eventually};
use node::{Node, node};

static TURN: Mutex<()> = Mutex::new(());

/// The node, with the operator at work on it, whatever a test that failed left.
fn turn() -> Result<(MutexGuard<'static, ()>, &'static Node)> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let node = node()?;
    node.kubectl(&format!("uncordon {}", machine(node)?))?;
    let status = ["status", "portcullis", "--namespace", OPERATOR_NAMESPACE];
    if node.helm(&status).is_err() {
        node.install()?;
    }
    scale_operator(node, 2)?;
    Ok((turn, node))
}

fn machine(node: &Node) -> Result<String> {
    node.kubectl("get nodes -o jsonpath={.items[0].metadata.name}")
}

fn policy(namespace: &str) -> String {
    format!(
        r#"{{"apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy", "metadata": {{"name": "strict", "namespace": "{namespace}"}},
        "spec": {{"rulesVersion": "v1", "environment": "Production", "enforcement": "Deny", "workloads": {{"scope": "Namespace"}},
        "podSecurity": {{"defaults": ["SeccompProfile", "AllowPrivilegeEscalation", "DropCapabilities"]}},
        "secrets": {{}}, "network": {{}}}}}}"#
    )
}

fn deployment(namespace: &str, name: &str, security_context: &str) -> String {
    format!(
        r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "{name}", "namespace": "{namespace}"}},
        "spec": {{"replicas": 1, "selector": {{"matchLabels": {{"app": "{name}"}}}}, "template": {{"metadata": {{"labels": {{"app": "{name}"}}}},
        "spec": {{"securityContext": {security_context}, "containers": [{{"name": "{name}", "image": "portcullis.test/probe:v1",
        "args": ["serve", "8000"]}}]}}}}}}}}"#
    )
}

const NON_ROOT: &str = r#"{"runAsNonRoot": true, "runAsUser": 65532}"#;

fn scale_operator(node: &Node, replicas: usize) -> Result<()> {
    node.kubectl(&format!(
        "scale deployment/portcullis --replicas={replicas} -n {OPERATOR_NAMESPACE}"
    ))?;
    if replicas > 0 {
        return node.rolled_out(&format!("portcullis -n {OPERATOR_NAMESPACE}"));
    }
    eventually(|| {
        let pods = node.kubectl(&format!("get pods -n {OPERATOR_NAMESPACE} -o name"))?;
        ensure!(pods.is_empty(), "still there: {pods}");
        Ok(())
    })
}

#[test]
fn r01_with_every_replica_gone_drained_pods_come_back_and_root_is_refused() -> Result<()> {
    let (_turn, node) = turn()?;
    node.govern("drained", &policy("drained"))?;
    node.apply(&deployment("drained", "api", NON_ROOT))?;
    node.rolled_out("api -n drained")?;
    scale_operator(node, 0)?;

    let machine = machine(node)?;
    node.kubectl(&format!(
        "drain {machine} --ignore-daemonsets --delete-emptydir-data --force --timeout=180s"
    ))?;
    node.kubectl(&format!("uncordon {machine}"))?;
    node.rolled_out("api -n drained")?;

    let refusal = node.refusal(&deployment("drained", "intruder", "{}"))?;
    ensure!(
        refusal.contains("workloads.portcullis.dev"),
        "names Portcullis: {refusal}"
    );
    node.kubectl("create namespace free")?;
    node.apply(&deployment("free", "api", "{}"))?;

    scale_operator(node, 2)?;
    // Refused all the time, and in the end by judgement.
    let refusal = eventually(|| {
        let refusal = node.refusal(&deployment("drained", "intruder", "{}"))?;
        ensure!(refusal.contains("[pod/run-as-non-root]"), "{refusal}");
        Ok(refusal)
    })?;
    ensure!(
        refusal.contains("Deployment drained/intruder breaks SecurityPolicy drained/strict"),
        "{refusal}"
    );
    Ok(())
}

#[test]
fn r12_a_deleted_webhook_configuration_is_put_back() -> Result<()> {
    let (_turn, node) = turn()?;
    node.govern("restored", &policy("restored"))?;
    let configurations = "validatingwebhookconfiguration,mutatingwebhookconfiguration";
    node.kubectl(&format!("delete {configurations} zz-portcullis"))?;
    eventually(|| node.kubectl(&format!("get {configurations} zz-portcullis"))).map(drop)
}

#[test]
fn r04_uninstalling_leaves_definitions_policies_and_what_they_made_and_nothing_else() -> Result<()> {
    let (_turn, node) = turn()?;
    node.govern("left", &policy("left"))?;
    eventually(|| {
        let binding = node.kubectl("get rolebinding portcullis-secret-reader -n left -o name")?;
        ensure!(!binding.is_empty(), "the reader is bound");
        Ok(())
    })?;
    let made = node.kubectl("get networkpolicies -n left -o name")?;
    ensure!(!made.is_empty(), "NetworkPolicies are made");

    // Also when the operator is already dead: garbage collection does the rest.
    scale_operator(node, 0)?;
    node.helm(&[
        "uninstall",
        "portcullis",
        "--namespace",
        OPERATOR_NAMESPACE,
        "--wait",
    ])?;
    eventually(|| {
        let cluster_wide = "validatingwebhookconfigurations,mutatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,clusterrolebindings";
        let all = node.kubectl(&format!("get {cluster_wide} -o name"))?;
        let ours: Vec<&str> = all
            .lines()
            .filter(|it| it.contains("portcullis") && !it.contains("portcullis-e2e-"))
            .collect();
        ensure!(ours.is_empty(), "left in the cluster: {ours:?}");
        let own = node.kubectl(&format!(
            "get leases,secrets,deployments,pods,services -n {OPERATOR_NAMESPACE} -o name"
        ))?;
        ensure!(own.is_empty(), "left in the operator's namespace: {own}");
        let bindings = node.kubectl("get rolebindings -A -o name")?;
        ensure!(
            !bindings.contains("portcullis"),
            "left in governed namespaces: {bindings}"
        );
        Ok(())
    })?;
    node.kubectl("get securitypolicies.portcullis.dev strict -n left")?;
    ensure!(
        node.kubectl("get networkpolicies -n left -o name")? == made,
        "what policies made stays"
    );
    // The API server learns a moment later that there is no webhook any more.
    eventually(|| node.apply(&deployment("left", "api", "{}")))?;

    node.install()?;
    node.wait_enforced("left")?;
    // Refused in any case, and by judgement as soon as the node leads the Service's address to the new pods.
    eventually(|| {
        let refusal = node.refusal(&deployment("left", "intruder", "{}"))?;
        ensure!(refusal.contains("SecurityPolicy left/strict"), "{refusal}");
        Ok(())
    })
}
