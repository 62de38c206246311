//! Ingresses on a real API server: whatever the order in which they and what is behind them are applied, nothing that a
//! policy refuses gets in unjudged, and what none refuses gets in.

mod cluster;
mod operator;

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use cluster::{Printed, eventually};
use operator::workloads::{pod_spec, workload};
use operator::{Operator, alone, beside_others};
use rstest::rstest;
use serde_json::{Value, json};

/// One policy for the pods with `app: api`, and none for others.
const POLICY: &str = r##"
  rulesVersion: v1
  environment: Production
  enforcement: Deny
  contact: "#agents-platform"
  workloads: { scope: Selected, selector: { matchLabels: { app: api } } }
  http: { cors: { allowedOrigins: ["https://app.example.com"] } }
"##;

/// An Ingress `name` that lets every page in; `spec` says where it leads.
fn open(namespace: &str, name: &str, spec: &str) -> String {
    ingress(namespace, name, "*", spec)
}

fn ingress(namespace: &str, name: &str, origins: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {name}
  namespace: {namespace}
  annotations:
    nginx.ingress.kubernetes.io/enable-cors: \"true\"
    nginx.ingress.kubernetes.io/cors-allow-origin: \"{origins}\"
spec: {spec}
"
    )
}

/// The spec of an Ingress that leads to a Service.
fn to(service: &str) -> String {
    format!("{{ defaultBackend: {{ service: {{ name: {service}, port: {{ number: 80 }} }} }} }}")
}

/// A Service that selects `app: NAME`.
fn service(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{ name: {name}, namespace: {namespace} }}
spec: {{ selector: {{ app: {name} }}, ports: [{{ port: 80 }}] }}
"
    )
}

/// A workload with a template of pods with `app: NAME`, none of which ever runs.
fn idle(kind: &str, namespace: &str, name: &str) -> String {
    let field = match kind {
        "Job" | "CronJob" => "suspend: true, ",
        "DaemonSet" => "", // without a node
        _ => "replicas: 0, ",
    };
    let workload = workload(kind, namespace, name, &pod_spec("{}", ""));
    workload.replacen("\nspec: { ", &format!("\nspec: {{ {field}"), 1)
}

/// What `portcullis check` says of files with these texts, all there is.
fn check(files: &[&str]) -> Result<Output> {
    let mut check = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["check", "--complete", "--color=never", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = check.stdin.take().context("its input is open")?;
    std::io::Write::write_all(&mut input, files.join("---\n").as_bytes())?;
    drop(input);
    Ok(check.wait_with_output()?)
}

/// The lines that say what was found, without where in the files it was.
fn findings(text: &str) -> Vec<String> {
    let is_part = |it: &&str| it.contains("[http/") || it.contains("observed: ") || it.contains("fix: ");
    let lines = text.lines().filter(is_part);
    lines
        .map(|it| {
            it.split_once("[http/")
                .map_or(it, |(_, rule)| rule)
                .trim()
                .to_owned()
        })
        .collect()
}

fn policy(namespace: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: SecurityPolicy\nmetadata: {{ name: magsag, namespace: {namespace} }}\nspec:{POLICY}"
    )
}

#[test]
fn an_ingress_is_judged_by_the_policy_of_the_pods_behind_it() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    let namespace = operator.governed(POLICY)?;
    for name in ["api", "other"] {
        operator.admitted(&workload("Pod", &namespace, name, &pod_spec("{}", "")))?;
        operator.admitted(&service(&namespace, name))?;
    }
    operator.admitted(&open(&namespace, "other", &to("other")))?;
    let refusal = operator.refused(&open(&namespace, "api", &to("api")))?;
    insta::assert_snapshot!(refusal.replace(&namespace, "NAMESPACE"));
    Ok(())
}

