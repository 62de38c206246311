//! What admission sets on pods: `podSecurity.defaults` and `secrets.entries[].delivery`, as patches of real objects.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod random;

use portcullis_api::Enforcement;
use portcullis_engine::mutation::{self, Mutation, Scope};
use portcullis_engine::{CompiledPolicy, Facts, Subject, evaluate, select};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

const ALL: &[&str] = &[
    "SeccompProfile",
    "AllowPrivilegeEscalation",
    "RunAsNonRoot",
    "DropCapabilities",
];

fn defaults(names: &[&str]) -> CompiledPolicy {
    random::policy("defaults", &json!({"podSecurity": {"defaults": names}}))
}

/// The mutation of `object` and the object after its patch.
fn mutate(policies: &[CompiledPolicy], object: &Value, scope: Scope) -> (Mutation, Value) {
    let json = object.to_string();
    let mut subject = Subject::from_json(&json, "agents").expect("object is readable");
    let governing = select(policies, &subject, None, &Facts::default());
    let mutation = mutation::apply(&governing, &mut subject, scope);
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &mutation.patch).expect("the patch applies");
    (mutation, patched)
}

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api", "namespace": "agents"}, "spec": spec})
}

/// The security context of the only container after `policy` was applied to a pod with it.
fn context_after(policy: CompiledPolicy, context: &Value, rest_of_spec: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "api", "securityContext": context}]});
    json_patch::merge(&mut spec, rest_of_spec);
    let (_, patched) = mutate(&[policy], &pod(spec), Scope::All);
    patched
        .pointer("/spec/containers/0/securityContext")
        .cloned()
        .unwrap_or_default()
}

#[rstest]
#[case::seccomp_profile("SeccompProfile", json!({"seccompProfile": {"type": "RuntimeDefault"}}))]
#[case::allow_privilege_escalation("AllowPrivilegeEscalation", json!({"allowPrivilegeEscalation": false}))]
#[case::run_as_non_root("RunAsNonRoot", json!({"runAsNonRoot": true}))]
#[case::drop_capabilities("DropCapabilities", json!({"capabilities": {"drop": ["ALL"]}}))]
fn each_default_sets_its_field_alone(
    #[case] default: &str,
    #[case] expected: Value,
    #[values(json!(null), json!({}))] context: Value,
) {
    let after = context_after(defaults(&[default]), &context, &json!({}));
    assert_eq!(after, expected);
}

#[test]
fn no_default_is_set_unless_it_is_stated() {
    let policy = random::policy("none", &json!({"podSecurity": {"level": "Restricted"}}));
    let object = pod(json!({"containers": [{"name": "api"}]}));
    assert_eq!(mutate(&[policy], &object, Scope::All).0, Mutation::default());
}

#[rstest]
#[case::null_profile("SeccompProfile", json!({"seccompProfile": null}), json!({"seccompProfile": {"type": "RuntimeDefault"}}))]
#[case::empty_profile("SeccompProfile", json!({"seccompProfile": {}}), json!({"seccompProfile": {"type": "RuntimeDefault"}}))]
#[case::null_capabilities("DropCapabilities", json!({"capabilities": null}), json!({"capabilities": {"drop": ["ALL"]}}))]
#[case::empty_capabilities("DropCapabilities", json!({"capabilities": {}}), json!({"capabilities": {"drop": ["ALL"]}}))]
#[case::empty_drop("DropCapabilities", json!({"capabilities": {"drop": []}}), json!({"capabilities": {"drop": ["ALL"]}}))]
#[case::null_drop("DropCapabilities", json!({"capabilities": {"drop": null}}), json!({"capabilities": {"drop": ["ALL"]}}))]
#[case::what_is_added_stays(
    "DropCapabilities",
    json!({"capabilities": {"add": ["CHOWN"]}}),
    json!({"capabilities": {"add": ["CHOWN"], "drop": ["ALL"]}})
)]
#[case::null_flag("RunAsNonRoot", json!({"runAsNonRoot": null}), json!({"runAsNonRoot": true}))]
#[case::other_fields_stay(
    "RunAsNonRoot",
    json!({"runAsUser": 1000, "procMount": "Default"}),
    json!({"runAsUser": 1000, "procMount": "Default", "runAsNonRoot": true})
)]
fn what_says_nothing_is_set(#[case] default: &str, #[case] context: Value, #[case] expected: Value) {
    let after = context_after(defaults(&[default]), &context, &json!({}));
    assert_eq!(after, expected);
}

