//! The controller on a real API server: what it writes, puts back, leaves alone and reports.

mod support;

use std::fs;
use std::process::{Child, Command};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, OPERATOR_NAMESPACE, eventually, free_port};

/// Until something was written for the first time; the operator may just have started.
const SOON: Duration = Duration::from_secs(30);

/// Within which what was changed by hand must be put back.
const PUT_BACK: Duration = Duration::from_secs(5);

static OPERATOR: RwLock<()> = RwLock::new(());

/// The cluster, for a test that lets others run beside it.
fn beside_others() -> Result<(RwLockReadGuard<'static, ()>, &'static Cluster)> {
    let turn = OPERATOR.read().unwrap_or_else(PoisonError::into_inner);
    Ok((turn, support::cluster()?))
}

/// The cluster, for a test that stops the operator or looks at what all namespaces share.
fn alone() -> Result<(RwLockWriteGuard<'static, ()>, &'static Cluster)> {
    let turn = OPERATOR.write().unwrap_or_else(PoisonError::into_inner);
    Ok((turn, support::cluster()?))
}

/// The policy `magsag` with defaults for what `spec` does not state.
fn policy(namespace: &str, spec: &Value) -> Value {
    let mut whole = json!({
        "rulesVersion": "v1", "environment": "Production", "enforcement": "Deny",
        "workloads": {"scope": "Selected", "selector": {"matchLabels": {"part-of": "magsag"}}},
        "components": [
            {"name": "api", "role": "HttpService", "selector": {"matchLabels": {"app": "api"}}},
            {"name": "redis", "role": "Redis", "selector": {"matchLabels": {"app": "redis"}}},
        ],
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        if let Some(fields) = whole.as_object_mut() {
            fields.insert(field.clone(), value.clone());
        }
    }
    json!({
        "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy",
        "metadata": {"name": "magsag", "namespace": namespace}, "spec": whole,
    })
}

/// The value at a JSON pointer; null where there is none.
fn field<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// A further replica, which ends with its test.
struct Replica(Child);

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What these tests do to objects.
trait Objects {
    fn put(&self, object: &Value) -> Result<()>;
    fn put_unseen(&self, object: &Value) -> Result<()>;
    fn change(&self, object: &str, change: &Value) -> Result<()>;
    fn get(&self, what: &str) -> Result<Value>;
    fn start(&self, namespace: &str, spec: &Value) -> Result<()>;
    fn status(&self, namespace: &str) -> Result<Value>;
    fn wait_for(&self, namespace: &str, limit: Duration, condition: &str) -> Result<String>;
    fn network_policies(&self, namespace: &str) -> Result<Vec<String>>;
    fn signal(&self, signal: &str) -> Result<()>;
    fn holder(&self) -> Result<Value>;
}

impl Objects for Cluster {
    /// Applies an object.
    fn put(&self, object: &Value) -> Result<()> {
        self.admitted(&object.to_string()).map(drop)
    }

    /// Applies a policy that the webhook for our own kinds would refuse: while it does not answer, it lets pass.
    fn put_unseen(&self, object: &Value) -> Result<()> {
        self.signal("STOP")?;
        let put = self.put(object);
        self.signal("CONT")?;
        put
    }

    /// Merges a change into an object, `kind/name -n namespace`.
    fn change(&self, object: &str, change: &Value) -> Result<()> {
        let arguments = format!("patch {object} --type=merge --patch-file=/dev/stdin");
        let printed = self.kubectl_with(&arguments, &change.to_string())?;
        ensure!(printed.success, "{}", printed.err);
        Ok(())
    }

    /// Reads an object or a list.
    fn get(&self, what: &str) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.kubectl(&format!("get {what} -o json"))?,
        )?)
    }

    /// Makes a namespace with the policy in it, and does not wait.
    fn start(&self, namespace: &str, spec: &Value) -> Result<()> {
        self.kubectl(&format!("create namespace {namespace}"))?;
        self.put(&policy(namespace, spec))
    }

    /// The status of the policy.
    fn status(&self, namespace: &str) -> Result<Value> {
        let policy = self.get(&format!("securitypolicies.portcullis.dev/magsag -n {namespace}"))?;
        Ok(field(&policy, "/status").clone())
    }

    /// Waits for a condition of the newest version of the policy, `Type=Status Reason`; its message.
    fn wait_for(&self, namespace: &str, limit: Duration, condition: &str) -> Result<String> {
        eventually(limit, || {
            let policy = self.get(&format!("securitypolicies.portcullis.dev/magsag -n {namespace}"))?;
            let conditions = field(&policy, "/status/conditions")
                .as_array()
                .cloned()
                .unwrap_or_default();
            let generation = field(&policy, "/metadata/generation");
            let word = |it: &Value, name: &str| field(it, name).as_str().unwrap_or_default().to_owned();
            let text = |it: &Value| {
                format!(
                    "{}={} {}",
                    word(it, "/type"),
                    word(it, "/status"),
                    word(it, "/reason")
                )
            };
            let mut current = conditions
                .iter()
                .filter(|it| field(it, "/observedGeneration") == generation);
            let found = current.find(|it| text(it) == condition);
            let found = found.with_context(|| format!("{condition} is not among {conditions:#?}"))?;
            Ok(word(found, "/message"))
        })
    }

    /// Names of the NetworkPolicies of a namespace, sorted.
    fn network_policies(&self, namespace: &str) -> Result<Vec<String>> {
        let list = self.get(&format!("networkpolicies -n {namespace}"))?;
        let items = field(&list, "/items").as_array().context("a list")?;
        let name = |it: &Value| {
            field(it, "/metadata/name")
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        Ok(items.iter().map(name).collect())
    }

    /// Sends a signal to the operator of this cluster: the process with its port.
    fn signal(&self, signal: &str) -> Result<()> {
        let option = format!("--webhook-port={}", self.webhook_port);
        for process in fs::read_dir("/proc")? {
            let process = process?;
            let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            if line.split('\0').any(|it| it == option) {
                let id = process.file_name().to_string_lossy().into_owned();
                let status = Command::new("kill").args([&format!("-{signal}"), &id]).status()?;
                ensure!(status.success(), "kill -{signal} {id}");
                return Ok(());
            }
        }
        anyhow::bail!("no process with {option}")
    }

    /// Who holds the Lease; null when nobody does.
    fn holder(&self) -> Result<Value> {
        let lease = self.get(&format!("lease/portcullis -n {OPERATOR_NAMESPACE}"))?;
        Ok(field(&lease, "/spec/holderIdentity").clone())
    }
}