#[rstest]
#[case("Deployment")]
#[case("StatefulSet")]
#[case("DaemonSet")]
#[case("ReplicaSet")]
#[case("ReplicationController")]
#[case("Job")]
#[case("CronJob")]
fn an_ingress_before_its_pods_run_is_judged_by_their_template(#[case] kind: &str) -> Result<()> {
    let (_turn, operator) = beside_others()?;
    let namespace = operator.governed(POLICY)?;
    for name in ["api", "other"] {
        operator.admitted(&service(&namespace, name))?;
        operator.admitted(&idle(kind, &namespace, name))?;
    }
    let pods = operator.kubectl(&format!("get pods -n {namespace} -o name"))?;
    ensure!(pods.is_empty(), "nothing runs yet, but: {pods}");
    // Somebody else's is nobody's business.
    operator.admitted(&open(&namespace, "other", &to("other")))?;
    let ingress = open(&namespace, "api", &to("api"));
    let refusal = operator.refused(&ingress)?;
    insta::allow_duplicates! {
        insta::assert_snapshot!("before_its_pods", refusal.replace(&namespace, "NAMESPACE"));
    }
    let said = check(&[
        &policy(&namespace),
        &service(&namespace, "api"),
        &idle(kind, &namespace, "api"),
        &ingress,
    ])?;
    assert_eq!(said.status.code(), Some(1));
    assert_eq!(findings(&String::from_utf8(said.stdout)?), findings(&refusal));
    Ok(())
}

#[test]
fn an_ingress_before_all_else_is_judged_by_every_policy_of_its_namespace() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    let namespace = operator.governed(POLICY)?;
    let shown = |text: &str| text.replace(&namespace, "NAMESPACE");
    let ingress = open(&namespace, "other", &to("other"));
    let refusal = operator.refused(&ingress)?;
    insta::assert_snapshot!("before_its_service", shown(&refusal));
    let said = check(&[&policy(&namespace), &ingress])?;
    assert_eq!(findings(&String::from_utf8(said.stdout)?), findings(&refusal));
    let note = String::from_utf8(said.stderr)?;
    ensure!(
        note.contains("Service") && refusal.contains(note.trim().rsplit_once(": ").context("a note")?.1),
        "{note}\n{refusal}"
    );

    // What is in order is in order whoever it belongs to, so that a chart installs in any order.
    let fine = in_order(&namespace);
    operator.admitted(&fine)?;
    operator.admitted(&service(&namespace, "other"))?;
    insta::assert_snapshot!("before_its_workload", shown(&operator.refused(&ingress)?));
    operator.admitted(&idle("Deployment", &namespace, "other"))?;
    // Now everybody knows that no policy selects it.
    operator.admitted(&ingress)?;
    assert_eq!(
        check(&[
            &policy(&namespace),
            &service(&namespace, "other"),
            &idle("Deployment", &namespace, "other"),
            &ingress,
        ])?
        .status
        .code(),
        Some(0)
    );
    Ok(())
}

/// An Ingress that every policy of these tests admits.
fn in_order(namespace: &str) -> String {
    ingress(namespace, "fine", "https://app.example.com", &to("later"))
}

#[test]
fn what_was_never_judged_was_not_there_before() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    let namespace = operator.governed(POLICY)?;
    for name in ["api", "other"] {
        operator.admitted(&service(&namespace, name))?;
        operator.admitted(&idle("Deployment", &namespace, name))?;
    }
    let nowhere = "{ rules: [{ host: app.example.com }] }";
    for (name, spec) in [("elsewhere", to("other")), ("nowhere", nowhere.to_owned())] {
        operator.admitted(&open(&namespace, name, &spec))?;
        let refusal = operator.refused(&open(&namespace, name, &to("api")))?;
        ensure!(refusal.contains("[http/cors-wildcard]"), "{refusal}");
        let refusal = operator.refused(&open(&namespace, name, &to("gone")))?;
        ensure!(
            refusal.contains("Service test") && refusal.contains("does not exist"),
            "{refusal}"
        );
    }
    // With its Service gone nobody knows any more whose it was, and it must not lead to us by that.
    operator.kubectl(&format!("delete service/other -n {namespace}"))?;
    let refusal = operator.refused(&open(&namespace, "elsewhere", &to("api")))?;
    ensure!(refusal.contains("[http/cors-wildcard]"), "{refusal}");
    Ok(())
}

