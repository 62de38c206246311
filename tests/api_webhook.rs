//! The webhook on a real API server: what kubectl prints, what is let through, what is set on Pods. The operator runs as
//! its own binary, with the chart's options and the rights of the chart's ServiceAccount.

mod cluster;
mod operator;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cluster::{OPERATOR_NAMESPACE, eventually, once_within};
use operator::operator;
use operator::workloads::{NON_ROOT, STRICT, deployment, pod_spec, workload};
use rstest::rstest;
use serde_json::{Value, json};

const SECRETS: &str = "
  rulesVersion: v1
  environment: Production
  enforcement: Deny
  workloads: { scope: Namespace }
  secrets: { literals: Forbidden }
";

#[test]
fn three_violations_are_one_denial_that_says_how_to_mend_each() -> Result<()> {
    let operator = operator()?;
    operator.kubectl("create namespace agents")?;
    operator.govern(
        "agents",
        r##"
  rulesVersion: v1
  environment: Production
  enforcement: Deny
  contact: "#agents-platform"
  workloads: { scope: Selected, selector: { matchLabels: { app.kubernetes.io/part-of: magsag } } }
  components: [{ name: api, role: HttpService, selector: { matchLabels: { app: magsag-api } } }]
  rules:
    - { id: pod/read-only-root-filesystem, enforcement: Disabled }
    - { id: pod/resources, enforcement: Disabled }
    - { id: pod/probes, enforcement: Disabled }
  podSecurity: { level: Restricted, defaults: [SeccompProfile, AllowPrivilegeEscalation, DropCapabilities] }
  secrets:
    literals: Forbidden
    onMissing: Deny
    entries: [{ name: api-key, env: MAGSAG_API_KEY, components: [api], secretRef: { name: magsag, key: api-key } }]
  http: { cors: { env: MAGSAG_CORS_ORIGINS, allowedOrigins: ["https://app.example.com"] } }
"##,
    )?;
    let sample = std::fs::read_to_string(cluster::root().join("manifests/samples/bad-deployment.yaml"))?;
    insta::assert_snapshot!(operator.refused(&sample)?);
    Ok(())
}

#[test]
fn mode_warn_admits_and_warns_and_mode_audit_says_nothing() -> Result<()> {
    let operator = operator()?;
    let namespace = operator.governed(&STRICT.replace("enforcement: Deny", "enforcement: Warn"))?;
    let root = pod_spec("{}", "");
    insta::assert_snapshot!(
        "mode_warn",
        operator.warned(&deployment(&namespace, "api", &root))?
    );
    let namespace = operator.governed(&STRICT.replace("enforcement: Deny", "enforcement: Audit"))?;
    assert_eq!(operator.admitted(&deployment(&namespace, "api", &root))?, "");
    Ok(())
}

#[rstest]
#[case("Pod")]
#[case("Deployment")]
#[case("ReplicaSet")]
#[case("StatefulSet")]
#[case("DaemonSet")]
#[case("Job")]
#[case("CronJob")]
#[case("ReplicationController")]
#[case("PodTemplate")]
fn r33_a_root_workload_of_every_kind_is_refused_and_a_good_one_admitted(#[case] kind: &str) -> Result<()> {
    let operator = operator()?;
    let namespace = operator.governed(STRICT)?;
    let refusal = operator.refused(&workload(kind, &namespace, "api", &pod_spec("{}", "")))?;
    let headline =
        format!("{kind} {namespace}/api breaks SecurityPolicy {namespace}/magsag in 1 place: root user");
    ensure!(refusal.contains(&headline), "{refusal}");
    operator.admitted(&workload(kind, &namespace, "api", &pod_spec(NON_ROOT, "")))?;
    Ok(())
}

#[rstest]
#[case::init("initContainers: [{ name: one, image: i, securityContext: { runAsUser: 0 } }],")]
#[case::sidecar(
    "initContainers: [{ name: one, image: i, restartPolicy: Always, securityContext: { runAsUser: 0 } }],"
)]
fn r31_init_containers_and_sidecars_are_judged(#[case] containers: &str) -> Result<()> {
    let operator = operator()?;
    let namespace = operator.governed(STRICT)?;
    let pod =
        pod_spec(NON_ROOT, "").replace("{ securityContext", &format!("{{ {containers} securityContext"));
    let refusal = operator.refused(&deployment(&namespace, "api", &pod))?;
    ensure!(
        refusal.contains("spec.template.spec.initContainers[one].securityContext.runAsUser"),
        "{refusal}"
    );
    Ok(())
}