fn flows() -> Value {
    json!({"flows": [
        {"from": {"preset": "IngressController"}, "to": {"component": "api"}, "ports": [8000]},
        {"from": {"component": "api"}, "to": {"component": "redis"}, "ports": [6379]},
        {"from": {"component": "api"}, "to": {"preset": "PublicHttps"}},
        {"from": {"component": "api"}, "to": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}, "ports": ["9000-9010/UDP"]},
    ]})
}

const GENERATED: [&str; 5] = [
    "portcullis-magsag-default-deny",
    "portcullis-magsag-dns",
    "portcullis-magsag-egress.api",
    "portcullis-magsag-ingress.api",
    "portcullis-magsag-ingress.redis",
];

#[test]
fn r46_network_policies_are_generated_put_back_and_pruned() -> Result<()> {
    let (_turn, cluster) = beside_others()?;
    cluster.start("kept", &json!({"network": flows()}))?;
    cluster.wait_for("kept", SOON, "Enforced=True Enforced")?;
    assert_eq!(cluster.network_policies("kept")?, GENERATED);

    let deny = "networkpolicy/portcullis-magsag-default-deny -n kept";
    let spec = cluster.get(deny)?["spec"].clone();
    cluster.change(
        deny,
        &json!({"spec": {"egress": [{}], "podSelector": {"matchLabels": {"app": "none"}}}}),
    )?;
    eventually(PUT_BACK, || {
        let now = cluster.get(deny)?["spec"].clone();
        ensure!(now == spec, "still {now}");
        Ok(())
    })?;
    cluster.change(
        deny,
        &json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}),
    )?;
    eventually(PUT_BACK, || {
        let labels = cluster.get(deny)?["metadata"]["labels"].clone();
        ensure!(
            labels["app.kubernetes.io/managed-by"] == "portcullis",
            "still {labels}"
        );
        Ok(())
    })?;
    cluster.kubectl(&format!("delete {deny}"))?;
    eventually(PUT_BACK, || cluster.get(deny).map(drop))?;

    cluster.put(&policy("kept", &json!({"network": {"flows": []}})))?;
    eventually(PUT_BACK, || {
        let names = cluster.network_policies("kept")?;
        ensure!(names == GENERATED[..2], "still {names:?}");
        Ok(())
    })?;
    eventually(PUT_BACK, || {
        let status = cluster.status("kept")?;
        ensure!(status["generated"]["networkPolicies"] == 2, "still {status}");
        Ok(())
    })
}