#[test]
fn what_was_there_before_the_policy_can_be_updated_and_is_counted() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    let namespace = "was-there";
    operator.kubectl(&format!("create namespace {namespace}"))?;
    operator.admitted(&service(namespace, "api"))?;
    operator.admitted(&idle("Deployment", namespace, "api"))?;
    for service in ["api", "gone"] {
        operator.admitted(&open(namespace, service, &to(service)))?;
    }
    operator.admitted(&in_order(namespace))?;
    operator.govern(namespace, POLICY)?;
    for service in ["api", "gone"] {
        let label = format!("label ingress/{service} -n {namespace} team=agents");
        let is_told = |arguments: &str| {
            let printed = operator.kubectl_printed(arguments, "")?;
            ensure!(
                printed.success && printed.err.contains("(was there before)"),
                "{printed:?}"
            );
            Ok(())
        };
        eventually(|| is_told(&format!("{label} --dry-run=server")))
            .context("the webhook is asked by now")?;
        is_told(&label)?;
    }
    // The Deployment and both; the Ingress in order belongs to nobody yet.
    let expected = json!({"matched": 3, "compliant": 1, "violating": 2, "unmatched": 0});
    eventually(|| {
        let counts = &operator.status(namespace)?["workloads"];
        ensure!(*counts == expected, "{counts}");
        Ok(())
    })
}

#[test]
fn r41_pods_behind_an_ingress_that_cannot_be_looked_up_are_an_error_of_ours() -> Result<()> {
    let (_turn, operator) = alone()?;
    let namespace = operator.governed(POLICY)?;
    operator.admitted(&service(&namespace, "other"))?;
    operator.admitted(&idle("Deployment", &namespace, "other"))?;
    operator.admitted(&open(&namespace, "there", &to("other")))?;
    let role = operator.kubectl("get clusterrole/portcullis -o json")?;
    operator.kubectl_with("replace -f -", &role.replace("\"deployments\",", ""))?;
    let ingress = open(&namespace, "other", &to("other"));
    let refused = operator.refused(&ingress);
    let admitted = operator.admitted(&in_order(&namespace));
    // What is there can be edited, as long as it gets no worse and leads to the same Services.
    let edited = operator.kubectl_printed(&format!("label ingress/there -n {namespace} team=agents"), "");
    let led_elsewhere = operator.refused(&open(&namespace, "there", &to("api")));
    let role: Value = serde_json::from_str(&role)?;
    let restored = json!([{"op": "replace", "path": "/rules", "value": role["rules"]}]);
    operator.kubectl(&format!("patch clusterrole/portcullis --type=json -p {restored}"))?;
    insta::assert_snapshot!("unknown_pods", refused?.replace(&namespace, "NAMESPACE"));
    admitted?;
    let edited = edited?;
    ensure!(
        edited.success && edited.err.contains("not judged, pods behind the I"),
        "{edited:?}"
    );
    let led_elsewhere = led_elsewhere?;
    ensure!(
        led_elsewhere.contains("Portcullis could not judge"),
        "{led_elsewhere}"
    );
    eventually(|| operator.admitted(&ingress)).map(drop)
}

#[test]
fn pods_that_were_not_looked_at_are_not_taken_for_none() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    let namespace = operator.governed(POLICY)?;
    let pod = |name: &str, app: &str| {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{ name: {name}, namespace: {namespace}, labels: {{ app: {app}, web: all }} }}
spec: {{ containers: [{{ name: web, image: registry.test/web:v1 }}] }}
"
        )
    };
    let decoys: Vec<String> = (0..500)
        .map(|it| pod(&format!("decoy-{it:03}"), "other"))
        .collect();
    operator.admitted(&decoys.join("---\n"))?;
    operator.admitted(&service(&namespace, "all").replace("app: all", "web: all"))?;
    let ingress = open(&namespace, "all", &to("all"));
    operator.admitted(&ingress)?;
    operator.kubectl(&format!("delete ingress/all -n {namespace}"))?;
    operator.admitted(&pod("last", "api"))?;
    let refusal = operator.refused(&ingress)?;
    ensure!(
        refusal.contains("[http/cors-wildcard]") && refusal.contains("selects more than 500 pods"),
        "{refusal}"
    );
    Ok(())
}

