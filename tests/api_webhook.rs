//! The webhook on a real API server: what kubectl prints, what is let through, what is set on Pods. The operator runs as
//! its own binary, with the chart's options and the rights of the chart's ServiceAccount.

mod support;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rstest::rstest;
use serde_json::Value;
use support::{cluster, eventually};

/// Everything that is not under test is out of the way.
const STRICT: &str = r##"
  rulesVersion: v1
  environment: Production
  enforcement: Deny
  contact: "#agents-platform"
  workloads: { scope: Namespace }
  rules: [{ id: pod/read-only-root-filesystem, enforcement: Disabled }]
  podSecurity: { level: Restricted, defaults: [SeccompProfile, AllowPrivilegeEscalation, DropCapabilities] }
"##;

const SECRETS: &str = "
  rulesVersion: v1
  environment: Production
  enforcement: Deny
  workloads: { scope: Namespace }
  secrets: { literals: Forbidden }
";

/// A pod spec in one line; `extra` goes into its only container.
fn pod_spec(security: &str, extra: &str) -> String {
    format!(
        "{{ securityContext: {security}, restartPolicy: RESTART, containers: [{{ name: api, image: registry.test/api:v1{extra} }}] }}"
    )
}

/// A workload of any kind around a pod spec.
fn workload(kind: &str, namespace: &str, name: &str, pod_spec: &str) -> String {
    let metadata = format!("metadata: {{ name: {name}, labels: {{ app: {name} }}, namespace: {namespace} }}");
    let restart = if matches!(kind, "Job" | "CronJob") {
        "Never"
    } else {
        "Always"
    };
    let pod_spec = pod_spec.replace("RESTART", restart);
    let template = format!("{{ metadata: {{ labels: {{ app: {name} }} }}, spec: {pod_spec} }}");
    let selector = format!("selector: {{ matchLabels: {{ app: {name} }} }}");
    let (version, rest) = match kind {
        "Pod" => ("v1", format!("spec: {pod_spec}")),
        "PodTemplate" => ("v1", format!("template: {template}")),
        "ReplicationController" => (
            "v1",
            format!("spec: {{ selector: {{ app: {name} }}, template: {template} }}"),
        ),
        "Job" => ("batch/v1", format!("spec: {{ template: {template} }}")),
        "CronJob" => (
            "batch/v1",
            format!("spec: {{ schedule: '0 0 * * *', jobTemplate: {{ spec: {{ template: {template} }} }} }}"),
        ),
        "StatefulSet" => (
            "apps/v1",
            format!("spec: {{ serviceName: {name}, {selector}, template: {template} }}"),
        ),
        _ => ("apps/v1", format!("spec: {{ {selector}, template: {template} }}")),
    };
    format!("apiVersion: {version}\nkind: {kind}\n{metadata}\n{rest}\n")
}

fn deployment(namespace: &str, name: &str, pod_spec: &str) -> String {
    workload("Deployment", namespace, name, pod_spec)
}

const NON_ROOT: &str = "{ runAsNonRoot: true }";

#[test]
fn three_violations_are_one_denial_that_says_how_to_mend_each() -> Result<()> {
    let cluster = cluster()?;
    cluster.kubectl("create namespace agents")?;
    cluster.govern(
        "agents",
        r##"
  rulesVersion: v1
  environment: Production
  enforcement: Deny
  contact: "#agents-platform"
  workloads: { scope: Selected, selector: { matchLabels: { app.kubernetes.io/part-of: magsag } } }
  components: [{ name: api, role: HttpService, selector: { matchLabels: { app: magsag-api } } }]
  rules: [{ id: pod/read-only-root-filesystem, enforcement: Disabled }]
  podSecurity: { level: Restricted, defaults: [SeccompProfile, AllowPrivilegeEscalation, DropCapabilities] }
  secrets:
    literals: Forbidden
    onMissing: Deny
    entries: [{ name: api-key, env: MAGSAG_API_KEY, components: [api], secretRef: { name: magsag, key: api-key } }]
  http: { cors: { env: MAGSAG_CORS_ORIGINS, allowedOrigins: ["https://app.example.com"] } }
"##,
    )?;
    let sample = std::fs::read_to_string(support::root().join("manifests/samples/bad-deployment.yaml"))?;
    insta::assert_snapshot!(cluster.refused(&sample)?);
    Ok(())
}