#[test]
fn r31_kubectl_debug_is_refused_when_its_container_breaks_the_policy() -> Result<()> {
    let operator = operator()?;
    let namespace = operator.governed(STRICT)?;
    let good = pod_spec("{}", ", securityContext: { runAsNonRoot: true }");
    operator.admitted(&workload("Pod", &namespace, "api", &good))?;
    let debug = "--image=registry.test/shell:v1 --container=shell --attach=false --profile";
    let root = workload("Pod", &namespace, "root", &pod_spec("{}", ""));
    operator.refused(&root).context("the webhook is asked by now")?;
    let printed = operator.kubectl_printed(&format!("debug api -n {namespace} {debug}=general"), "")?;
    ensure!(!printed.success, "must be refused");
    insta::assert_snapshot!(printed.err.replace(&namespace, "NAMESPACE"));
    operator.kubectl(&format!("debug api -n {namespace} {debug}=restricted"))?;
    Ok(())
}

#[test]
fn pods_get_defaults_and_secrets_and_templates_stay_as_they_are() -> Result<()> {
    let operator = operator()?;
    let namespace = operator.governed(
        "
  rulesVersion: v1
  environment: Production
  enforcement: Deny
  workloads: { scope: Namespace }
  rules:
    - { id: pod/read-only-root-filesystem, enforcement: Disabled }
    - { id: pod/resources, enforcement: Disabled }
    - { id: pod/probes, enforcement: Disabled }
  podSecurity: { level: Restricted, defaults: [SeccompProfile, AllowPrivilegeEscalation, RunAsNonRoot, DropCapabilities] }
  secrets:
    entries: [{ name: key, env: API_KEY, secretRef: { name: magsag, key: api-key }, delivery: { mode: Env, containers: [api] } }]
",
    )?;
    operator.kubectl(&format!(
        "create secret generic magsag -n {namespace} --from-literal=api-key=0123456789"
    ))?;
    let root = |kind| workload(kind, &namespace, "api", &pod_spec("{}", ""));
    eventually(|| {
        let dry = operator.kubectl_with("create --dry-run=server -o json -f -", &root("Pod"))?;
        ensure!(dry.contains("API_KEY"), "the webhook is not asked yet: {dry}");
        Ok(())
    })?;
    let get = |kind, path: &str| -> Result<Value> {
        operator.admitted(&root(kind))?;
        let object = operator.get(&format!("{kind} api -n {namespace}"))?;
        let container = object.pointer(path).cloned().unwrap_or_default();
        Ok(json!({"env": container["env"], "securityContext": container["securityContext"]}))
    };
    insta::assert_snapshot!(serde_json::to_string_pretty(&get("Pod", "/spec/containers/0")?)?);
    assert_eq!(
        get("Deployment", "/spec/template/spec/containers/0")?,
        json!({"env": null, "securityContext": null})
    );
    Ok(())
}

#[test]
fn r42_a_secret_created_after_the_denial_is_seen_at_once() -> Result<()> {
    let operator = operator()?;
    let namespace = operator.governed(SECRETS)?;
    let env = ", env: [{ name: KEY, valueFrom: { secretKeyRef: { name: magsag, key: api-key } } }]";
    let workload = |name: &str| deployment(&namespace, name, &pod_spec("{}", env));
    let secret = format!("secret generic magsag -n {namespace} --from-literal=api-key=0123456789");
    for round in 0..5 {
        let refusal = operator.refused(&workload("before"))?;
        ensure!(refusal.contains("[secret/missing]"), "round {round}: {refusal}");
        operator.kubectl(&format!("create {secret}"))?;
        operator.admitted(&workload(&format!("after-{round}")))?;
        operator.kubectl(&format!("delete secret/magsag -n {namespace}"))?;
    }
    Ok(())
}

