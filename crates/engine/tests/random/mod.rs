//! Random objects for property tests: what the view reads, in right and wrong shapes, and texts that rules look for.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use portcullis_api::SecurityPolicy;
use portcullis_engine::CompiledPolicy;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A policy `agents/NAME` for the whole namespace whose spec is `spec` on top of what every policy must state.
pub fn policy(name: &str, spec: &Value) -> CompiledPolicy {
    let mut whole = json!({
        "rulesVersion": "v1", "environment": "Production", "enforcement": "Deny",
        "workloads": {"scope": "Namespace"},
    });
    json_patch::merge(&mut whole, spec);
    let policy: SecurityPolicy = serde_json::from_value(json!({
        "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy",
        "metadata": {"name": name, "namespace": "agents"}, "spec": whole,
    }))
    .expect("policy has the shape of its type");
    CompiledPolicy::try_from(&policy).expect("policy is valid")
}

/// A policy that states every section, so that every rule runs.
pub fn full_policy(level: &str, defaults: &[&str]) -> CompiledPolicy {
    policy(
        "full",
        &json!({
            "contact": "#agents-platform",
            "rules": [{"id": "pod/read-only-root-filesystem", "enforcement": "Deny"}],
            "components": [
                {"name": "api", "role": "HttpService", "selector": {"matchLabels": {"app": "api"}}},
                {"name": "worker", "role": "Worker", "selector": {"matchLabels": {"app": "worker"}}},
            ],
            "podSecurity": {"level": level, "defaults": defaults,
                "ids": [{"components": ["api"], "runAsUser": {"min": 1000, "max": 1999}, "fsGroup": {"min": 1, "max": 1}}]},
            "secrets": {"entries": [
                {"name": "api-key", "env": "API_KEY", "aliases": ["KEY"], "components": ["api", "worker"],
                 "secretRef": {"name": "magsag", "key": "api-key"},
                 "delivery": {"mode": "Env", "containers": ["api", "migrate"]}},
                {"name": "token", "env": "TOKEN", "components": ["api"],
                 "secretRef": {"name": "absent", "key": "token"}},
                {"name": "again", "env": "API_KEY", "components": ["api"],
                 "secretRef": {"name": "other", "key": "api-key"},
                 "delivery": {"mode": "Env", "containers": ["api"]}},
            ]},
            "http": {"cors": {"env": "CORS_ORIGINS", "allowedOrigins": ["https://app.example.com"]}},
            "network": {"flows": [{"from": {"component": "api"}, "to": {"preset": "PublicHttps"}}]},
        }),
    )
}

/// A strategy for any subset of what `podSecurity.defaults` may hold.
pub fn defaults() -> impl Strategy<Value = Vec<&'static str>> {
    let all = vec![
        "SeccompProfile",
        "AllowPrivilegeEscalation",
        "RunAsNonRoot",
        "DropCapabilities",
    ];
    prop::sample::subsequence(all, 0..=4)
}

/// Enough cases for what can differ; seeds of failures are printed and not written to the tree.
pub fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A level of the standard.
pub fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["Privileged", "Baseline", "Restricted"])
}

/// An object that runs pods, each field in the shape that Kubernetes gives it, `null` or absent.
pub fn workload() -> impl Strategy<Value = Value> {
    let kinds = [
        ("v1", "Pod"),
        ("v1", "PodTemplate"),
        ("v1", "ReplicationController"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "ReplicaSet"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("batch/v1", "Job"),
        ("batch/v1", "CronJob"),
    ];
    (prop::sample::select(kinds.to_vec()), labels(), pod_spec()).prop_map(
        |((api_version, kind), labels, spec)| {
            let metadata = json!({"name": "api", "namespace": "agents", "labels": labels});
            let template = json!({"metadata": {"labels": labels}, "spec": spec});
            let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
            let (field, value) = match kind {
                "Pod" => ("spec", spec),
                "PodTemplate" => ("template", template),
                "CronJob" => ("spec", json!({"jobTemplate": {"spec": {"template": template}}})),
                _ => ("spec", json!({"template": template})),
            };
            object[field] = value;
            object
        },
    )
}

fn labels() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"app": "api"}),
        json!({"app": "worker"}),
        json!({}),
        Value::Null,
    ])
}