#[test]
fn mode_warn_admits_and_warns_and_mode_audit_says_nothing() -> Result<()> {
    let cluster = cluster()?;
    let namespace = cluster.governed(&STRICT.replace("enforcement: Deny", "enforcement: Warn"))?;
    let root = pod_spec("{}", "");
    insta::assert_snapshot!(
        "mode_warn",
        cluster.admitted(&deployment(&namespace, "api", &root))?
    );
    let namespace = cluster.governed(&STRICT.replace("enforcement: Deny", "enforcement: Audit"))?;
    assert_eq!(cluster.admitted(&deployment(&namespace, "api", &root))?, "");
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
    let cluster = cluster()?;
    let namespace = cluster.governed(STRICT)?;
    let refusal = cluster.refused(&workload(kind, &namespace, "api", &pod_spec("{}", "")))?;
    let headline =
        format!("{kind} {namespace}/api breaks SecurityPolicy {namespace}/magsag in 1 place: root user");
    ensure!(refusal.contains(&headline), "{refusal}");
    cluster.admitted(&workload(kind, &namespace, "api", &pod_spec(NON_ROOT, "")))?;
    Ok(())
}

#[rstest]
#[case::init("initContainers: [{ name: one, image: i, securityContext: { runAsUser: 0 } }],")]
#[case::sidecar(
    "initContainers: [{ name: one, image: i, restartPolicy: Always, securityContext: { runAsUser: 0 } }],"
)]
fn r31_init_containers_and_sidecars_are_judged(#[case] containers: &str) -> Result<()> {
    let cluster = cluster()?;
    let namespace = cluster.governed(STRICT)?;
    let pod =
        pod_spec(NON_ROOT, "").replace("{ securityContext", &format!("{{ {containers} securityContext"));
    let refusal = cluster.refused(&deployment(&namespace, "api", &pod))?;
    ensure!(
        refusal.contains("spec.template.spec.initContainers[one].securityContext.runAsUser"),
        "{refusal}"
    );
    Ok(())
}

#[test]
fn what_was_there_before_scales_restarts_and_changes_but_adds_no_violation() -> Result<()> {
    let cluster = cluster()?;
    cluster.kubectl("create namespace before")?;
    cluster.admitted(&deployment("before", "api", &pod_spec("{}", "")))?;
    cluster.govern("before", STRICT)?;
    cluster.kubectl("scale deployment/api -n before --replicas=2")?;
    cluster.kubectl("annotate deployment/api -n before note=1")?;
    cluster.kubectl("rollout restart deployment/api -n before")?;
    let changed = deployment("before", "api", &pod_spec("{}", ", args: [serve]"));
    insta::assert_snapshot!("what_was_there_before", cluster.admitted(&changed)?);
    let worse = deployment(
        "before",
        "api",
        &pod_spec("{}", ", securityContext: { privileged: true }"),
    );
    insta::assert_snapshot!("what_is_new", cluster.refused(&worse)?);
    Ok(())
}

#[test]
fn what_no_policy_selected_before_is_judged_as_new() -> Result<()> {
    let cluster = cluster()?;
    let selected = STRICT.replace(
        "scope: Namespace",
        "scope: Selected, selector: { matchLabels: { guarded: 'yes' } }",
    );
    let namespace = cluster.governed(&selected)?;
    let free = deployment(&namespace, "api", &pod_spec("{}", ""));
    cluster.admitted(&free)?;
    let guarded = free.replace(
        "template: { metadata: { labels: { app: api",
        "template: { metadata: { labels: { guarded: 'yes', app: api",
    );
    let refusal = cluster.refused(&guarded)?;
    ensure!(refusal.contains("[pod/run-as-non-root]"), "{refusal}");
    cluster.admitted(&workload("Pod", &namespace, "bare", &pod_spec("{}", "")))?;
    let label = cluster.kubectl_with(&format!("label pod bare -n {namespace} guarded=yes"), "")?;
    ensure!(
        !label.success && label.err.contains("[pod/run-as-non-root]"),
        "{}",
        label.err
    );
    Ok(())
}

