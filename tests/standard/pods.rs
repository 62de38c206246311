//! Random pods with every field that a control of the Pod Security Standards reads, most of which the API server takes.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A pod, of Linux or of Windows. The API server takes none with ephemeral containers.
pub fn pod() -> impl Strategy<Value = Value> {
    let system = prop_oneof![2 => Just(None), 4 => Just(Some("linux")), 2 => Just(Some("windows"))];
    system.prop_flat_map(|system| {
        let windows = system == Some("windows");
        let lists = (
            containers("init", windows, 0..3),
            containers("main", windows, 1..3),
        );
        let parts = (
            lists,
            pod_context(windows),
            host_fields(windows),
            volumes(),
            annotations(),
        );
        parts.prop_map(move |((init, main), context, host, volumes, annotations)| {
            let mut spec = json!({"containers": main, "initContainers": init, "volumes": volumes});
            merge(&mut spec, host);
            if let Some(system) = system {
                set(&mut spec, "os", json!({"name": system}));
            }
            set(&mut spec, "securityContext", context);
            repair(&mut spec);
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "random", "annotations": annotations},
                "spec": spec,
            })
        })
    })
}

/// Ephemeral containers, as `kubectl debug` adds them.
pub fn ephemeral_containers() -> impl Strategy<Value = Vec<Value>> {
    vec(container(false), 1..3).prop_map(|mut all| {
        for (index, it) in all.iter_mut().enumerate() {
            set(it, "name", format!("debugger-{index}"));
            for forbidden in [
                "ports",
                "livenessProbe",
                "readinessProbe",
                "startupProbe",
                "lifecycle",
            ] {
                remove(it, forbidden);
            }
            repair_container(it);
        }
        all
    })
}