#[rstest]
#[case::profile("SeccompProfile", json!({"seccompProfile": {"type": "Unconfined"}}))]
#[case::escalation("AllowPrivilegeEscalation", json!({"allowPrivilegeEscalation": true}))]
#[case::privileged("AllowPrivilegeEscalation", json!({"privileged": true}))]
#[case::sys_admin("AllowPrivilegeEscalation", json!({"capabilities": {"add": ["SYS_ADMIN"]}}))]
#[case::cap_sys_admin("AllowPrivilegeEscalation", json!({"capabilities": {"add": ["CAP_SYS_ADMIN"]}}))]
#[case::root_flag("RunAsNonRoot", json!({"runAsNonRoot": false}))]
#[case::root_user("RunAsNonRoot", json!({"runAsUser": 0}))]
#[case::other_drop("DropCapabilities", json!({"capabilities": {"drop": ["NET_RAW"]}}))]
fn what_a_container_says_is_left_alone(#[case] default: &str, #[case] context: Value) {
    let after = context_after(defaults(&[default]), &context, &json!({}));
    assert_eq!(after, context);
}

#[rstest]
#[case::profile("SeccompProfile", json!({"seccompProfile": {"type": "Localhost"}}))]
#[case::flag("RunAsNonRoot", json!({"runAsNonRoot": false}))]
#[case::root_user("RunAsNonRoot", json!({"runAsUser": 0}))]
fn what_the_pod_says_is_left_alone(#[case] default: &str, #[case] pod_context: Value) {
    let rest = json!({"securityContext": pod_context});
    let after = context_after(defaults(&[default]), &Value::Null, &rest);
    assert_eq!(after, Value::Null);
}

#[test]
fn a_container_user_wins_over_a_root_pod() {
    let rest = json!({"securityContext": {"runAsUser": 0}});
    let after = context_after(defaults(ALL), &json!({"runAsUser": 1000}), &rest);
    assert_eq!(after.get("runAsNonRoot"), Some(&json!(true)));
}

#[test]
fn windows_pods_get_nothing_that_only_linux_has() {
    let rest = json!({"os": {"name": "windows"}});
    let after = context_after(defaults(ALL), &Value::Null, &rest);
    assert_eq!(after, json!({"runAsNonRoot": true}));
}

#[test]
fn injected_containers_are_left_alone() {
    let object = pod(json!({
        "initContainers": [{"name": "linkerd-init"}],
        "containers": [{"name": "istio-proxy"}, {"name": "api"}],
    }));
    let (_, patched) = mutate(&[defaults(&["RunAsNonRoot"])], &object, Scope::All);
    let expected = pod(json!({
        "initContainers": [{"name": "linkerd-init"}],
        "containers": [{"name": "istio-proxy"}, {"name": "api", "securityContext": {"runAsNonRoot": true}}],
    }));
    assert_eq!(patched, expected);
}

#[test]
fn defaults_of_several_policies_add_up() {
    let policies = [
        defaults(&["RunAsNonRoot"]),
        defaults(&["RunAsNonRoot", "SeccompProfile"]),
    ];
    let object = pod(json!({"containers": [{"name": "api"}]}));
    let (_, patched) = mutate(&policies, &object, Scope::All);
    assert_eq!(
        patched.pointer("/spec/containers/0/securityContext"),
        Some(&json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}))
    );
}

#[test]
fn a_second_call_with_another_policy_keeps_what_the_first_set() {
    let object = pod(json!({"containers": [{"name": "api"}]}));
    let json = object.to_string();
    let mut subject = Subject::from_json(&json, "agents").expect("object is readable");
    let mut patched = object;
    for policy in [defaults(&["SeccompProfile"]), defaults(&["DropCapabilities"])] {
        let governing = select([&policy], &subject, None, &Facts::default());
        let mutation = mutation::apply(&governing, &mut subject, Scope::All);
        json_patch::patch(&mut patched, &mutation.patch).expect("the patch applies");
    }
    assert_eq!(
        patched.pointer("/spec/containers/0/securityContext"),
        Some(&json!({"seccompProfile": {"type": "RuntimeDefault"}, "capabilities": {"drop": ["ALL"]}}))
    );
}

