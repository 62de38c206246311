//! The webhook configurations that the controller keeps, on a real API server: what they list, and that they are put back.

mod cluster;
mod operator;

use anyhow::{Context, Result, ensure};
use cluster::{OPERATOR_NAMESPACE, eventually};
use operator::alone;
use operator::objects::policy;
use serde_json::{Value, json};

#[test]
fn r12_the_webhook_configuration_is_put_back() -> Result<()> {
    let (_turn, operator) = alone()?;
    operator.enforce("guarded", &json!({}))?;
    for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        let configuration = format!("{kind}/zz-portcullis");
        let before = operator.get(&configuration)?;
        let is_back = || {
            let now = operator.get(&configuration)?;
            ensure!(now["webhooks"] == before["webhooks"], "still {now:#}");
            Ok(())
        };
        assert_eq!(before["metadata"]["ownerReferences"][0]["name"], "portcullis");
        operator.kubectl(&format!("delete {configuration}"))?;
        eventually(is_back)?;
        let mut edited = before["webhooks"].clone();
        edited[0]["clientConfig"]["caBundle"] = Value::Null;
        operator.change(&configuration, &json!({"webhooks": edited}))?;
        eventually(is_back)?;
        // What others add to an entry is not ours, and yet lets everything through.
        let mut edited = before["webhooks"].clone();
        let conditions = edited[0]["matchConditions"]
            .as_array_mut()
            .context("conditions")?;
        conditions.push(json!({"name": "off", "expression": "false"}));
        operator.change(&configuration, &json!({"webhooks": edited}))?;
        eventually(is_back)?;
    }
    Ok(())
}

#[test]
fn r12_a_webhook_configuration_that_is_deleted_again_and_again_is_told() -> Result<()> {
    let (_turn, operator) = alone()?;
    operator.enforce("contested", &json!({}))?;
    let told = eventually(|| {
        let delete = "delete validatingwebhookconfiguration/zz-portcullis --ignore-not-found";
        operator.kubectl(delete)?;
        operator.message_of("contested", "Ready=False Conflict")
    });
    // Another demand begins the count anew.
    operator.begin("uncontested", &json!({}))?;
    operator.wait_for("contested", "Ready=True NoWorkloads")?;
    assert_eq!(
        told?,
        "the webhook configuration is changed or deleted again and again, and lets workloads pass unjudged until it is \
         put back; stop whoever changes it"
    );
    Ok(())
}

#[test]
fn a_namespace_is_listed_while_a_policy_governs_it_and_never_our_own() -> Result<()> {
    let (_turn, operator) = alone()?;
    operator.enforce("listed", &json!({}))?;
    let listed = || -> Result<Vec<String>> {
        let configuration = operator.get("validatingwebhookconfiguration/zz-portcullis")?;
        let values =
            configuration["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"].clone();
        Ok(serde_json::from_value(values).unwrap_or_default())
    };
    assert!(listed()?.contains(&"listed".to_owned()));
    operator.put_unseen(&policy(OPERATOR_NAMESPACE, &json!({})))?;
    operator.wait_for(OPERATOR_NAMESPACE, "Accepted=False NamespaceExempt")?;
    assert!(!listed()?.contains(&OPERATOR_NAMESPACE.to_owned()));
    operator.delete_policy(OPERATOR_NAMESPACE)?;
    operator.delete_policy("listed")?;
    eventually(|| {
        let names = listed()?;
        ensure!(!names.contains(&"listed".to_owned()), "still {names:?}");
        Ok(())
    })
}

#[test]
fn r05_without_its_definition_nothing_is_refused_and_with_it_all_comes_back() -> Result<()> {
    let (_turn, operator) = alone()?;
    operator.enforce("undefined", &json!({}))?;
    operator.kubectl("delete crd securitypolicies.portcullis.dev")?;
    // The API server ends the watches of a kind that is gone only after a while.
    let without = eventually(|| {
        let configuration = operator.get("validatingwebhookconfiguration/zz-portcullis")?;
        let entries = configuration["webhooks"].as_array().into_iter().flatten();
        let names: Vec<&Value> = entries.map(|it| &it["name"]).collect();
        ensure!(names == ["policies.portcullis.dev"], "still {names:?}");
        let metrics = operator.probe(operator.metrics_port, "/metrics")?;
        let shown = |line| metrics.lines().any(|it| it == line);
        ensure!(shown(r#"portcullis_policies{state="accepted"} 0"#), "{metrics}");
        ensure!(shown("portcullis_api_available 0"), "{metrics}");
        Ok(())
    });
    let without = without.and_then(|()| {
        eventually(|| {
            operator.kubectl("create deployment free --image=registry.example.com/app:1 -n undefined")
        })
    });
    // A replica that starts meanwhile waits for no policy.
    let started = operator.replica("undefined.log");
    operator.kubectl("apply --server-side --force-conflicts -f crds")?;
    operator.wait("--for=condition=Established crd/securitypolicies.portcullis.dev")?;
    without?;
    started?;
    operator.put(&policy("undefined", &json!({})))?;
    operator.wait_for("undefined", "Enforced=True Enforced").map(drop)
}