#[test]
fn what_is_generated_goes_with_its_policy() -> Result<()> {
    let (_turn, cluster) = beside_others()?;
    cluster.start("gone", &json!({"network": {}}))?;
    cluster.wait_for("gone", SOON, "Enforced=True Enforced")?;
    cluster.kubectl("delete securitypolicies.portcullis.dev/magsag -n gone")?;
    eventually(SOON, || {
        let names = cluster.network_policies("gone")?;
        ensure!(names.is_empty(), "still {names:?}");
        Ok(())
    })
}

#[test]
fn r45_a_networkpolicy_of_the_user_is_left_alone() -> Result<()> {
    let (_turn, cluster) = beside_others()?;
    cluster.kubectl("create namespace conflict")?;
    let theirs = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "portcullis-magsag-dns", "namespace": "conflict"},
        "spec": {"podSelector": {"matchLabels": {"app": "theirs"}}, "policyTypes": ["Ingress"]},
    });
    cluster.put(&theirs)?;
    let before = cluster.get("networkpolicy/portcullis-magsag-dns -n conflict")?;
    cluster.put(&policy("conflict", &json!({"network": {}})))?;
    let message = cluster.wait_for("conflict", SOON, "Enforced=False Conflict")?;
    assert_eq!(
        message,
        "NetworkPolicy portcullis-magsag-dns exists and is not Portcullis': it is left alone; rename or delete it"
    );
    assert_eq!(cluster.network_policies("conflict")?, GENERATED[..2]);

    cluster.kubectl("delete securitypolicies.portcullis.dev/magsag -n conflict")?;
    eventually(SOON, || {
        let names = cluster.network_policies("conflict")?;
        ensure!(names == ["portcullis-magsag-dns"], "still {names:?}");
        Ok(())
    })?;
    let after = cluster.get("networkpolicy/portcullis-magsag-dns -n conflict")?;
    assert_eq!(
        after["metadata"]["resourceVersion"],
        before["metadata"]["resourceVersion"]
    );
    Ok(())
}

#[test]
fn a_dry_run_writes_nothing_lists_what_it_would_and_takes_back_what_stood() -> Result<()> {
    let (_turn, cluster) = beside_others()?;
    let mut network = flows();
    cluster.start("dry", &json!({"network": network}))?;
    cluster.wait_for("dry", SOON, "Enforced=True Enforced")?;
    network["mode"] = "DryRun".into();
    cluster.put(&policy("dry", &json!({"network": network})))?;
    cluster.wait_for("dry", SOON, "Enforced=True Enforced")?;
    assert_eq!(cluster.network_policies("dry")?, Vec::<String>::new());
    let status = cluster.status("dry")?;
    insta::assert_snapshot!(serde_json::to_string_pretty(&status["proposed"])?);
    assert_eq!(status["generated"]["networkPolicies"], 0);
    Ok(())
}

