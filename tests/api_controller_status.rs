//! What the controller finds out and says in a policy's status, on a real API server: Secrets, workloads, the ceiling, and
//! when it says nothing.

mod cluster;
mod operator;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cluster::{OPERATOR_NAMESPACE, eventually, once_within, printed_by};
use operator::objects::{flows, policy, secret_entry};
use operator::{alone, beside_others};
use serde_json::{Value, json};

#[test]
fn r43_a_users_secret_created_after_the_policy_turns_its_status() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    let entries = json!([
        {"name": "api-key", "env": "API_KEY", "components": ["api"], "secretRef": {"name": "magsag", "key": "api-key"}},
        {"name": "db", "env": "DB_PASSWORD", "components": ["redis"], "secretRef": {"name": "db", "key": "password"}},
    ]);
    operator.begin("waiting", &json!({"secrets": {"entries": entries}}))?;
    let message = operator.wait_for("waiting", "Ready=False SecretMissing")?;
    assert_eq!(
        message,
        "2 of 2 entries of `spec.secrets.entries` wait for their Secret or its key"
    );
    let binding = operator.get("rolebinding/portcullis-secret-reader -n waiting")?;
    assert_eq!(binding["subjects"].as_array().map(Vec::len), Some(1));
    assert_eq!(binding["subjects"][0]["namespace"], OPERATOR_NAMESPACE);
    assert_eq!(binding["metadata"]["ownerReferences"][0]["kind"], "ClusterRole");

    operator.kubectl("create secret generic magsag -n waiting --from-literal=other=x")?;
    operator.kubectl("create secret generic db -n waiting --from-literal=password=x")?;
    let said = |expected: &Value| {
        eventually(|| {
            let status = operator.status("waiting")?;
            ensure!(status["secrets"] == *expected, "still {status}");
            Ok(())
        })
    };
    said(&json!({"declared": 2, "present": 1, "missing": 1}))?;
    operator.change(
        "secret/magsag -n waiting",
        &json!({"stringData": {"api-key": "x"}}),
    )?;
    said(&json!({"declared": 2, "present": 2, "missing": 0}))?;
    once_within(Duration::from_secs(5), || {
        operator.change("secret/magsag -n waiting", &json!({"data": {"api-key": null}}))?;
        let started = Instant::now();
        said(&json!({"declared": 2, "present": 1, "missing": 1}))?;
        let took = started.elapsed();
        operator.change(
            "secret/magsag -n waiting",
            &json!({"stringData": {"api-key": "x"}}),
        )?;
        said(&json!({"declared": 2, "present": 2, "missing": 0}))?;
        Ok(took)
    })?;

    let events = operator.get("events.events.k8s.io -n waiting --field-selector reason=SecretMissing")?;
    let first = &events["items"][0];
    assert_eq!(first["regarding"]["name"], "magsag");
    let note = first["note"].as_str().unwrap_or_default();
    assert!(
        !note.contains("db") && !note.contains("api-key"),
        "names no Secret: {note}"
    );

    operator.delete_policy("waiting")?;
    eventually(|| {
        let bindings = operator.kubectl("get rolebindings -n waiting -o name")?;
        ensure!(bindings.is_empty(), "still {bindings}");
        Ok(())
    })
}

#[test]
fn r09_secrets_are_known_again_once_the_right_to_read_them_is_back() -> Result<()> {
    let (_turn, operator) = alone()?;
    let entries = json!([
        {"name": "api-key", "env": "API_KEY", "components": ["api"], "secretRef": {"name": "magsag", "key": "api-key"}},
    ]);
    operator.begin("unread", &json!({"secrets": {"entries": entries}}))?;
    operator.kubectl("create secret generic magsag -n unread --from-literal=api-key=x")?;
    operator.wait_for("unread", "Ready=True NoWorkloads")?;

    // The watch is cut, and refused when it is asked to go on.
    let role = operator.kubectl("get clusterrole portcullis-secret-reader -o json")?;
    operator.kubectl("delete clusterrole portcullis-secret-reader")?;
    for action in ["kill", "start"] {
        printed_by(operator.command("e2e/process").args([action, "kube-apiserver"]))?;
    }
    operator.wait_for("unread", "Ready=False SecretsUnreadable")?;
    operator.kubectl_with("create -f -", &role)?;
    operator.wait_for("unread", "Ready=True NoWorkloads").map(drop)
}

