//! Two replicas on a real API server: one leads, and what becomes of that when it is paused or ends. Each test takes its
//! turn, since all share one Lease.

mod cluster;
mod operator;

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cluster::{OPERATOR_NAMESPACE, eventually};
use jiff::{SignedDuration, Timestamp};
use operator::objects::{field, flows, secret_entry};
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

#[test]
fn r06_a_new_leader_turns_no_condition() -> Result<()> {
    let (_turn, operator) = alone()?;
    operator.begin("turned", &json!({"network": flows(), "secrets": secret_entry()}))?;
    operator.kubectl("create secret generic magsag -n turned --from-literal=api-key=x")?;
    operator.wait_for("turned", "Ready=True NoWorkloads")?;
    let times = || -> Result<Vec<Value>> {
        let status = operator.status("turned")?;
        let conditions = status["conditions"].as_array().context("conditions")?;
        let time = |it: &Value| json!([it["type"], it["status"], it["lastTransitionTime"]]);
        Ok(conditions.iter().map(time).collect())
    };
    let before = times()?;
    let first = lease(operator)?;
    let _second = operator.replica("turned.log")?;
    let paused = operator.pause()?;
    wait_taken_from(operator, &first)?;
    // Something that only a leader who reconciles writes.
    operator.kubectl("delete networkpolicy/portcullis-magsag-dns -n turned")?;
    wait_put_back(operator, "networkpolicy/portcullis-magsag-dns -n turned")?;
    drop(paused);
    assert_eq!(times()?, before);
    Ok(())
}