#[test]
fn a_users_secret_created_after_the_policy_turns_its_status() -> Result<()> {
    let (_turn, cluster) = beside_others()?;
    let entries = json!([
        {"name": "api-key", "env": "API_KEY", "components": ["api"], "secretRef": {"name": "magsag", "key": "api-key"}},
        {"name": "db", "env": "DB_PASSWORD", "components": ["redis"], "secretRef": {"name": "db", "key": "password"}},
    ]);
    cluster.start("waiting", &json!({"secrets": {"entries": entries}}))?;
    let message = cluster.wait_for("waiting", SOON, "Ready=False SecretMissing")?;
    assert_eq!(
        message,
        "2 of 2 entries of `spec.secrets.entries` wait for their Secret or its key"
    );
    let binding = cluster.get("rolebinding/portcullis-secret-reader -n waiting")?;
    assert_eq!(binding["subjects"].as_array().map(Vec::len), Some(1));
    assert_eq!(binding["subjects"][0]["namespace"], OPERATOR_NAMESPACE);
    assert_eq!(binding["metadata"]["ownerReferences"][0]["kind"], "ClusterRole");

    cluster.kubectl("create secret generic magsag -n waiting --from-literal=other=x")?;
    cluster.kubectl("create secret generic db -n waiting --from-literal=password=x")?;
    eventually(PUT_BACK, || {
        let message = cluster.wait_for("waiting", PUT_BACK, "Ready=False SecretMissing")?;
        ensure!(message.starts_with("1 of 2"), "still {message}");
        Ok(())
    })?;
    cluster.change(
        "secret/magsag -n waiting",
        &json!({"stringData": {"api-key": "x"}}),
    )?;
    eventually(PUT_BACK, || {
        let status = cluster.status("waiting")?;
        ensure!(
            status["secrets"] == json!({"declared": 2, "present": 2, "missing": 0}),
            "still {status}"
        );
        Ok(())
    })?;

    let events = cluster.get("events.events.k8s.io -n waiting --field-selector reason=SecretMissing")?;
    let first = &events["items"][0];
    assert_eq!(first["regarding"]["name"], "magsag");
    let note = first["note"].as_str().unwrap_or_default();
    assert!(
        !note.contains("db") && !note.contains("api-key"),
        "names no Secret: {note}"
    );

    cluster.kubectl("delete securitypolicies.portcullis.dev/magsag -n waiting")?;
    eventually(SOON, || {
        let bindings = cluster.kubectl("get rolebindings -n waiting -o name")?;
        ensure!(bindings.is_empty(), "still {bindings}");
        Ok(())
    })
}

#[test]
fn a_steady_state_writes_nothing() -> Result<()> {
    let (_turn, cluster) = alone()?;
    let entries = json!([
        {"name": "api-key", "env": "API_KEY", "components": ["api"], "secretRef": {"name": "magsag", "key": "api-key"}},
    ]);
    cluster.start(
        "steady",
        &json!({"network": flows(), "secrets": {"entries": entries}, "podSecurity": {}}),
    )?;
    cluster.wait_for("steady", SOON, "Enforced=True Enforced")?;
    let versions = || -> Result<Vec<(Value, Value)>> {
        let of_namespace = "networkpolicies,securitypolicies.portcullis.dev,rolebindings,events -n steady";
        let ours = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
        let (of_namespace, ours) = (cluster.get(of_namespace)?, cluster.get(ours)?);
        let items = [of_namespace, ours]
            .into_iter()
            .flat_map(|it| it["items"].as_array().cloned().unwrap_or_default());
        Ok(items
            .map(|it| {
                (
                    it["metadata"]["name"].clone(),
                    it["metadata"]["resourceVersion"].clone(),
                )
            })
            .collect())
    };
    // The audit and the first list of Secrets have their say first.
    let settled = eventually(SOON, || {
        let before = versions()?;
        sleep(Duration::from_secs(3));
        ensure!(versions()? == before, "still writes");
        Ok(before)
    })?;
    sleep(Duration::from_secs(8));
    assert_eq!(versions()?, settled);
    Ok(())
}

#[test]
fn r12_the_webhook_configuration_is_put_back() -> Result<()> {
    let (_turn, cluster) = alone()?;
    cluster.start("guarded", &json!({}))?;
    cluster.wait_for("guarded", SOON, "Enforced=True Enforced")?;
    for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        let configuration = format!("{kind}/zz-portcullis");
        let before = cluster.get(&configuration)?;
        let is_back = || {
            let now = cluster.get(&configuration)?;
            ensure!(now["webhooks"] == before["webhooks"], "still {now:#}");
            Ok(())
        };
        assert_eq!(before["metadata"]["ownerReferences"][0]["name"], "portcullis");
        cluster.kubectl(&format!("delete {configuration}"))?;
        eventually(PUT_BACK, is_back)?;
        let mut edited = before["webhooks"].clone();
        edited[0]["clientConfig"]["caBundle"] = Value::Null;
        cluster.change(&configuration, &json!({"webhooks": edited}))?;
        eventually(PUT_BACK, is_back)?;
        // What others add to an entry is not ours, and yet lets everything through.
        let mut edited = before["webhooks"].clone();
        let conditions = edited[0]["matchConditions"]
            .as_array_mut()
            .context("conditions")?;
        conditions.push(json!({"name": "off", "expression": "false"}));
        cluster.change(&configuration, &json!({"webhooks": edited}))?;
        eventually(PUT_BACK, is_back)?;
    }
    Ok(())
}