#[test]
fn pods_of_an_old_deployment_come_back_and_a_claimed_owner_proves_nothing() -> Result<()> {
    let cluster = cluster()?;
    cluster.kubectl("create namespace old")?;
    cluster.admitted(&deployment("old", "api", &pod_spec("{}", "")))?;
    let pods = || -> Result<Vec<String>> {
        let names = cluster.kubectl("get pods -n old -l app=api -o jsonpath={.items[*].metadata.name}")?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    };
    let first = eventually(Duration::from_secs(20), || {
        pods()?
            .into_iter()
            .next()
            .ok_or_else(|| anyhow::anyhow!("no pod yet"))
    })?;
    cluster.govern("old", STRICT)?;
    // As a drain does: the ReplicaSet makes another.
    cluster.kubectl(&format!("delete pod {first} -n old --now"))?;
    eventually(Duration::from_secs(20), || {
        let names = pods()?;
        ensure!(
            !names.is_empty() && !names.contains(&first),
            "no new pod yet: {names:?}"
        );
        Ok(())
    })?;
    // A new ReplicaSet of the same old template.
    cluster.kubectl("rollout restart deployment/api -n old")?;
    eventually(Duration::from_secs(20), || {
        let sets = cluster.kubectl("get replicasets -n old -l app=api -o name")?;
        ensure!(sets.lines().count() == 2, "{sets}");
        Ok(())
    })?;
    let set = cluster
        .kubectl("get replicasets -n old -o jsonpath={.items[0].metadata.name}:{.items[0].metadata.uid}")?;
    let (name, uid) = set.split_once(':').unwrap_or_default();
    let owner = format!(
        "ownerReferences: [{{ apiVersion: apps/v1, kind: ReplicaSet, name: {name}, uid: {uid}, controller: true }}]"
    );
    let pod = workload("Pod", "old", "mine", &pod_spec("{}", ""));
    let pod = pod.replace("namespace: old }", &format!("namespace: old, {owner} }}"));
    let refusal = cluster.refused(&pod)?;
    ensure!(
        refusal.contains("Pod old/mine breaks SecurityPolicy old/magsag"),
        "{refusal}"
    );
    Ok(())
}

#[test]
fn r31_kubectl_debug_is_refused_when_its_container_breaks_the_policy() -> Result<()> {
    let cluster = cluster()?;
    let namespace = cluster.governed(STRICT)?;
    let good = pod_spec("{}", ", securityContext: { runAsNonRoot: true }");
    cluster.admitted(&workload("Pod", &namespace, "api", &good))?;
    let debug = "--image=registry.test/shell:v1 --container=shell --attach=false --profile";
    let printed = cluster.kubectl_with(&format!("debug api -n {namespace} {debug}=general"), "")?;
    ensure!(!printed.success, "must be refused");
    insta::assert_snapshot!(printed.err.replace(&namespace, "NAMESPACE"));
    cluster.kubectl(&format!("debug api -n {namespace} {debug}=restricted"))?;
    Ok(())
}

