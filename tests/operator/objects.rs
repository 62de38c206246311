//! Policies and what becomes of them, as JSON.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Operator;
use crate::cluster::eventually;

/// The policy `magsag` with defaults for what `spec` does not state.
pub fn policy(namespace: &str, spec: &Value) -> Value {
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

/// Flows of every kind, as `spec.network`.
pub fn flows() -> Value {
    json!({"flows": [
        {"from": {"preset": "IngressController"}, "to": {"component": "api"}, "ports": [8000]},
        {"from": {"component": "api"}, "to": {"component": "redis"}, "ports": [6379]},
        {"from": {"component": "api"}, "to": {"preset": "PublicHttps"}},
        {"from": {"component": "api"}, "to": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}, "ports": ["9000-9010/UDP"]},
    ]})
}

/// A declared Secret, as `spec.secrets`.
pub fn secret_entry() -> Value {
    json!({"entries": [
        {"name": "api-key", "env": "API_KEY", "components": ["api"], "secretRef": {"name": "magsag", "key": "api-key"}},
    ]})
}

/// The value at a JSON pointer; null where there is none.
pub fn field<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    field(value, pointer).as_str().unwrap_or_default()
}

impl Operator {
    /// Applies an object.
    pub fn put(&self, object: &Value) -> Result<()> {
        self.admitted(&object.to_string()).map(drop)
    }

    /// Applies a policy that the webhook for our own kinds would refuse: while it does not answer, it lets pass.
    pub fn put_unseen(&self, object: &Value) -> Result<()> {
        let _paused = self.pause()?;
        self.put(object)
    }

    /// Merges a change into an object, `kind/name -n namespace`.
    pub fn change(&self, object: &str, change: &Value) -> Result<()> {
        let arguments = format!("patch {object} --type=merge --patch-file=/dev/stdin");
        self.kubectl_with(&arguments, &change.to_string()).map(drop)
    }

    /// Makes a namespace with the policy in it, and does not wait.
    pub fn begin(&self, namespace: &str, spec: &Value) -> Result<()> {
        self.kubectl(&format!("create namespace {namespace}"))?;
        self.put(&policy(namespace, spec))
    }

    /// Makes a namespace with the policy in it, and waits until it is enforced.
    pub fn enforce(&self, namespace: &str, spec: &Value) -> Result<()> {
        self.begin(namespace, spec)?;
        self.wait_for(namespace, "Enforced=True Enforced").map(drop)
    }

    /// Deletes the policy.
    pub fn delete_policy(&self, namespace: &str) -> Result<()> {
        self.kubectl(&format!(
            "delete securitypolicies.portcullis.dev/magsag -n {namespace}"
        ))
        .map(drop)
    }

    /// The status of the policy.
    pub fn status(&self, namespace: &str) -> Result<Value> {
        let policy = self.get(&format!("securitypolicies.portcullis.dev/magsag -n {namespace}"))?;
        Ok(field(&policy, "/status").clone())
    }

    /// Waits for a condition of the newest version of the policy, `Type=Status Reason`; its message.
    pub fn wait_for(&self, namespace: &str, condition: &str) -> Result<String> {
        eventually(|| self.message_of(namespace, condition))
    }

    /// The message of a condition that the newest version of the policy has now, `Type=Status Reason`.
    pub fn message_of(&self, namespace: &str, condition: &str) -> Result<String> {
        let policy = self.get(&format!("securitypolicies.portcullis.dev/magsag -n {namespace}"))?;
        let conditions = field(&policy, "/status/conditions").as_array();
        let conditions = conditions.map(Vec::as_slice).unwrap_or_default();
        let words = |it: &Value| {
            format!(
                "{}={} {}",
                text(it, "/type"),
                text(it, "/status"),
                text(it, "/reason")
            )
        };
        let generation = field(&policy, "/metadata/generation");
        let is_current = |it: &&Value| field(it, "/observedGeneration") == generation;
        let mut current = conditions.iter().filter(is_current);
        let found = current.find(|it| words(it) == condition);
        let found = found.with_context(|| format!("{condition} is not among {conditions:#?}"))?;
        Ok(text(found, "/message").to_owned())
    }

    /// Names of the NetworkPolicies of a namespace, sorted.
    pub fn network_policies(&self, namespace: &str) -> Result<Vec<String>> {
        let list = self.get(&format!("networkpolicies -n {namespace}"))?;
        let items = field(&list, "/items").as_array().context("a list")?;
        Ok(items
            .iter()
            .map(|it| text(it, "/metadata/name").to_owned())
            .collect())
    }
}