#[test]
fn r12_a_webhook_configuration_that_is_deleted_again_and_again_is_told() -> Result<()> {
    let (_turn, cluster) = alone()?;
    cluster.start("contested", &json!({}))?;
    cluster.wait_for("contested", SOON, "Enforced=True Enforced")?;
    let told = eventually(SOON, || {
        let delete = "delete validatingwebhookconfiguration/zz-portcullis --ignore-not-found";
        cluster.kubectl(delete)?;
        cluster.wait_for("contested", Duration::from_secs(1), "Ready=False Conflict")
    });
    // Another demand begins the count anew.
    cluster.start("uncontested", &json!({}))?;
    cluster.wait_for("contested", SOON, "Ready=True NoWorkloads")?;
    assert_eq!(
        told?,
        "the webhook configuration is changed or deleted again and again, and lets workloads pass unjudged until it is \
         put back; stop whoever changes it"
    );
    Ok(())
}

#[test]
fn a_namespace_is_listed_while_a_policy_governs_it_and_never_our_own() -> Result<()> {
    let (_turn, cluster) = alone()?;
    cluster.start("listed", &json!({}))?;
    cluster.wait_for("listed", SOON, "Enforced=True Enforced")?;
    let listed = || -> Result<Vec<String>> {
        let configuration = cluster.get("validatingwebhookconfiguration/zz-portcullis")?;
        let values =
            configuration["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"].clone();
        Ok(serde_json::from_value(values).unwrap_or_default())
    };
    assert!(listed()?.contains(&"listed".to_owned()));
    cluster.put_unseen(&policy(OPERATOR_NAMESPACE, &json!({})))?;
    cluster.wait_for(OPERATOR_NAMESPACE, SOON, "Accepted=False NamespaceExempt")?;
    assert!(!listed()?.contains(&OPERATOR_NAMESPACE.to_owned()));
    cluster.kubectl(&format!(
        "delete securitypolicies.portcullis.dev/magsag -n {OPERATOR_NAMESPACE}"
    ))?;
    cluster.kubectl("delete securitypolicies.portcullis.dev/magsag -n listed")?;
    eventually(PUT_BACK, || {
        let names = listed()?;
        ensure!(!names.contains(&"listed".to_owned()), "still {names:?}");
        Ok(())
    })
}

#[test]
fn an_invalid_policy_leaves_what_it_generated() -> Result<()> {
    let (_turn, cluster) = alone()?;
    cluster.start("invalid", &json!({"network": flows()}))?;
    cluster.wait_for("invalid", SOON, "Enforced=True Enforced")?;
    let network = json!({"flows": [
        {"from": {"component": "api"}, "to": {"component": "redis"}, "ports": ["99999"]},
    ]});
    cluster.put_unseen(&policy("invalid", &json!({"network": network})))?;
    let message = cluster.wait_for("invalid", SOON, "Accepted=False Invalid")?;
    assert_eq!(
        message,
        "`spec.network.flows[0].ports[0]` must be a port from 1 to 65535 or a range such as 8000-8010, got `99999`"
    );
    assert_eq!(cluster.network_policies("invalid")?, GENERATED);
    Ok(())
}

#[test]
fn existing_workloads_are_audited_and_counted() -> Result<()> {
    let (_turn, cluster) = beside_others()?;
    cluster.kubectl("create namespace audited")?;
    let deployment = |name: &str, part_of: &str, security: Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "audited"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {
                "metadata": {"labels": {"app": name, "part-of": part_of}},
                "spec": {"securityContext": security, "containers": [{"name": name, "image": "registry.example.com/app:1"}]},
            }},
        })
    };
    cluster.put(&deployment(
        "api",
        "magsag",
        json!({"runAsNonRoot": true, "runAsUser": 65532}),
    ))?;
    cluster.put(&deployment("redis", "magsag", json!({"runAsUser": 0})))?;
    cluster.put(&deployment("other", "other", json!({})))?;
    let spec = json!({
        "enforcement": "Warn", "podSecurity": {"defaults": ["SeccompProfile", "AllowPrivilegeEscalation", "DropCapabilities"]},
        "rules": [{"id": "pod/read-only-root-filesystem", "enforcement": "Disabled"}],
    });
    cluster.put(&policy("audited", &spec))?;
    eventually(SOON, || {
        let status = cluster.status("audited")?;
        let expected = json!({"matched": 2, "compliant": 1, "violating": 1, "unmatched": 1});
        ensure!(status["workloads"] == expected, "still {status:#}");
        Ok(())
    })
}

