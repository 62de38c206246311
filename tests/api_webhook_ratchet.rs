//! What was there before a policy, on a real API server: it goes on and may change, but adds no violation.

mod cluster;
mod operator;

use anyhow::{Context, Result, ensure};
use cluster::eventually;
use operator::operator;
use operator::workloads::{STRICT, deployment, pod_spec, workload};

#[test]
fn what_was_there_before_scales_restarts_and_changes_but_adds_no_violation() -> Result<()> {
    let operator = operator()?;
    operator.kubectl("create namespace before")?;
    operator.admitted(&deployment("before", "api", &pod_spec("{}", "")))?;
    operator.govern("before", STRICT)?;
    operator.kubectl("scale deployment/api -n before --replicas=2")?;
    operator.kubectl("annotate deployment/api -n before note=1")?;
    operator.kubectl("rollout restart deployment/api -n before")?;
    let changed = deployment("before", "api", &pod_spec("{}", ", args: [serve]"));
    insta::assert_snapshot!("what_was_there_before", operator.warned(&changed)?);
    let worse = deployment(
        "before",
        "api",
        &pod_spec("{}", ", securityContext: { privileged: true }"),
    );
    insta::assert_snapshot!("what_is_new", operator.refused(&worse)?);
    Ok(())
}

#[test]
fn what_no_policy_selected_before_is_judged_as_new() -> Result<()> {
    let operator = operator()?;
    let selected = STRICT.replace(
        "scope: Namespace",
        "scope: Selected, selector: { matchLabels: { guarded: 'yes' } }",
    );
    let namespace = operator.governed(&selected)?;
    let free = deployment(&namespace, "api", &pod_spec("{}", ""));
    operator.admitted(&free)?;
    let guarded = free.replace(
        "template: { metadata: { labels: { app: api",
        "template: { metadata: { labels: { guarded: 'yes', app: api",
    );
    let refusal = operator.refused(&guarded)?;
    ensure!(refusal.contains("[pod/run-as-non-root]"), "{refusal}");
    operator.admitted(&workload("Pod", &namespace, "bare", &pod_spec("{}", "")))?;
    let label = operator.kubectl_printed(&format!("label pod bare -n {namespace} guarded=yes"), "")?;
    ensure!(
        !label.success && label.err.contains("[pod/run-as-non-root]"),
        "{}",
        label.err
    );
    Ok(())
}

#[test]
fn pods_of_an_old_deployment_come_back_and_a_claimed_owner_proves_nothing() -> Result<()> {
    let operator = operator()?;
    operator.kubectl("create namespace old")?;
    operator.admitted(&deployment("old", "api", &pod_spec("{}", "")))?;
    let pods = || -> Result<Vec<String>> {
        let names = operator.kubectl("get pods -n old -l app=api -o jsonpath={.items[*].metadata.name}")?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    };
    let first = eventually(|| {
        let names = pods()?;
        names.into_iter().next().context("no pod yet")
    })?;
    operator.govern("old", STRICT)?;
    // As a drain does: the ReplicaSet makes another.
    operator.kubectl(&format!("delete pod {first} -n old --now"))?;
    eventually(|| {
        let names = pods()?;
        ensure!(
            !names.is_empty() && !names.contains(&first),
            "no new pod yet: {names:?}"
        );
        Ok(())
    })?;
    // A new ReplicaSet of the same old template.
    operator.kubectl("rollout restart deployment/api -n old")?;
    eventually(|| {
        let sets = operator.kubectl("get replicasets -n old -l app=api -o name")?;
        ensure!(sets.lines().count() == 2, "{sets}");
        Ok(())
    })?;
    let set = operator
        .kubectl("get replicasets -n old -o jsonpath={.items[0].metadata.name}:{.items[0].metadata.uid}")?;
    let (name, uid) = set.split_once(':').unwrap_or_default();
    let owner = format!(
        "ownerReferences: [{{ apiVersion: apps/v1, kind: ReplicaSet, name: {name}, uid: {uid}, controller: true }}]"
    );
    let pod = workload("Pod", "old", "mine", &pod_spec("{}", ""));
    let pod = pod.replace("namespace: old }", &format!("namespace: old, {owner} }}"));
    let refusal = operator.refused(&pod)?;
    ensure!(
        refusal.contains("Pod old/mine breaks SecurityPolicy old/magsag"),
        "{refusal}"
    );
    Ok(())
}