fn pod_spec() -> impl Strategy<Value = Value> {
    let lists = (
        containers(&["migrate", "chown", "istio-init"]),
        containers(&["api", "proxy", "istio-proxy"]),
        containers(&["debugger", "second"]),
    );
    let rest = fields(vec![
        ("securityContext", security_context().boxed()),
        ("hostNetwork", any::<bool>().prop_map(Value::from).boxed()),
        ("hostPID", any::<bool>().prop_map(Value::from).boxed()),
        ("hostUsers", any::<bool>().prop_map(Value::from).boxed()),
        (
            "shareProcessNamespace",
            any::<bool>().prop_map(Value::from).boxed(),
        ),
        (
            "restartPolicy",
            prop::sample::select(vec![json!("Always"), json!("Never")]).boxed(),
        ),
        ("resources", resources().boxed()),
        ("os", os().boxed()),
        ("volumes", vec(volume(), 0..3).prop_map(Value::from).boxed()),
        (
            "imagePullSecrets",
            Just(json!([{"name": "registry"}, {"name": ""}])).boxed(),
        ),
    ]);
    (lists, rest).prop_map(|((init, main, ephemeral), mut spec)| {
        spec["initContainers"] = init;
        spec["containers"] = main;
        spec["ephemeralContainers"] = ephemeral;
        spec
    })
}

fn os() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"name": "linux"}),
        json!({"name": "windows"}),
        json!({}),
    ])
}

/// Some of the containers with these names, in any order: names are unique within a pod.
fn containers(names: &[&'static str]) -> BoxedStrategy<Value> {
    let one = |name: &'static str| container(name).boxed();
    let all: Vec<BoxedStrategy<Value>> = names.iter().map(|name| one(name)).collect();
    let some = (all, vec(any::<bool>(), names.len()))
        .prop_map(|(all, keep)| {
            all.into_iter()
                .zip(keep)
                .filter_map(|(it, keep)| keep.then_some(it))
                .collect::<Vec<_>>()
        })
        .prop_shuffle();
    prop_oneof![9 => some.prop_map(Value::from), 1 => Just(Value::Null)].boxed()
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    fields(vec![
        ("securityContext", security_context().boxed()),
        ("env", vec(variable(), 0..4).prop_map(Value::from).boxed()),
        ("envFrom", vec(env_from(), 0..2).prop_map(Value::from).boxed()),
        ("args", vec(text(), 0..3).prop_map(Value::from).boxed()),
        ("command", vec(text(), 0..2).prop_map(Value::from).boxed()),
        ("resources", resources().boxed()),
        ("volumeMounts", Just(json!([{"name": "data"}])).boxed()),
        (
            "ports",
            Just(json!([{"containerPort": 80}, {"hostPort": 80}])).boxed(),
        ),
        (
            "livenessProbe",
            Just(json!({"httpGet": {"host": "example.com"}})).boxed(),
        ),
        (
            "lifecycle",
            Just(json!({"preStop": {"tcpSocket": {"host": "example.com"}}})).boxed(),
        ),
    ])
    .prop_map(move |mut container| {
        container["name"] = name.into();
        container
    })
}

fn resources() -> impl Strategy<Value = Value> {
    let amounts = || {
        prop::sample::select(vec![
            json!({"cpu": 1, "memory": "1Gi"}),
            json!({"cpu": null}),
            json!({}),
        ])
    };
    fields(vec![
        ("requests", amounts().boxed()),
        ("limits", amounts().boxed()),
    ])
}

fn security_context() -> impl Strategy<Value = Value> {
    let flag = || any::<bool>().prop_map(Value::from).boxed();
    let user = prop::sample::select(vec![0, 1000]).prop_map(Value::from);
    let profile = prop::sample::select(vec![
        json!({"type": "RuntimeDefault"}),
        json!({"type": "Unconfined"}),
        json!({}),
    ]);
    let selinux = prop::sample::select(vec![
        json!({"type": "container_t", "level": "s0"}),
        json!({"type": "spc_t", "role": "system_r"}),
        json!({}),
    ]);
    fields(vec![
        ("runAsNonRoot", flag()),
        ("runAsUser", user.boxed()),
        ("privileged", flag()),
        ("allowPrivilegeEscalation", flag()),
        ("readOnlyRootFilesystem", flag()),
        ("capabilities", capabilities().boxed()),
        ("seccompProfile", profile.clone().boxed()),
        ("appArmorProfile", profile.boxed()),
        ("seLinuxOptions", selinux.boxed()),
        (
            "procMount",
            prop::sample::select(vec![json!("Default"), json!("Unmasked")]).boxed(),
        ),
        ("windowsOptions", fields(vec![("hostProcess", flag())]).boxed()),
        (
            "sysctls",
            prop::sample::select(vec![json!([]), json!([{"name": "kernel.msgmax"}])]).boxed(),
        ),
    ])
}

fn capabilities() -> impl Strategy<Value = Value> {
    let names = || {
        let names = ["ALL", "all", "NET_BIND_SERVICE", "CHOWN", "NET_RAW", "SYS_ADMIN"];
        let subset = prop::sample::subsequence(names.to_vec(), 0..3);
        subset.prop_map(Value::from).boxed()
    };
    fields(vec![("add", names()), ("drop", names())])
}

fn variable() -> impl Strategy<Value = Value> {
    let names = ["API_KEY", "KEY", "TOKEN", "CORS_ORIGINS", "DATABASE_URL", "LOG"];
    let names = prop::sample::select(names.to_vec());
    let source = prop_oneof![
        text().prop_map(|it| json!({"value": it})),
        key_reference().prop_map(|it| json!({"valueFrom": {"secretKeyRef": it}})),
        key_reference().prop_map(|it| json!({"valueFrom": {"configMapKeyRef": it}})),
        Just(json!({})),
    ];
    (names, source).prop_map(|(name, mut variable)| {
        variable["name"] = name.into();
        variable
    })
}

fn key_reference() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec!["magsag", "absent", "other", ""]);
    let keys = prop::sample::select(vec!["api-key", "cors", "nowhere"]);
    (names, keys, any::<bool>())
        .prop_map(|(name, key, optional)| json!({"name": name, "key": key, "optional": optional}))
}