#[test]
fn a_selector_that_matches_nothing_is_named() -> Result<()> {
    let (_turn, cluster) = beside_others()?;
    cluster.start("empty", &json!({}))?;
    let message = cluster.wait_for("empty", SOON, "Ready=True NoWorkloads")?;
    assert_eq!(
        message,
        "`spec.workloads.selector` matches no workload of the namespace yet"
    );
    Ok(())
}

#[test]
fn the_ceiling_is_shown_in_the_policys_condition() -> Result<()> {
    let (_turn, cluster) = alone()?;
    cluster.start("capped", &json!({}))?;
    cluster.wait_for("capped", SOON, "Enforced=True Enforced")?;
    let set = |ceiling: &str| {
        let config_map = format!("configmap/portcullis -n {OPERATOR_NAMESPACE}");
        cluster.change(&config_map, &json!({"data": {"enforcementCeiling": ceiling}}))
    };
    set("Warn")?;
    let told = cluster.wait_for("capped", PUT_BACK, "Enforced=False EnforcementCeiling");
    set("Deny")?;
    let told = told?;
    assert!(told.contains("enforcementCeiling is Warn"), "{told}");
    cluster
        .wait_for("capped", PUT_BACK, "Enforced=True Enforced")
        .map(drop)
}

#[test]
fn r07_a_paused_leader_is_replaced_and_writes_nothing_once_resumed() -> Result<()> {
    let (_turn, cluster) = alone()?;
    cluster.start("led", &json!({"network": {}}))?;
    cluster.wait_for("led", SOON, "Enforced=True Enforced")?;
    let holder = || cluster.holder();
    let first = holder()?;
    let _second = Replica(cluster.operator(free_port()?, free_port()?, "second.log")?);
    sleep(Duration::from_secs(3));
    assert_eq!(
        holder()?,
        first,
        "a second replica does not take the Lease from a living one"
    );

    cluster.signal("STOP")?;
    let change = cluster.kubectl("delete networkpolicy/portcullis-magsag-dns -n led");
    let replaced = eventually(Duration::from_secs(15), || {
        let now = holder()?;
        ensure!(now != first && !now.is_null(), "still {now}");
        cluster
            .get("networkpolicy/portcullis-magsag-dns -n led")
            .map(drop)
    });
    let before = cluster.log("operator.log").len();
    // Something to write for whoever believes to lead.
    let again = cluster.kubectl("delete networkpolicy/portcullis-magsag-default-deny -n led");
    cluster.signal("CONT")?;
    change.and(again)?;
    replaced?;
    eventually(SOON, || {
        let log = cluster.log("operator.log");
        let since = log.get(before..).unwrap_or_default();
        ensure!(since.contains("Lost leadership"), "{since}");
        Ok(())
    })?;
    sleep(Duration::from_secs(2));
    let log = cluster.log("operator.log");
    let since = log.get(before..).unwrap_or_default();
    for word in ["Applied", "Deleted", "Wrote"] {
        assert!(!since.contains(word), "{since}");
    }
    cluster
        .get("networkpolicy/portcullis-magsag-default-deny -n led")
        .map(drop)
}

#[test]
fn r06_a_leader_that_is_told_to_end_gives_the_lease_back() -> Result<()> {
    let (_turn, cluster) = alone()?;
    let first = cluster.holder()?;
    let metrics_port = free_port()?;
    let mut second = Replica(cluster.operator(free_port()?, metrics_port, "ended.log")?);
    cluster.wait_ready(metrics_port)?;
    cluster.signal("STOP")?;
    let taken = eventually(Duration::from_secs(15), || {
        let holder = cluster.holder()?;
        ensure!(holder != first && !holder.is_null(), "still {holder}");
        Ok(holder)
    });
    cluster.signal("CONT")?;
    let taken = taken?;
    let leader = |port| -> Result<bool> {
        let metrics = cluster.probe(port, "/metrics")?;
        Ok(metrics.lines().any(|it| it == "portcullis_leader 1"))
    };
    eventually(PUT_BACK, || {
        ensure!(leader(metrics_port)?, "the second replica says that it leads");
        ensure!(!leader(cluster.metrics_port)?, "the first one says so no more");
        Ok(())
    })?;
    // Just renewed: left alone it would hold for another five seconds at least.
    let id = second.0.id().to_string();
    let told = Command::new("kill").args(["-TERM", &id]).status()?;
    ensure!(told.success(), "kill -TERM {id}");
    eventually(Duration::from_secs(3), || {
        let holder = cluster.holder()?;
        ensure!(holder != taken && !holder.is_null(), "still {holder}");
        Ok(())
    })?;
    let status = second.0.wait()?;
    ensure!(status.success(), "{status}: {}", cluster.log("ended.log"));
    ensure!(leader(cluster.metrics_port)?, "the first replica leads again");
    Ok(())
}