#[rstest]
#[case::pod("v1", "Pod", "/spec")]
#[case::pod_template("v1", "PodTemplate", "/template/spec")]
#[case::replication_controller("v1", "ReplicationController", "/spec/template/spec")]
#[case::deployment("apps/v1", "Deployment", "/spec/template/spec")]
#[case::replica_set("apps/v1", "ReplicaSet", "/spec/template/spec")]
#[case::stateful_set("apps/v1", "StatefulSet", "/spec/template/spec")]
#[case::daemon_set("apps/v1", "DaemonSet", "/spec/template/spec")]
#[case::job("batch/v1", "Job", "/spec/template/spec")]
#[case::cron_job("batch/v1", "CronJob", "/spec/jobTemplate/spec/template/spec")]
fn every_kind_and_every_container_is_reached(
    #[case] api_version: &str,
    #[case] kind: &str,
    #[case] spec_at: &str,
) {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let spec = json!({
        "initContainers": [{"name": "migrate"}, {"name": "proxy", "restartPolicy": "Always"}],
        "containers": [{"name": "api"}],
        "ephemeralContainers": [{"name": "debugger"}],
    });
    let mut object = spec_at
        .rsplit('/')
        .filter(|it| !it.is_empty())
        .fold(spec, |inner, field| json!({field: inner}));
    json_patch::merge(&mut object, &json!({"apiVersion": api_version, "kind": kind}));
    let (_, patched) = mutate(&[defaults(&["RunAsNonRoot"])], &object, Scope::All);
    let containers: Vec<&Value> = lists
        .iter()
        .filter_map(|list| patched.pointer(&format!("{spec_at}/{list}"))?.as_array())
        .flatten()
        .collect();
    assert_eq!(containers.len(), 4);
    for container in containers {
        assert_eq!(
            container.get("securityContext"),
            Some(&json!({"runAsNonRoot": true}))
        );
    }
}

#[test]
fn only_new_ephemeral_containers_may_be_changed() {
    let object = pod(json!({
        "initContainers": [{"name": "migrate"}], "containers": [{"name": "api"}],
        "ephemeralContainers": [{"name": "old"}, {"name": "new"}],
    }));
    let policies = [
        defaults(&["RunAsNonRoot"]),
        delivery(&json!([entry("key", "API_KEY")])),
    ];
    let (mutation, _) = mutate(&policies, &object, Scope::EphemeralFrom(1));
    assert_eq!(
        json!(mutation.patch),
        json!([{"op": "add", "path": "/spec/ephemeralContainers/1/securityContext", "value": {"runAsNonRoot": true}}])
    );
    let (mutation, _) = mutate(&policies, &object, Scope::EphemeralFrom(2));
    assert_eq!(mutation, Mutation::default());
}

fn delivery(entries: &Value) -> CompiledPolicy {
    random::policy("delivery", &json!({"secrets": {"entries": entries}}))
}

/// An entry that is delivered to the containers `api` and `migrate`, out of key `NAME` of Secret `magsag`.
fn entry(name: &str, env: &str) -> Value {
    json!({
        "name": name, "env": env, "secretRef": {"name": "magsag", "key": name},
        "delivery": {"mode": "Env", "containers": ["api", "migrate", "daprd"]},
    })
}

fn reference(env: &str, key: &str) -> Value {
    json!({"name": env, "valueFrom": {"secretKeyRef": {"name": "magsag", "key": key}}})
}

/// Mutation of a pod with one container, and its `env` afterwards.
fn deliver(entries: &Value, container: &Value) -> (Vec<String>, Value) {
    let object = pod(json!({"containers": [container]}));
    let (mutation, patched) = mutate(&[delivery(entries)], &object, Scope::All);
    let env = patched.pointer("/spec/containers/0/env");
    (mutation.warnings, env.cloned().unwrap_or_default())
}

#[rstest]
#[case::absent(json!({"name": "api"}))]
#[case::null(json!({"name": "api", "env": null}))]
#[case::empty(json!({"name": "api", "env": []}))]
fn variables_are_delivered_where_there_are_none(#[case] container: Value) {
    let entries = json!([entry("key", "API_KEY"), entry("token", "TOKEN")]);
    let (warnings, env) = deliver(&entries, &container);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        env,
        json!([reference("API_KEY", "key"), reference("TOKEN", "token")])
    );
}

