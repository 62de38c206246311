//! The objects of the mix: hardened workloads with what real ones carry, field managers and defaults included.

use anyhow::bail;
use serde_json::{Map, Value, json};

use super::NAMESPACE;

/// What one object of the mix looks like.
#[derive(Debug)]
pub struct Workload {
    /// Its name, and that of its component.
    pub name: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// How many main containers its pods have.
    pub containers: usize,
    /// How many variables with a literal value each container has, beside those that refer to something.
    pub variables: usize,
}

impl Workload {
    /// Group and version of its kind.
    pub fn group_version(&self) -> (&'static str, &'static str) {
        match self.kind {
            "Pod" => ("", "v1"),
            "Job" | "CronJob" => ("batch", "v1"),
            _ => ("apps", "v1"),
        }
    }

    /// The object of this generation, as the API server hands it to webhooks.
    pub fn object(&self, generation: u8) -> anyhow::Result<Value> {
        let template = json!({"metadata": {"labels": self.labels(), "annotations": annotations()}, "spec": self.pod_spec()});
        let selector = json!({"matchLabels": {"app.kubernetes.io/name": self.name, "app.kubernetes.io/part-of": "shop"}});
        let spec = match self.kind {
            "Pod" => self.pod_spec(),
            "Deployment" => {
                json!({"replicas": 3, "selector": selector, "template": template, "revisionHistoryLimit": 10,
                "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}}})
            }
            "StatefulSet" => {
                json!({"replicas": 3, "selector": selector, "template": template, "serviceName": self.name,
                "podManagementPolicy": "OrderedReady", "updateStrategy": {"type": "RollingUpdate"},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                    "storageClassName": "fast", "resources": {"requests": {"storage": "20Gi"}}}}]})
            }
            "DaemonSet" => json!({"selector": selector, "template": template, "revisionHistoryLimit": 10,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}}),
            "Job" => job(template),
            "CronJob" => json!({"schedule": "15 3 * * *", "concurrencyPolicy": "Forbid", "suspend": false,
                "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1, "jobTemplate": {"spec": job(template)}}),
            other => bail!("the mix has no {other}"),
        };
        let (group, version) = self.group_version();
        let api_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        let annotations = match self.kind {
            "Pod" => annotations(),
            kind => {
                json!({"argocd.argoproj.io/tracking-id": format!("shop:{group}/{kind}:{NAMESPACE}/{}", self.name)})
            }
        };
        let fields = json!({"f:metadata": {"f:labels": fields_of(&self.labels()), "f:annotations": fields_of(&annotations)},
            "f:spec": fields_of(&spec)});
        Ok(json!({
            "kind": self.kind,
            "apiVersion": api_version,
            "metadata": {
                "name": self.name,
                "namespace": NAMESPACE,
                "uid": "b2f1c9de-4c0b-4c0e-8f0d-6f3f1d6a9c11",
                "generation": generation,
                "creationTimestamp": "2026-11-02T09:14:51Z",
                "labels": self.labels(),
                "annotations": annotations,
                "managedFields": [{"manager": "argocd-controller", "operation": "Apply", "apiVersion": api_version,
                    "time": "2026-11-02T09:14:51Z", "fieldsType": "FieldsV1", "fieldsV1": fields}],
            },
            "spec": spec,
        }))
    }

    fn labels(&self) -> Value {
        json!({"app.kubernetes.io/name": self.name, "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/version": "4.12.0"})
    }