fn containers(
    kind: &'static str,
    windows: bool,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<Value>> {
    vec(container(windows), count).prop_map(move |mut all| {
        for (index, it) in all.iter_mut().enumerate() {
            set(it, "name", format!("{kind}-{index}"));
            // Only a sidecar may have probes among init containers.
            if kind == "init" {
                set(it, "restartPolicy", "Always");
            }
        }
        all
    })
}

fn container(windows: bool) -> impl Strategy<Value = Value> {
    let host_port = select(vec![
        json!({"containerPort": 80}),
        json!({"containerPort": 80, "hostPort": 80}),
    ]);
    let fields = fields(vec![
        ("securityContext", 9, container_context(windows)),
        ("ports", 2, host_port.prop_map(|it| json!([it])).boxed()),
        ("livenessProbe", 1, handler()),
        ("readinessProbe", 1, handler()),
        ("startupProbe", 1, handler()),
        ("lifecycle", 1, lifecycle()),
    ]);
    fields.prop_map(|mut it| {
        set(&mut it, "image", "example.com/image:1");
        it
    })
}

fn handler() -> BoxedStrategy<Value> {
    select(vec![
        json!({"httpGet": {"path": "/", "port": 80}}),
        json!({"httpGet": {"path": "/", "port": 80, "host": ""}}),
        json!({"httpGet": {"path": "/", "port": 80, "host": "example.com"}}),
        json!({"tcpSocket": {"port": 80}}),
        json!({"tcpSocket": {"port": 80, "host": "127.0.0.1"}}),
        json!({"exec": {"command": ["true"]}}),
        json!({"grpc": {"port": 80}}),
    ])
}

fn lifecycle() -> BoxedStrategy<Value> {
    let hook = || {
        select(vec![
            json!({"httpGet": {"path": "/", "port": 80}}),
            json!({"httpGet": {"path": "/", "port": 80, "host": "example.com"}}),
            json!({"exec": {"command": ["true"]}}),
            json!({"sleep": {"seconds": 1}}),
        ])
    };
    fields(vec![("postStart", 5, hook()), ("preStop", 5, hook())])
}

fn container_context(windows: bool) -> BoxedStrategy<Value> {
    let mut all = vec![
        ("runAsNonRoot", 5, flag()),
        ("windowsOptions", if windows { 4 } else { 0 }, windows_options()),
    ];
    if !windows {
        all.extend([
            ("runAsUser", 3, user()),
            ("privileged", 2, flag()),
            (
                "allowPrivilegeEscalation",
                7,
                select(vec![json!(false), json!(false), json!(true)]),
            ),
            ("capabilities", 7, capabilities()),
            ("seccompProfile", 4, profile()),
            ("appArmorProfile", 2, profile()),
            ("seLinuxOptions", 2, selinux()),
            ("procMount", 2, select(vec![json!("Default"), json!("Unmasked")])),
        ]);
    }
    fields(all)
}

fn pod_context(windows: bool) -> BoxedStrategy<Value> {
    let mut all = vec![
        ("runAsNonRoot", 6, flag()),
        ("windowsOptions", if windows { 4 } else { 0 }, windows_options()),
    ];
    if !windows {
        all.extend([
            ("runAsUser", 3, user()),
            ("seccompProfile", 5, profile()),
            ("appArmorProfile", 2, profile()),
            ("seLinuxOptions", 2, selinux()),
            ("sysctls", 2, sysctls()),
        ]);
    }
    fields(all)
}

fn host_fields(windows: bool) -> BoxedStrategy<Value> {
    let mut all = vec![("hostNetwork", 2, flag())];
    if !windows {
        all.extend([
            ("hostPID", 1, flag()),
            ("hostIPC", 1, flag()),
            ("hostUsers", 4, flag()),
        ]);
    }
    fields(all)
}

fn capabilities() -> BoxedStrategy<Value> {
    let names = |names: &[&'static str]| {
        let some = prop::sample::subsequence(names.to_vec(), 0..=2);
        some.prop_map(Value::from).boxed()
    };
    let added = ["NET_BIND_SERVICE", "CHOWN", "NET_RAW", "SYS_ADMIN", "CAP_KILL"];
    fields(vec![
        ("add", 4, names(&added)),
        ("drop", 8, names(&["ALL", "all", "KILL"])),
    ])
}

fn profile() -> BoxedStrategy<Value> {
    select(vec![
        json!({"type": "RuntimeDefault"}),
        json!({"type": "RuntimeDefault"}),
        json!({"type": "Localhost", "localhostProfile": "profile.json"}),
        json!({"type": "Unconfined"}),
    ])
}

fn selinux() -> BoxedStrategy<Value> {
    let kinds = [
        "",
        "container_t",
        "container_init_t",
        "container_kvm_t",
        "container_engine_t",
        "spc_t",
    ];
    let kinds = kinds.map(Value::from).to_vec();
    fields(vec![
        ("type", 7, select(kinds)),
        ("user", 1, select(vec![json!(""), json!("system_u")])),
        ("role", 1, select(vec![json!(""), json!("system_r")])),
        ("level", 3, select(vec![json!("s0:c1,c2")])),
    ])
}

fn sysctls() -> BoxedStrategy<Value> {
    let names = [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
        "net.core.somaxconn",
        "kernel.msgmax",
    ];
    let some = prop::sample::subsequence(names.to_vec(), 0..=2);
    let one = |name: &str| json!({"name": name, "value": "1"});
    some.prop_map(move |it| it.into_iter().map(one).collect()).boxed()
}

fn windows_options() -> BoxedStrategy<Value> {
    fields(vec![
        ("hostProcess", 5, flag()),
        ("runAsUserName", 3, select(vec![json!("ContainerUser")])),
    ])
}

fn volumes() -> impl Strategy<Value = Vec<Value>> {
    let kinds = [
        json!({"configMap": {"name": "a"}}),
        json!({"csi": {"driver": "example.com"}}),
        json!({"downwardAPI": {"items": []}}),
        json!({"emptyDir": {}}),
        json!({"ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}),
        json!({"image": {"reference": "example.com/image:1"}}),
        json!({"persistentVolumeClaim": {"claimName": "a"}}),
        json!({"projected": {"sources": []}}),
        json!({"secret": {"secretName": "a"}}),
        json!({}),
        json!({"hostPath": {"path": "/a"}}),
        json!({"nfs": {"server": "a", "path": "/a"}}),
        json!({"iscsi": {"targetPortal": "10.0.0.1:3260", "iqn": "iqn.2001-04.com.example:storage", "lun": 0}}),
        json!({"awsElasticBlockStore": {"volumeID": "a"}}),
        json!({"azureFile": {"secretName": "a", "shareName": "a"}}),
        json!({"cephfs": {"monitors": ["10.0.0.1"]}}),
        json!({"flexVolume": {"driver": "example.com/a"}}),
        json!({"fc": {"targetWWNs": ["a"], "lun": 0}}),
    ];
    vec(select(kinds.to_vec()), 0..2).prop_map(|mut all| {
        for (index, it) in all.iter_mut().enumerate() {
            set(it, "name", format!("volume-{index}"));
        }
        all
    })
}

/// Annotations by which profiles were once chosen.
fn annotations() -> BoxedStrategy<Value> {
    let seccomp = || {
        select(
            ["runtime/default", "docker/default", "localhost/a", "unconfined"]
                .map(Value::from)
                .to_vec(),
        )
    };
    let apparmor = || {
        select(
            ["runtime/default", "localhost/a", "unconfined"]
                .map(Value::from)
                .to_vec(),
        )
    };
    fields(vec![
        ("seccomp.security.alpha.kubernetes.io/pod", 1, seccomp()),
        (
            "container.seccomp.security.alpha.kubernetes.io/main-0",
            1,
            seccomp(),
        ),
        (
            "container.apparmor.security.beta.kubernetes.io/main-0",
            1,
            apparmor(),
        ),
    ])
}

fn flag() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(Value::from).boxed()
}

fn user() -> BoxedStrategy<Value> {
    select(vec![json!(0), json!(1000), json!(65534)])
}

fn select(values: Vec<Value>) -> BoxedStrategy<Value> {
    prop::sample::select(values).boxed()
}

/// An object with some of these fields, each in so many cases of ten.
fn fields(all: Vec<(&'static str, u32, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let all = all.into_iter().filter(|(_, weight, _)| *weight > 0);
    let (names, values): (Vec<_>, Vec<_>) = all
        .map(|(name, weight, value)| {
            let value = prop_oneof![weight => value.prop_map(Some), 10 - weight => Just(None)];
            (name, value)
        })
        .unzip();
    let object = move |values: Vec<Option<Value>>| {
        let stated = names.iter().zip(values);
        let map: Map<String, Value> = stated
            .filter_map(|(name, it)| Some(((*name).to_owned(), it?)))
            .collect();
        Value::Object(map)
    };
    values.prop_map(object).boxed()
}

/// Takes back what the API server refuses in any pod: it would never come to the standard.
fn repair(spec: &mut Value) {
    let is = |spec: &Value, field: &str, wanted: bool| spec.get(field) == Some(&Value::Bool(wanted));
    let has_user_namespace = is(spec, "hostUsers", false);
    if has_user_namespace {
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            remove(spec, field);
        }
    }
    let is_host_process =
        spec.pointer("/securityContext/windowsOptions/hostProcess") == Some(&Value::Bool(true));
    if is_host_process {
        set(spec, "hostNetwork", true);
    }
    if (is(spec, "hostNetwork", true) || is(spec, "hostIPC", true))
        && let Some(context) = spec.get_mut("securityContext")
    {
        remove(context, "sysctls");
    }
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            repair_container(container);
            if let Some(context) = container
                .get_mut("securityContext")
                .filter(|_| !has_user_namespace)
            {
                remove(context, "procMount");
            }
            if is_host_process && let Some(options) = container.pointer_mut("/securityContext/windowsOptions")
            {
                remove(options, "hostProcess");
            }
        }
    }
}

/// As [`repair`], for one container.
fn repair_container(container: &mut Value) {
    let Some(context) = container.get_mut("securityContext") else {
        return;
    };
    let added = context.pointer("/capabilities/add").and_then(Value::as_array);
    let is_admin = added.is_some_and(|it| it.contains(&json!("SYS_ADMIN")));
    if is_admin || context.get("privileged") == Some(&Value::Bool(true)) {
        remove(context, "allowPrivilegeEscalation");
    }
}

fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        map.insert(field.to_owned(), value.into());
    }
}

fn remove(object: &mut Value, field: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(field);
    }
}

fn merge(object: &mut Value, fields: Value) {
    if let (Some(map), Value::Object(fields)) = (object.as_object_mut(), fields) {
        map.extend(fields);
    }
}