#[test]
fn variables_are_appended_to_others() {
    let container = json!({"name": "api", "env": [{"name": "LOG", "value": "info"}]});
    let (_, env) = deliver(&json!([entry("key", "API_KEY")]), &container);
    assert_eq!(
        env,
        json!([{"name": "LOG", "value": "info"}, reference("API_KEY", "key")])
    );
}

#[test]
fn only_the_named_containers_are_reached_even_if_injected() {
    let object = pod(json!({
        "initContainers": [{"name": "migrate"}, {"name": "daprd", "restartPolicy": "Always"}],
        "containers": [{"name": "api"}, {"name": "other"}],
        "ephemeralContainers": [{"name": "api"}],
    }));
    let (mutation, _) = mutate(
        &[delivery(&json!([entry("key", "API_KEY")]))],
        &object,
        Scope::All,
    );
    let paths: Vec<String> = mutation.patch.iter().map(|it| it.path().to_string()).collect();
    let expected = [
        "/spec/initContainers/0/env",
        "/spec/initContainers/1/env",
        "/spec/containers/0/env",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn entries_reach_only_their_components() {
    let policy = random::policy(
        "components",
        &json!({
            "components": [
                {"name": "api", "role": "HttpService", "selector": {"matchLabels": {"app": "api"}}},
                {"name": "worker", "role": "Worker", "selector": {"matchLabels": {"app": "worker"}}},
            ],
            "secrets": {"entries": [{
                "name": "key", "env": "API_KEY", "components": ["api"], "secretRef": {"name": "magsag", "key": "key"},
                "delivery": {"mode": "Env", "containers": ["main"]},
            }]},
        }),
    );
    for (app, operations) in [("api", 1), ("worker", 0), ("stray", 0)] {
        let mut object = pod(json!({"containers": [{"name": "main"}]}));
        json_patch::merge(&mut object, &json!({"metadata": {"labels": {"app": app}}}));
        let (mutation, _) = mutate(std::slice::from_ref(&policy), &object, Scope::All);
        assert_eq!(mutation.patch.len(), operations, "{app}");
    }
}

#[rstest]
#[case::literal(json!({"env": [{"name": "API_KEY", "value": "own"}]}), "container api sets API_KEY itself")]
#[case::alias(json!({"env": [{"name": "KEY", "value": "own"}]}), "container api sets KEY itself")]
#[case::other_secret(
    json!({"env": [{"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "other", "key": "key"}}}]}),
    "container api sets API_KEY itself"
)]
#[case::whole_secret(json!({"envFrom": [{"secretRef": {"name": "any"}}]}), "envFrom of container api could set API_KEY")]
#[case::prefix_that_fits(
    json!({"envFrom": [{"prefix": "API_", "configMapRef": {"name": "any"}}]}),
    "envFrom of container api could set API_KEY"
)]
fn what_the_container_sets_is_left_alone(#[case] mut container: Value, #[case] cause: &str) {
    json_patch::merge(&mut container, &json!({"name": "api"}));
    let mut entry = entry("key", "API_KEY");
    json_patch::merge(&mut entry, &json!({"aliases": ["KEY"]}));
    let (warnings, env) = deliver(&json!([entry]), &container);
    assert_eq!(warnings, [format!("secret entry key is not delivered: {cause}")]);
    assert_eq!(env, container.get("env").cloned().unwrap_or_default());
}

#[rstest]
#[case::reference(json!({"env": [reference("API_KEY", "key")]}))]
#[case::beside_a_literal_alias(json!({"env": [{"name": "KEY", "value": "own"}, reference("API_KEY", "key")]}))]
#[case::beside_env_from(json!({"env": [reference("API_KEY", "key")], "envFrom": [{"secretRef": {"name": "any"}}]}))]
fn what_is_there_already_is_no_news(#[case] mut container: Value) {
    json_patch::merge(&mut container, &json!({"name": "api"}));
    let mut entry = entry("key", "API_KEY");
    json_patch::merge(&mut entry, &json!({"aliases": ["KEY"]}));
    let (warnings, env) = deliver(&json!([entry]), &container);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(env, container.get("env").cloned().unwrap_or_default());
}

#[test]
fn a_prefix_that_cannot_give_the_name_is_no_obstacle() {
    let container = json!({"name": "api", "envFrom": [{"prefix": "DB_", "secretRef": {"name": "any"}}]});
    let (warnings, env) = deliver(&json!([entry("key", "API_KEY")]), &container);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(env, json!([reference("API_KEY", "key")]));
}

#[test]
fn the_first_of_two_entries_for_a_variable_wins() {
    let (warnings, env) = deliver(
        &json!([entry("first", "API_KEY"), entry("second", "API_KEY")]),
        &json!({"name": "api"}),
    );
    assert_eq!(
        warnings,
        ["secret entry second is not delivered: container api gets API_KEY from entry first"]
    );
    assert_eq!(env, json!([reference("API_KEY", "first")]));
}

#[test]
fn the_first_of_two_policies_for_a_variable_wins() {
    let policies = [
        delivery(&json!([entry("first", "API_KEY")])),
        delivery(&json!([entry("first", "API_KEY")])),
        delivery(&json!([entry("second", "API_KEY")])),
    ];
    let object = pod(json!({"containers": [{"name": "api"}]}));
    let (mutation, patched) = mutate(&policies, &object, Scope::All);
    assert_eq!(
        patched.pointer("/spec/containers/0/env"),
        Some(&json!([reference("API_KEY", "first")]))
    );
    assert_eq!(
        mutation.warnings,
        ["secret entry second is not delivered: container api gets API_KEY from entry first"]
    );
}

proptest! {
    #![proptest_config(random::config())]

    #[test]
    fn a_second_time_changes_nothing(object in random::workload(), names in random::defaults()) {
        let policies = [random::full_policy("Restricted", &names)];
        let (first, patched) = mutate(&policies, &object, Scope::All);
        let (second, _) = mutate(&policies, &patched, Scope::All);
        prop_assert_eq!(json!(second.patch), json!([]), "{:#}", patched);
        prop_assert_eq!(second.warnings, first.warnings);
    }

    #[test]
    fn judged_as_if_mutated_is_judged_mutated(
        object in random::workload(), level in random::level(), names in random::defaults(),
    ) {
        let policy = random::full_policy(level, &names);
        let facts = Facts::default();

        let json = object.to_string();
        let mut as_if = Subject::from_json(&json, "agents").expect("object is readable");
        let governing = select([&policy], &as_if, None, &facts);
        mutation::apply(&governing, &mut as_if, Scope::All);

        let json = mutate(std::slice::from_ref(&policy), &object, Scope::All).1.to_string();
        let mutated = Subject::from_json(&json, "agents").expect("object is readable");
        prop_assert_eq!(
            evaluate(&governing, &as_if, &facts, Enforcement::Deny),
            evaluate(&governing, &mutated, &facts, Enforcement::Deny)
        );
    }

    #[test]
    fn a_default_never_breaks_a_rule_of_its_own(object in random::workload(), level in random::level()) {
        let rules = |names: &[&str]| {
            let policy = random::full_policy(level, names);
            let json = object.to_string();
            let mut subject = Subject::from_json(&json, "agents").expect("object is readable");
            let governing = select([&policy], &subject, None, &Facts::default());
            mutation::apply(&governing, &mut subject, Scope::All);
            evaluate(&governing, &subject, &Facts::default(), Enforcement::Deny).violations
        };
        let before = rules(&[]);
        for violation in rules(ALL) {
            prop_assert!(before.contains(&violation), "{violation:?}");
        }
    }
}

#[test]
fn a_policy_that_only_watches_changes_nothing() {
    let sections = json!({"enforcement": "Audit", "podSecurity": {"level": "Restricted", "defaults": ALL}});
    let watching = || random::policy("watching", &sections);
    let object = pod(json!({"containers": [{"name": "api"}]}));
    let alone = mutate(&[watching()], &object, Scope::All);
    assert_eq!(alone.0, Mutation::default());
    // What another policy sets stays.
    let beside = mutate(&[watching(), defaults(&["RunAsNonRoot"])], &object, Scope::All);
    assert_eq!(
        beside,
        mutate(&[defaults(&["RunAsNonRoot"])], &object, Scope::All)
    );
}