#[test]
fn r41_a_dry_run_binds_nothing_and_a_real_request_binds_and_is_answered() -> Result<()> {
    let operator = operator()?;
    let namespace = operator.governed(SECRETS)?;
    let binding = format!("rolebinding portcullis-secret-reader -n {namespace}");
    let env = ", env: [{ name: KEY, valueFrom: { secretKeyRef: { name: magsag, key: api-key } } }]";
    let workload = deployment(&namespace, "api", &pod_spec("{}", env));
    // The controller looks after its bindings too, by chance in the midst of this: then once more.
    let dry = eventually(|| {
        operator.kubectl(&format!("delete --ignore-not-found {binding}"))?;
        eventually(|| {
            ensure!(
                !operator.may_read_secrets(&namespace)?,
                "Secrets can still be read"
            );
            Ok(())
        })?;
        let dry = operator.kubectl_printed("create --dry-run=server -f -", &workload)?;
        let bound = operator.kubectl(&format!("get --ignore-not-found {binding}"))?;
        ensure!(bound.is_empty(), "a dry run must write nothing, but: {bound}");
        Ok(dry)
    })?;
    insta::assert_snapshot!(dry.err.replace(&namespace, "NAMESPACE"));
    let refusal = operator.kubectl_printed("create -f -", &workload)?.err;
    ensure!(refusal.contains("[secret/missing]"), "{refusal}");
    operator.kubectl(&format!("get {binding}"))?;
    Ok(())
}

#[test]
fn a_dry_run_is_answered_as_the_real_request() -> Result<()> {
    let operator = operator()?;
    let namespace = operator.governed(STRICT)?;
    let workload = deployment(&namespace, "api", &pod_spec("{}", ""));
    operator
        .refused(&workload)
        .context("the webhook is asked by now")?;
    let dry = operator.kubectl_printed("create --dry-run=server -f -", &workload)?;
    let real = operator.kubectl_printed("create -f -", &workload)?;
    ensure!(!dry.success && !real.success, "both must be refused");
    assert_eq!(dry.err, real.err);
    Ok(())
}

#[test]
fn r40_an_edited_or_deleted_policy_takes_effect_within_a_second() -> Result<()> {
    let operator = operator()?;
    let namespace = operator.governed(STRICT)?;
    let root = deployment(&namespace, "api", &pod_spec("{}", ""));
    let policy = format!("securitypolicies.portcullis.dev/magsag -n {namespace}");
    let admits = |change: &str| -> Result<Duration> {
        operator.refused(&root)?;
        operator.kubectl(change)?;
        let started = Instant::now();
        eventually(|| {
            let began = started.elapsed();
            ensure!(!operator.would_be_refused(&root)?, "still refused");
            Ok(began)
        })
    };
    once_within(Duration::from_secs(1), || {
        operator.govern(&namespace, STRICT)?;
        admits(&format!("delete {policy}"))
    })?;
    operator.govern(&namespace, STRICT)?;
    let enforcement =
        |it: &str| format!("patch {policy} --type=merge -p {{\"spec\":{{\"enforcement\":\"{it}\"}}}}");
    once_within(Duration::from_secs(1), || {
        operator.kubectl(&enforcement("Deny"))?;
        admits(&enforcement("Audit"))
    })
}

#[test]
fn policies_that_could_not_be_in_force_are_refused_where_they_are_written() -> Result<()> {
    let operator = operator()?;
    let policy = |namespace: &str, spec: &str| {
        format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: SecurityPolicy\nmetadata: {{ name: magsag, namespace: {namespace} }}\nspec:\n{spec}"
        )
    };
    insta::assert_snapshot!(
        "policy_in_kube_system",
        operator.refused(&policy("kube-system", STRICT))?
    );
    insta::assert_snapshot!(
        "policy_in_the_operators_namespace",
        operator.refused(&policy(OPERATOR_NAMESPACE, STRICT))?
    );
    let invalid = STRICT.replace(
        "workloads: { scope: Namespace }",
        "workloads: { scope: Selected, selector: { matchLabels: { 'not a key!': x } } }",
    );
    insta::assert_snapshot!(
        "policy_that_does_not_compile",
        operator.refused(&policy("default", &invalid))?
    );
    Ok(())
}

#[test]
fn metrics_tell_decisions_and_violations() -> Result<()> {
    let operator = operator()?;
    let namespace = operator.governed(STRICT)?;
    operator.refused(&deployment(&namespace, "api", &pod_spec("{}", "")))?;
    let metrics = operator.probe(operator.metrics_port, "/metrics")?;
    for series in [
        "portcullis_admission_requests_total{decision=\"deny\",webhook=\"validate\"}",
        "portcullis_violations_total{rule=\"pod/run-as-non-root\",severity=\"Deny\"}",
        "portcullis_policies{state=\"invalid\"} 0",
        "portcullis_our_errors_total",
    ] {
        ensure!(metrics.contains(series), "{series} is not among\n{metrics}");
    }
    Ok(())
}