#[test]
fn pods_get_defaults_and_secrets_and_templates_stay_as_they_are() -> Result<()> {
    let cluster = cluster()?;
    let namespace = cluster.governed(
        "
  rulesVersion: v1
  environment: Production
  enforcement: Deny
  workloads: { scope: Namespace }
  rules: [{ id: pod/read-only-root-filesystem, enforcement: Disabled }]
  podSecurity: { level: Restricted, defaults: [SeccompProfile, AllowPrivilegeEscalation, RunAsNonRoot, DropCapabilities] }
  secrets:
    entries: [{ name: key, env: API_KEY, secretRef: { name: magsag, key: api-key }, delivery: { mode: Env, containers: [api] } }]
",
    )?;
    cluster.kubectl(&format!(
        "create secret generic magsag -n {namespace} --from-literal=api-key=0123456789"
    ))?;
    let get = |kind: &str, path: &str| -> Result<Value> {
        cluster.admitted(&workload(kind, &namespace, "api", &pod_spec("{}", "")))?;
        let text = cluster.kubectl(&format!("get {kind} api -n {namespace} -o json"))?;
        let object: Value = serde_json::from_str(&text)?;
        let container = object.pointer(path).cloned().unwrap_or_default();
        Ok(serde_json::json!({"env": container["env"], "securityContext": container["securityContext"]}))
    };
    insta::assert_snapshot!(serde_json::to_string_pretty(&get("Pod", "/spec/containers/0")?)?);
    assert_eq!(
        get("Deployment", "/spec/template/spec/containers/0")?,
        serde_json::json!({"env": null, "securityContext": null})
    );
    Ok(())
}

#[test]
fn r42_a_secret_created_after_the_denial_is_seen_at_once() -> Result<()> {
    let cluster = cluster()?;
    let namespace = cluster.governed(SECRETS)?;
    let env = ", env: [{ name: KEY, valueFrom: { secretKeyRef: { name: magsag, key: api-key } } }]";
    let workload = deployment(&namespace, "api", &pod_spec("{}", env));
    let refusal = cluster.refused(&workload)?;
    ensure!(refusal.contains("[secret/missing]"), "{refusal}");
    for round in 0..5 {
        cluster.kubectl(&format!(
            "create secret generic magsag -n {namespace} --from-literal=api-key=0123456789"
        ))?;
        cluster.admitted(&workload)?;
        cluster.kubectl(&format!("delete deployment/api secret/magsag -n {namespace}"))?;
        let refusal = eventually(Duration::from_secs(5), || cluster.refused(&workload));
        ensure!(
            refusal.is_ok(),
            "round {round}: a deleted secret is missing again"
        );
    }
    Ok(())
}

#[test]
fn r41_a_dry_run_binds_nothing_and_a_real_request_binds_and_is_answered() -> Result<()> {
    let cluster = cluster()?;
    let namespace = cluster.governed(SECRETS)?;
    let binding = format!("rolebinding portcullis-secret-reader -n {namespace}");
    eventually(Duration::from_secs(10), || {
        cluster.kubectl(&format!("get {binding}"))
    })?;
    cluster.kubectl(&format!("delete {binding}"))?;
    let env = ", env: [{ name: KEY, valueFrom: { secretKeyRef: { name: magsag, key: api-key } } }]";
    let workload = deployment(&namespace, "api", &pod_spec("{}", env));
    let dry = cluster.kubectl_with("create --dry-run=server -f -", &workload)?;
    insta::assert_snapshot!(dry.err.replace(&namespace, "NAMESPACE"));
    ensure!(
        cluster.kubectl(&format!("get {binding}")).is_err(),
        "a dry run must write nothing"
    );
    let refusal = cluster.refused(&workload)?;
    ensure!(refusal.contains("[secret/missing]"), "{refusal}");
    cluster.kubectl(&format!("get {binding}"))?;
    Ok(())
}

