//! Two replicas on a real API server: one leads, and what becomes of that when it is paused or ends. Each test takes its
//! turn, since all share one Lease.

mod cluster;
mod operator;

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cluster::{OPERATOR_NAMESPACE, eventually};
use jiff::{SignedDuration, Timestamp};
use operator::objects::{field, flows, policy, secret_entry};
use operator::{Operator, alone};
use serde_json::{Value, json};

/// What the Lease says.
fn lease(operator: &Operator) -> Result<Value> {
    let lease = operator.get(&format!("lease/portcullis -n {OPERATOR_NAMESPACE}"))?;
    Ok(field(&lease, "/spec").clone())
}

/// A time that the Lease states.
fn time(lease: &Value, pointer: &str) -> Result<Timestamp> {
    let text = field(lease, pointer).as_str().context("a time")?;
    text.parse().with_context(|| format!("`{pointer}` {text}"))
}

/// Waits until another than `first` holds the Lease, which it then says.
fn wait_taken_from(operator: &Operator, first: &Value) -> Result<Value> {
    eventually(|| {
        let now = lease(operator)?;
        let holder = field(&now, "/holderIdentity");
        let before = field(first, "/holderIdentity");
        ensure!(holder != before && !holder.is_null(), "still {holder}");
        Ok(now)
    })
}

/// Waits for an object that only a leader writes.
fn wait_put_back(operator: &Operator, object: &str) -> Result<()> {
    eventually(|| operator.get(object).map(drop))
}

#[test]
fn r07_a_paused_leader_is_replaced_and_writes_nothing_once_resumed() -> Result<()> {
    let (_turn, operator) = alone()?;
    operator.enforce("led", &json!({"network": {}}))?;
    let first = lease(operator)?;
    let _second = operator.replica("second.log")?;
    sleep(Duration::from_secs(3));
    assert_eq!(
        lease(operator)?["holderIdentity"],
        first["holderIdentity"],
        "a second replica does not take the Lease from a living one"
    );

    let paused = operator.pause()?;
    let before = operator.log("operator.log").len();
    operator.kubectl("delete networkpolicy/portcullis-magsag-dns -n led")?;
    wait_taken_from(operator, &first)?;
    wait_put_back(operator, "networkpolicy/portcullis-magsag-dns -n led")?;
    // Something to write for whoever believes to lead.
    operator.kubectl("delete networkpolicy/portcullis-magsag-default-deny -n led")?;
    drop(paused);
    let since = || {
        let log = operator.log("operator.log");
        log.get(before..).unwrap_or_default().to_owned()
    };
    eventually(|| {
        ensure!(since().contains("Lost leadership"), "{}", since());
        Ok(())
    })?;
    wait_put_back(operator, "networkpolicy/portcullis-magsag-default-deny -n led")?;
    sleep(Duration::from_secs(2));
    for word in ["Applied", "Deleted", "Wrote"] {
        assert!(!since().contains(word), "{}", since());
    }
    Ok(())
}

#[test]
fn r06_a_leader_that_is_told_to_end_gives_the_lease_back() -> Result<()> {
    let (_turn, operator) = alone()?;
    let first = lease(operator)?;
    let second = operator.replica("ended.log")?;
    let paused = operator.pause()?;
    let taken = wait_taken_from(operator, &first)?;
    drop(paused);
    eventually(|| {
        ensure!(
            operator.leads(second.metrics_port)?,
            "the second replica says that it leads"
        );
        ensure!(
            !operator.leads(operator.metrics_port)?,
            "the first one says so no more"
        );
        Ok(())
    })?;
    // Just renewed: left alone it would hold for its whole duration.
    let renewed = eventually(|| {
        let now = lease(operator)?;
        ensure!(now["renewTime"] != taken["renewTime"], "still {now}");
        Ok(now)
    })?;
    second.terminate()?;
    let again = wait_taken_from(operator, &renewed)?;
    let duration = renewed["leaseDurationSeconds"].as_i64().context("seconds")?;
    let ends = time(&renewed, "/renewTime")? + SignedDuration::from_secs(duration);
    ensure!(time(&again, "/acquireTime")? < ends, "{again} after {renewed}");
    let status = second.ended()?;
    ensure!(status.success(), "{status}: {}", operator.log("ended.log"));
    eventually(|| {
        ensure!(
            operator.leads(operator.metrics_port)?,
            "the first replica leads again"
        );
        Ok(())
    })
}

/// A policy with a rule of a later version, as after a rollback: the API server still accepts it.
fn begin_unreadable(operator: &Operator, namespace: &str) -> Result<()> {
    operator.enforce(namespace, &json!({"network": {}}))?;
    operator.wait_for(namespace, "Ready=True NoWorkloads")?;
    let ids =
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/rules/items/properties/id/enum/-";
    let later = json!([{"op": "add", "path": ids, "value": "pod/of-tomorrow"}]);
    operator.kubectl_with(
        "patch crd securitypolicies.portcullis.dev --type=json --patch-file=/dev/stdin",
        &later.to_string(),
    )?;
    let rules = json!([{"id": "pod/of-tomorrow", "enforcement": "Warn"}]);
    // The API server takes the new definition up a moment later.
    eventually(|| operator.put_unseen(&policy(namespace, &json!({"network": {}, "rules": rules}))))?;
    let message = operator.wait_for(namespace, "Accepted=False Invalid")?;
    ensure!(message.contains("pod/of-tomorrow"), "{message}");
    let status = operator.status(namespace)?;
    ensure!(field(&status, "/generated/networkPolicies") == 2, "{status:#}");
    ensure!(field(&status, "/workloads/matched") == 0, "{status:#}");
    Ok(())
}

#[test]
fn r06_a_new_leader_turns_no_condition() -> Result<()> {
    let (_turn, operator) = alone()?;
    begin_unreadable(operator, "rolled-back")?;
    operator.begin("turned", &json!({"network": flows(), "secrets": secret_entry()}))?;
    operator.kubectl("create secret generic magsag -n turned --from-literal=api-key=x")?;
    operator.wait_for("turned", "Ready=True NoWorkloads")?;
    let times = |namespace| -> Result<Vec<Value>> {
        let status = operator.status(namespace)?;
        let conditions = status["conditions"].as_array().context("conditions")?;
        let time = |it: &Value| json!([it["type"], it["status"], it["lastTransitionTime"]]);
        let counts = json!([status["generated"], status["workloads"], status["secrets"]]);
        Ok(conditions.iter().map(time).chain([counts]).collect())
    };
    let all_times = || Ok::<_, anyhow::Error>([times("turned")?, times("rolled-back")?]);
    let before = all_times()?;
    let first = lease(operator)?;
    let _second = operator.replica("turned.log")?;
    let paused = operator.pause()?;
    wait_taken_from(operator, &first)?;
    // Something that only a leader who reconciles writes.
    operator.kubectl("delete networkpolicy/portcullis-magsag-dns -n turned")?;
    wait_put_back(operator, "networkpolicy/portcullis-magsag-dns -n turned")?;
    // The new leader has not been told of the version before the one that cannot be read.
    eventually(|| {
        let message = operator.message_of("rolled-back", "Enforced=False Invalid")?;
        ensure!(
            message.starts_with("no version of the policy is in force"),
            "{message}"
        );
        Ok(())
    })?;
    drop(paused);
    assert_eq!(all_times()?, before);
    Ok(())
}