#[test]
fn large_workloads_behind_many_ingresses_fill_no_memory() -> Result<()> {
    let (_turn, operator) = alone()?;
    let namespace = "large-workloads";
    operator.kubectl(&format!("create namespace {namespace}"))?;
    operator.admitted(&service(namespace, "api"))?;
    let large = format!(", args: [\"{}\"]", "a".repeat(500 * 1024));
    for name in (0..50).map(|it| format!("large-{it}")) {
        let deployment = workload("Deployment", namespace, &name, &pod_spec("{}", &large));
        operator.admitted(&deployment.replacen("\nspec: { ", "\nspec: { replicas: 0, ", 1))?;
    }
    operator.admitted(&idle("Deployment", namespace, "api"))?;
    operator.govern(namespace, POLICY)?;
    operator
        .refused(&open(namespace, "first", &to("api")))
        .context("the webhook is asked by now")?;
    let create = |number: usize| {
        let ingress = open(namespace, &format!("beside-{number}"), &to("api"));
        operator.kubectl_printed("create -f -", &ingress)
    };
    let (before, ()) = operator.peak_megabytes(|| Ok(()))?;
    let (peak, printed) = operator.peak_megabytes(|| {
        std::thread::scope(|threads| {
            let all: Vec<_> = (0..12).map(|it| threads.spawn(move || create(it))).collect();
            all.into_iter()
                .map(|it| it.join().map_err(|_| anyhow!("the client panicked"))?)
                .collect::<Result<Vec<Printed>>>()
        })
    })?;
    for printed in printed {
        let is_judged = printed.err.contains("[http/cors-wildcard]");
        let is_our_error = printed.err.contains("could not be looked up in time");
        ensure!(!printed.success && (is_judged || is_our_error), "{}", printed.err);
    }
    // Each look-up reads 25 MB.
    ensure!(peak < before + 60, "{before} MB became {peak} MB");
    Ok(())
}

#[test]
fn r21_an_ingress_whose_review_is_too_large_is_refused_and_not_let_through() -> Result<()> {
    let (_turn, operator) = beside_others()?;
    let namespace = operator.governed(POLICY)?;
    // Without a policy it is stored: as the API server keeps it, it is small enough.
    operator.kubectl("create namespace ungoverned")?;
    let printed = too_large(operator, "ungoverned")?;
    ensure!(printed.success, "{}", printed.err);
    operator
        .refused(&open(&namespace, "small", &to("api")))
        .context("the webhook is asked by now")?;
    let printed = too_large(operator, &namespace)?;
    ensure!(!printed.success, "it must be refused");
    insta::assert_snapshot!("too_large", printed.err.replace(&namespace, "NAMESPACE"));
    let stored = operator.kubectl(&format!("get ingresses -n {namespace} -o name"))?;
    assert_eq!(stored, "");
    Ok(())
}

/// Creates an Ingress with 1.4 MiB of `<`, which the API server writes into a review as `\u003c`: six bytes for one.
/// kubectl would do the same, and the API server takes no request of more than 3 MiB, so the text is sent as it is.
fn too_large(operator: &Operator, namespace: &str) -> Result<Printed> {
    let path = format!("/{}", "<".repeat(1_450_000));
    let backend = json!({"service": {"name": "api", "port": {"number": 80}}});
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "large"},
        "spec": {"rules": [{"http": {"paths": [
            {"path": path, "pathType": "ImplementationSpecific", "backend": backend},
        ]}}]},
    });
    let url = format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses");
    operator.kubectl_printed(&format!("create --raw={url} -f -"), &ingress.to_string())
}
