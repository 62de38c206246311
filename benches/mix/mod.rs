//! The mix of eight reviews that all measurements share: what an API server sends when people roll out an ordinary
//! application, made the same way on every machine. All of them comply with the policy, as most objects do.

mod objects;

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use portcullis_api::SecurityPolicy;
use serde_json::{Value, json};

use objects::Workload;

/// The governed namespace.
pub const NAMESPACE: &str = "shop";

/// One AdmissionReview as the API server writes it.
#[derive(Debug)]
pub struct Review {
    /// Kind of the object.
    pub kind: &'static str,
    /// The whole body.
    pub body: String,
}

/// Six bodies of 5 to 6 KB, an UPDATE of 16 KB with both objects, and a Pod of 61 KB.
pub fn reviews() -> anyhow::Result<Vec<Review>> {
    let one = |name, kind, variables| {
        create(&Workload {
            name,
            kind,
            containers: 1,
            variables,
        })
    };
    let wide = |variables| Workload {
        name: "api",
        kind: "Deployment",
        containers: 2,
        variables,
    };
    let large = Workload {
        name: "agent",
        kind: "Pod",
        containers: 6,
        variables: 55,
    };
    let all = [
        (one("api", "Deployment", 1)?, 5_000..=6_000),
        (one("database", "StatefulSet", 0)?, 5_000..=6_000),
        (one("agent", "DaemonSet", 1)?, 5_000..=6_000),
        (one("migrate", "Job", 1)?, 5_000..=6_000),
        (one("report", "CronJob", 1)?, 5_000..=6_000),
        (one("worker", "Pod", 5)?, 5_000..=6_000),
        (update(&wide(1), &wide(2))?, 15_500..=16_500),
        (create(&large)?, 60_500..=61_500),
    ];
    for (review, bounds) in &all {
        let bytes = review.body.len();
        ensure!(
            bounds.contains(&bytes),
            "{} has {bytes} bytes, not {bounds:?}",
            review.kind
        );
    }
    Ok(all.into_iter().map(|(review, _)| review).collect())
}

/// The policy that governs [`NAMESPACE`]: every section is stated, so that every rule runs.
pub fn policy() -> anyhow::Result<SecurityPolicy> {
    let labels = |name: &str| json!({"matchLabels": {"app.kubernetes.io/name": name}});
    let entry = |name: &str, env: &str, key: &str| json!({"name": name, "env": env, "components": ["api"], "secretRef": {"name": "shop", "key": key}});
    serde_json::from_value(json!({
        "apiVersion": "portcullis.dev/v1alpha1",
        "kind": "SecurityPolicy",
        "metadata": {"name": "shop", "namespace": NAMESPACE},
        "spec": {
            "rulesVersion": "v1",
            "environment": "Production",
            "enforcement": "Deny",
            "contact": "#shop-platform",
            "workloads": {
                "scope": "Selected",
                "selector": {"matchLabels": {"app.kubernetes.io/part-of": "shop"}},
            },
            "components": [
                {"name": "api", "role": "HttpService", "selector": labels("api")},
                {"name": "worker", "role": "Worker", "selector": labels("worker")},
                {"name": "database", "role": "Postgres", "selector": labels("database")},
            ],
            "podSecurity": {
                "level": "Restricted",
                "defaults": ["SeccompProfile", "AllowPrivilegeEscalation", "RunAsNonRoot", "DropCapabilities"],
            },
            "secrets": {"entries": [
                entry("database-password", "DATABASE_PASSWORD", "database-password"),
                entry("api-key", "PAYMENT_API_KEY", "payment-api-key"),
            ]},
            "http": {"cors": {"env": "CORS_ORIGINS", "allowedOrigins": ["https://shop.example.com"]}},
            "network": {"flows": [{"from": {"component": "api"}, "to": {"component": "database"}, "ports": [5432]}]},
        },
    }))
    .context("the policy must have the shape of its type")
}

/// The Secrets that the objects refer to, with their keys.
pub fn secrets() -> BTreeMap<&'static str, Vec<&'static str>> {
    BTreeMap::from([("shop", vec!["database-password", "payment-api-key"])])
}

/// The ConfigMaps that the objects refer to, with their data.
pub fn config_maps() -> BTreeMap<&'static str, BTreeMap<&'static str, &'static str>> {
    let settings = BTreeMap::from([
        ("log-level", "info"),
        ("region", "eu-central"),
        ("currency", "EUR"),
    ]);
    let features = BTreeMap::from([
        ("FEATURE_CHECKOUT", "on"),
        ("FEATURE_WISHLIST", "off"),
        ("FEATURE_REVIEWS", "on"),
    ]);
    BTreeMap::from([("shop-settings", settings), ("shop-features", features)])
}

fn create(workload: &Workload) -> anyhow::Result<Review> {
    review(workload, "CREATE", &workload.object(1)?, &Value::Null)
}

/// An UPDATE from `old` to `new`, as a rollout with one more variable makes it.
fn update(old: &Workload, new: &Workload) -> anyhow::Result<Review> {
    review(new, "UPDATE", &new.object(2)?, &old.object(1)?)
}

/// The fields in the order in which the API server writes them.
fn review(workload: &Workload, operation: &str, object: &Value, old: &Value) -> anyhow::Result<Review> {
    let (group, version) = workload.group_version();
    let (kind, name) = (workload.kind, workload.name);
    let plural = format!("{}s", kind.to_lowercase());
    let gvk = json!({"group": group, "version": version, "kind": kind});
    let gvr = json!({"group": group, "version": version, "resource": plural});
    let user = json!({
        "username": "system:serviceaccount:argocd:argocd-application-controller",
        "uid": "0e1c6a3c-6a0b-4b1a-9a55-3f4f2f0a6b3d",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:argocd", "system:authenticated"],
    });
    let options = json!({"kind": format!("{}Options", if operation == "CREATE" { "Create" } else { "Update" }),
        "apiVersion": "meta.k8s.io/v1", "fieldManager": "argocd-controller", "fieldValidation": "Strict"});
    let body = format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"7c7a6e0e-3a8f-4f55-9b0a-2d9f6c1e8b42","kind":{gvk},"resource":{gvr},"requestKind":{gvk},"requestResource":{gvr},"name":"{name}","namespace":"{NAMESPACE}","operation":"{operation}","userInfo":{user},"object":{object},"oldObject":{old},"dryRun":false,"options":{options}}}}}"#
    );
    Ok(Review { kind, body })
}