#[test]
fn r06_a_new_leader_turns_no_condition() -> Result<()> {
    let (_turn, cluster) = alone()?;
    let entries = json!([
        {"name": "api-key", "env": "API_KEY", "components": ["api"], "secretRef": {"name": "magsag", "key": "api-key"}},
    ]);
    cluster.start(
        "turned",
        &json!({"network": flows(), "secrets": {"entries": entries}}),
    )?;
    cluster.kubectl("create secret generic magsag -n turned --from-literal=api-key=x")?;
    cluster.wait_for("turned", SOON, "Ready=True NoWorkloads")?;
    let times = || -> Result<Vec<Value>> {
        let status = cluster.status("turned")?;
        let conditions = status["conditions"].as_array().context("conditions")?;
        let time = |it: &Value| json!([it["type"], it["status"], it["lastTransitionTime"]]);
        Ok(conditions.iter().map(time).collect())
    };
    let before = times()?;
    let first = cluster.holder()?;
    let metrics_port = free_port()?;
    let _second = Replica(cluster.operator(free_port()?, metrics_port, "turned.log")?);
    cluster.wait_ready(metrics_port)?;
    cluster.signal("STOP")?;
    let taken = eventually(Duration::from_secs(15), || {
        let holder = cluster.holder()?;
        ensure!(holder != first && !holder.is_null(), "still {holder}");
        Ok(())
    });
    // Something that only a leader who reconciles writes.
    let put_back = cluster
        .kubectl("delete networkpolicy/portcullis-magsag-dns -n turned")
        .and_then(|_| {
            eventually(SOON, || {
                cluster
                    .get("networkpolicy/portcullis-magsag-dns -n turned")
                    .map(drop)
            })
        });
    cluster.signal("CONT")?;
    taken.and(put_back)?;
    assert_eq!(times()?, before);
    Ok(())
}

#[test]
fn r05_without_its_definition_nothing_is_refused_and_with_it_all_comes_back() -> Result<()> {
    let (_turn, cluster) = alone()?;
    cluster.start("undefined", &json!({}))?;
    cluster.wait_for("undefined", SOON, "Enforced=True Enforced")?;
    cluster.kubectl("delete crd securitypolicies.portcullis.dev")?;
    // The API server ends the watches of a kind that is gone only after a while.
    let without = eventually(SOON * 3, || {
        let configuration = cluster.get("validatingwebhookconfiguration/zz-portcullis")?;
        let entries = configuration["webhooks"].as_array().into_iter().flatten();
        let names: Vec<&Value> = entries.map(|it| &it["name"]).collect();
        ensure!(names == ["policies.portcullis.dev"], "still {names:?}");
        let metrics = cluster.probe(cluster.metrics_port, "/metrics")?;
        let shown = |line| metrics.lines().any(|it| it == line);
        ensure!(shown(r#"portcullis_policies{state="accepted"} 0"#), "{metrics}");
        ensure!(shown("portcullis_api_available 0"), "{metrics}");
        Ok(())
    });
    let without = without.and_then(|()| {
        cluster.kubectl("create deployment free --image=registry.example.com/app:1 -n undefined")
    });
    // A replica that starts meanwhile waits for no policy.
    let metrics_port = free_port()?;
    let started = cluster.operator(free_port()?, metrics_port, "undefined.log");
    let ready = started
        .map(Replica)
        .and_then(|_second| cluster.wait_ready(metrics_port));
    cluster.kubectl("apply --server-side --force-conflicts -f crds")?;
    cluster.kubectl("wait --for=condition=Established crd/securitypolicies.portcullis.dev --timeout=30s")?;
    without?;
    ready?;
    cluster.put(&policy("undefined", &json!({})))?;
    cluster
        .wait_for("undefined", SOON * 3, "Enforced=True Enforced")
        .map(drop)
}