#[test]
fn an_ingress_is_judged_by_the_policy_of_the_pods_behind_it() -> Result<()> {
    let cluster = cluster()?;
    let namespace = cluster.governed(
        "
  rulesVersion: v1
  environment: Production
  enforcement: Deny
  workloads: { scope: Selected, selector: { matchLabels: { app: api } } }
  http: { cors: { env: CORS_ORIGINS, allowedOrigins: ['https://app.example.com'] } }
",
    )?;
    for name in ["api", "other"] {
        cluster.admitted(&workload("Pod", &namespace, name, &pod_spec("{}", "")))?;
        cluster.admitted(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: {namespace} }}\nspec: {{ selector: {{ app: {name} }}, ports: [{{ port: 80 }}] }}\n"
        ))?;
    }
    let ingress = |service: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {service}\n  namespace: {namespace}\n  annotations: {{ nginx.ingress.kubernetes.io/enable-cors: 'true', nginx.ingress.kubernetes.io/cors-allow-origin: '*' }}\nspec: {{ defaultBackend: {{ service: {{ name: {service}, port: {{ number: 80 }} }} }} }}\n"
        )
    };
    cluster.admitted(&ingress("other"))?;
    let refusal = cluster.refused(&ingress("api"))?;
    insta::assert_snapshot!(refusal.replace(&namespace, "NAMESPACE"));
    Ok(())
}

#[test]
fn a_dry_run_is_answered_as_the_real_request() -> Result<()> {
    let cluster = cluster()?;
    let namespace = cluster.governed(STRICT)?;
    let workload = deployment(&namespace, "api", &pod_spec("{}", ""));
    let dry = cluster.kubectl_with("create --dry-run=server -f -", &workload)?;
    let real = cluster.kubectl_with("create -f -", &workload)?;
    ensure!(!dry.success && !real.success, "both must be refused");
    assert_eq!(dry.err, real.err);
    Ok(())
}

#[test]
fn r40_an_edited_or_deleted_policy_takes_effect_within_a_second() -> Result<()> {
    let cluster = cluster()?;
    let namespace = cluster.governed(STRICT)?;
    let root = deployment(&namespace, "api", &pod_spec("{}", ""));
    cluster.refused(&root)?;
    let admits = |change: &str| -> Result<Duration> {
        cluster.kubectl(change)?;
        let started = Instant::now();
        eventually(Duration::from_secs(5), || cluster.admitted(&root))?;
        cluster.kubectl(&format!("delete deployment/api -n {namespace}"))?;
        Ok(started.elapsed())
    };
    let policy = format!("securitypolicies.portcullis.dev/magsag -n {namespace}");
    let took = admits(&format!(
        "patch {policy} --type=merge -p {{\"spec\":{{\"enforcement\":\"Audit\"}}}}"
    ))?;
    ensure!(took < Duration::from_secs(1), "{took:?}");
    cluster.kubectl(&format!(
        "patch {policy} --type=merge -p {{\"spec\":{{\"enforcement\":\"Deny\"}}}}"
    ))?;
    eventually(Duration::from_secs(5), || cluster.refused(&root))?;
    let took = admits(&format!("delete {policy}"))?;
    ensure!(took < Duration::from_secs(1), "{took:?}");
    Ok(())
}

#[test]
fn policies_that_could_not_be_in_force_are_refused_where_they_are_written() -> Result<()> {
    let cluster = cluster()?;
    let policy = |namespace: &str, spec: &str| {
        format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: SecurityPolicy\nmetadata: {{ name: magsag, namespace: {namespace} }}\nspec:\n{spec}"
        )
    };
    insta::assert_snapshot!(
        "policy_in_kube_system",
        cluster.refused(&policy("kube-system", STRICT))?
    );
    insta::assert_snapshot!(
        "policy_in_the_operators_namespace",
        cluster.refused(&policy(support::OPERATOR_NAMESPACE, STRICT))?
    );
    let invalid = STRICT.replace(
        "workloads: { scope: Namespace }",
        "workloads: { scope: Selected, selector: { matchLabels: { 'not a key!': x } } }",
    );
    insta::assert_snapshot!(
        "policy_that_does_not_compile",
        cluster.refused(&policy("default", &invalid))?
    );
    Ok(())
}

#[test]
fn metrics_tell_decisions_and_violations() -> Result<()> {
    let cluster = cluster()?;
    let namespace = cluster.governed(STRICT)?;
    cluster.refused(&deployment(&namespace, "api", &pod_spec("{}", "")))?;
    let metrics = cluster.probe(cluster.metrics_port, "/metrics")?;
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
