//! The NetworkPolicies of the controller on a real API server: what it writes, puts back, leaves alone and prunes.

mod cluster;
mod operator;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cluster::{eventually, once_within};
use operator::objects::{flows, policy};
use operator::{alone, beside_others};
use serde_json::json;

/// Within which what was changed by hand must be put back.
const PUT_BACK: Duration = Duration::from_secs(5);

const GENERATED: [&str; 5] = [
    "portcullis-magsag-default-deny",
    "portcullis-magsag-dns",
    "portcullis-magsag-egress.api",
    "portcullis-magsag-ingress.api",
    "portcullis-magsag-ingress.redis",
];

#[test]
fn r46_network_policies_are_generated_put_back_and_pruned() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    operator.enforce("kept", &json!({"network": flows()}))?;
    assert_eq!(operator.network_policies("kept")?, GENERATED);

    let deny = "networkpolicy/portcullis-magsag-default-deny -n kept";
    let spec = operator.get(deny)?["spec"].clone();
    operator.change(
        deny,
        &json!({"spec": {"egress": [{}], "podSelector": {"matchLabels": {"app": "none"}}}}),
    )?;
    eventually(|| {
        let now = operator.get(deny)?["spec"].clone();
        ensure!(now == spec, "still {now}");
        Ok(())
    })?;
    operator.change(
        deny,
        &json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}),
    )?;
    eventually(|| {
        let labels = operator.get(deny)?["metadata"]["labels"].clone();
        ensure!(
            labels["app.kubernetes.io/managed-by"] == "portcullis",
            "still {labels}"
        );
        Ok(())
    })?;

    operator.put(&policy("kept", &json!({"network": {"flows": []}})))?;
    eventually(|| {
        let names = operator.network_policies("kept")?;
        ensure!(names == GENERATED[..2], "still {names:?}");
        let status = operator.status("kept")?;
        ensure!(status["generated"]["networkPolicies"] == 2, "still {status}");
        Ok(())
    })
}

#[test]
fn r46_a_deleted_network_policy_is_put_back_within_five_seconds() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    operator.enforce("deleted", &json!({"network": {}}))?;
    let dns = "networkpolicy/portcullis-magsag-dns -n deleted";
    once_within(PUT_BACK, || {
        operator.kubectl(&format!("delete {dns}"))?;
        let started = Instant::now();
        eventually(|| operator.get(dns).map(drop))?;
        Ok(started.elapsed())
    })
}

#[test]
fn what_is_generated_goes_with_its_policy() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    operator.enforce("gone", &json!({"network": {}}))?;
    operator.delete_policy("gone")?;
    eventually(|| {
        let names = operator.network_policies("gone")?;
        ensure!(names.is_empty(), "still {names:?}");
        Ok(())
    })
}

#[test]
fn r45_a_networkpolicy_of_the_user_is_left_alone() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    operator.kubectl("create namespace conflict")?;
    let theirs = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "portcullis-magsag-dns", "namespace": "conflict"},
        "spec": {"podSelector": {"matchLabels": {"app": "theirs"}}, "policyTypes": ["Ingress"]},
    });
    operator.put(&theirs)?;
    let before = operator.get("networkpolicy/portcullis-magsag-dns -n conflict")?;
    operator.put(&policy("conflict", &json!({"network": {}})))?;
    let message = operator.wait_for("conflict", "Enforced=False Conflict")?;
    assert_eq!(
        message,
        "NetworkPolicy portcullis-magsag-dns exists and is not Portcullis': it is left alone; rename or delete it"
    );
    assert_eq!(operator.network_policies("conflict")?, GENERATED[..2]);

    operator.delete_policy("conflict")?;
    eventually(|| {
        let names = operator.network_policies("conflict")?;
        ensure!(names == ["portcullis-magsag-dns"], "still {names:?}");
        Ok(())
    })?;
    let after = operator.get("networkpolicy/portcullis-magsag-dns -n conflict")?;
    assert_eq!(
        after["metadata"]["resourceVersion"],
        before["metadata"]["resourceVersion"]
    );
    Ok(())
}

#[test]
fn a_dry_run_writes_nothing_lists_what_it_would_and_takes_back_what_stood() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    let mut network = flows();
    operator.enforce("dry", &json!({"network": network}))?;
    network["mode"] = "DryRun".into();
    operator.put(&policy("dry", &json!({"network": network})))?;
    operator.wait_for("dry", "Enforced=True Enforced")?;
    assert_eq!(operator.network_policies("dry")?, Vec::<String>::new());
    let status = operator.status("dry")?;
    insta::assert_snapshot!(serde_json::to_string_pretty(&status["proposed"])?);
    assert_eq!(status["generated"]["networkPolicies"], 0);
    Ok(())
}

#[test]
fn an_invalid_policy_leaves_what_it_generated() -> Result<()> {
    let (_turn, operator) = alone()?;
    operator.enforce("invalid", &json!({"network": flows()}))?;
    let network = json!({"flows": [
        {"from": {"component": "api"}, "to": {"component": "redis"}, "ports": ["99999"]},
    ]});
    operator.put_unseen(&policy("invalid", &json!({"network": network})))?;
    let message = operator.wait_for("invalid", "Accepted=False Invalid")?;
    assert_eq!(
        message,
        "`spec.network.flows[0].ports[0]` must be a port from 1 to 65535 or a range such as 8000-8010, got `99999`"
    );
    assert_eq!(operator.network_policies("invalid")?, GENERATED);
    Ok(())
}