#[test]
fn existing_workloads_are_audited_and_counted() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    operator.kubectl("create namespace audited")?;
    let deployment = |name: &str, part_of: &str, security: Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "audited"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {
                "metadata": {"labels": {"app": name, "part-of": part_of}},
                "spec": {"securityContext": security, "containers": [{"name": name, "image": "registry.example.com/app:1"}]},
            }},
        })
    };
    operator.put(&deployment(
        "api",
        "magsag",
        json!({"runAsNonRoot": true, "runAsUser": 65532}),
    ))?;
    operator.put(&deployment("redis", "magsag", json!({"runAsUser": 0})))?;
    operator.put(&deployment("other", "other", json!({})))?;
    let milder = ["pod/read-only-root-filesystem", "pod/resources", "pod/probes"];
    let milder = milder.map(|id| json!({"id": id, "enforcement": "Disabled"}));
    let spec = json!({
        "enforcement": "Warn", "podSecurity": {"defaults": ["SeccompProfile", "AllowPrivilegeEscalation", "DropCapabilities"]},
        "rules": milder,
    });
    operator.put(&policy("audited", &spec))?;
    eventually(|| {
        let status = operator.status("audited")?;
        let expected = json!({"matched": 2, "compliant": 1, "violating": 1, "unmatched": 1});
        ensure!(status["workloads"] == expected, "still {status:#}");
        Ok(())
    })
}

#[test]
fn a_selector_that_matches_nothing_is_named() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    operator.begin("empty", &json!({}))?;
    let message = operator.wait_for("empty", "Ready=True NoWorkloads")?;
    assert_eq!(
        message,
        "`spec.workloads.selector` matches no workload of the namespace yet"
    );
    Ok(())
}

#[test]
fn the_ceiling_is_shown_in_the_policys_condition() -> Result<()> {
    let (_turn, operator) = alone()?;
    operator.enforce("capped", &json!({}))?;
    let set = |ceiling: &str| {
        let config_map = format!("configmap/portcullis -n {OPERATOR_NAMESPACE}");
        operator.change(&config_map, &json!({"data": {"enforcementCeiling": ceiling}}))
    };
    set("Warn")?;
    let told = operator.wait_for("capped", "Enforced=False EnforcementCeiling");
    set("Deny")?;
    let told = told?;
    assert!(told.contains("enforcementCeiling is Warn"), "{told}");
    operator.wait_for("capped", "Enforced=True Enforced").map(drop)
}

#[test]
fn a_steady_state_writes_nothing() -> Result<()> {
    let (_turn, operator) = alone()?;
    operator.begin(
        "steady",
        &json!({"network": flows(), "secrets": secret_entry(), "podSecurity": {}}),
    )?;
    operator.wait_for("steady", "Ready=False SecretMissing")?;
    let versions = || -> Result<Vec<Value>> {
        let of_namespace = "networkpolicies,securitypolicies.portcullis.dev,rolebindings,events -n steady";
        let ours = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
        let (of_namespace, ours) = (operator.get(of_namespace)?, operator.get(ours)?);
        let items = [of_namespace, ours]
            .into_iter()
            .flat_map(|it| it["items"].as_array().cloned().unwrap_or_default());
        Ok(items
            .map(|it| json!([it["metadata"]["name"], it["metadata"]["resourceVersion"]]))
            .collect())
    };
    // The audit, and what tests before left to be done, have their say first.
    eventually(|| {
        let before = versions()?;
        sleep(Duration::from_secs(10));
        let after = versions()?;
        ensure!(after == before, "still writes: {before:?} became {after:?}");
        Ok(())
    })
}