    fn pod_spec(&self) -> Value {
        let containers: Vec<Value> = (0..self.containers).map(|index| self.container(index)).collect();
        json!({
            "serviceAccountName": self.name,
            "automountServiceAccountToken": false,
            "restartPolicy": if matches!(self.kind, "Job" | "CronJob") { "OnFailure" } else { "Always" },
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 10001, "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": containers,
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "credentials", "secret": {"secretName": "shop", "defaultMode": 288}},
            ],
        })
    }

    fn container(&self, index: usize) -> Value {
        let name = if index == 0 {
            self.name.to_owned()
        } else {
            format!("{}-{index}", self.name)
        };
        let port = 8080 + index;
        let probe = |path: &str, period: u8| {
            json!({"httpGet": {"path": path, "port": port, "scheme": "HTTP"}, "periodSeconds": period,
                "timeoutSeconds": 1, "failureThreshold": 3, "successThreshold": 1})
        };
        json!({
            "name": name,
            "image": "registry.example.com/shop/app:4.12.0",
            "imagePullPolicy": "IfNotPresent",
            "args": ["serve", "--listen=0.0.0.0", "--credentials=/run/credentials"],
            "env": self.env(),
            "envFrom": [{"configMapRef": {"name": "shop-features"}}],
            "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "livenessProbe": probe("/healthz", 10),
            "readinessProbe": probe("/readyz", 5),
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"},
                {"name": "credentials", "mountPath": "/run/credentials", "readOnly": true}],
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        })
    }

    fn env(&self) -> Vec<Value> {
        let mut env = vec![
            json!({"name": "LOG_LEVEL", "valueFrom": {"configMapKeyRef": {"name": "shop-settings", "key": "log-level"}}}),
            json!({"name": "DATABASE_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "database-password"}}}),
            json!({"name": "CORS_ORIGINS", "value": "https://shop.example.com"}),
        ];
        env.extend((0..self.variables).map(variable));
        env
    }
}

/// Variables of the kinds that applications have: addresses, durations, paths.
fn variable(index: usize) -> Value {
    match index % 3 {
        0 => {
            json!({"name": format!("CATALOG_{index}_URL"), "value": format!("http://catalog-{index}.shop.svc.cluster.local:8080")})
        }
        1 => json!({"name": format!("TIMEOUT_{index}_MILLISECONDS"), "value": "2500"}),
        _ => json!({"name": format!("CACHE_{index}_DIRECTORY"), "value": format!("/tmp/cache-{index}")}),
    }
}

fn job(template: Value) -> Value {
    json!({"backoffLimit": 3, "completions": 1, "parallelism": 1, "completionMode": "NonIndexed",
        "ttlSecondsAfterFinished": 86400, "template": template})
}

fn annotations() -> Value {
    json!({"prometheus.io/scrape": "true", "prometheus.io/port": "8080",
        "checksum/config": "9f2c4b1a7d6e5f3c"})
}

/// Fields that the API server fills in: nobody owns them.
const DEFAULTED: &[&str] = &[
    "completionMode",
    "dnsPolicy",
    "failureThreshold",
    "schedulerName",
    "scheme",
    "successThreshold",
    "suspend",
    "terminationGracePeriodSeconds",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "timeoutSeconds",
];

/// Who set what, in the notation of `managedFields`.
fn fields_of(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let set = fields
                .iter()
                .filter(|(name, _)| !DEFAULTED.contains(&name.as_str()));
            set.map(|(name, value)| (format!("f:{name}"), fields_of(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        Value::Array(items) => items.iter().filter_map(item_fields).collect::<Map<_, _>>().into(),
        _ => json!({}),
    }
}

/// An item of a list that is merged by a key; other lists are owned as a whole.
fn item_fields(item: &Value) -> Option<(String, Value)> {
    let keys: &[&str] = match item.as_object()? {
        fields if fields.contains_key("containerPort") => &["containerPort", "protocol"],
        fields if fields.contains_key("mountPath") => &["mountPath"],
        fields if fields.contains_key("name") => &["name"],
        _ => return None,
    };
    let key: Map<String, Value> = keys
        .iter()
        .filter_map(|it| Some(((*it).to_owned(), item.get(it)?.clone())))
        .collect();
    let Value::Object(mut fields) = fields_of(item) else {
        return None;
    };
    fields.insert(".".into(), json!({}));
    Some((format!("k:{}", Value::Object(key)), fields.into()))
}