fn env_from() -> impl Strategy<Value = Value> {
    let field = prop::sample::select(vec!["secretRef", "configMapRef"]);
    let names = prop::sample::select(vec!["magsag", "absent"]);
    let prefix = prop::sample::select(vec![Value::Null, "".into(), "API_".into(), "ZZ_".into()]);
    (field, names, prefix).prop_map(|(field, name, prefix)| json!({"prefix": prefix, field: {"name": name}}))
}

fn volume() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"name": "data", "secret": {"secretName": "absent"}}),
        json!({"name": "data", "secret": {"secretName": "magsag", "items": [{"key": "nowhere"}]}}),
        json!({"name": "data", "projected": {"sources": [{"secret": {"name": "absent"}}, {"configMap": {}}]}}),
        json!({"name": "unused", "csi": {"nodePublishSecretRef": {"name": "absent"}}}),
        json!({"name": "tmp", "emptyDir": {}}),
        json!({"name": "node", "hostPath": {"path": "/"}}),
        json!({"name": "share", "nfs": {"server": "nfs.example.com"}, "secret": null}),
    ])
}

/// Texts that rules look for, their neighbours, and anything.
pub fn text() -> impl Strategy<Value = String> {
    let known = [
        "*",
        "[\"*\"]",
        "['*']",
        "[",
        "\"",
        "https://app.example.com",
        "https://*.example.com,http://localhost:3000",
        "true",
        "--cors-origins=*",
        "--cors-origins",
        "sh -c 'serve --cors-origin \"*\"",
        "postgres://user:pass@db/app",
        "://@",
        "$(API_KEY)",
        "sk-0123456789abcdefghijklmnopqrstuv",
        "/var/run/secret",
        "ü=\u{0}\n*",
        "",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

/// An object with some of these fields; each is there, `null` or absent.
fn fields(all: Vec<(&'static str, BoxedStrategy<Value>)>) -> impl Strategy<Value = Value> {
    let (names, values): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let values: Vec<_> = values
        .into_iter()
        .map(|value| prop_oneof![5 => value.prop_map(Some), 1 => Just(Some(Value::Null)), 3 => Just(None)])
        .collect();
    values.prop_map(move |values| {
        let stated = names.iter().zip(values);
        let map: Map<String, Value> = stated
            .filter_map(|(name, value)| Some(((*name).to_owned(), value?)))
            .collect();
        Value::Object(map)
    })
}
