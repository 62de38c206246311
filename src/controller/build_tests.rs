//! What is generated, as YAML snapshots.

use portcullis_api::SecurityPolicy;
use serde_json::{Value, json};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::*;
use crate::controller::peers::both;

/// A policy `agents/magsag` with an API and a database, and this network section.
fn policy(workloads: Value, network: Value) -> CompiledPolicy {
    let policy: SecurityPolicy = serde_json::from_value(json!({
        "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy",
        "metadata": {"name": "magsag", "namespace": "agents"},
        "spec": {
            "rulesVersion": "v1", "environment": "Production", "enforcement": "Deny",
            "workloads": workloads,
            "components": [
                {"name": "api", "role": "HttpService", "selector": {"matchLabels": {"app": "api"}}},
                {"name": "redis", "role": "Redis", "selector": {"matchExpressions": [
                    {"key": "app", "operator": "In", "values": ["redis", "valkey"]}
                ]}},
            ],
            "network": network,
        },
    }))
    .expect("policy has the shape of its type");
    CompiledPolicy::try_from(&policy).expect("policy is valid")
}

fn selected() -> Value {
    json!({"scope": "Selected", "selector": {"matchLabels": {"part-of": "magsag"}}})
}

/// Each object with its summary, as YAML.
fn render(policy: &CompiledPolicy) -> String {
    let desired = build(policy, &["ingress-nginx".into()]);
    let one = |it: &Planned| {
        let mut yaml = String::new();
        serde_saphyr::to_fmt_writer(&mut yaml, &it.object).expect("an object is YAML");
        format!("# {}\n{yaml}", it.summary)
    };
    let all: Vec<String> = desired.network_policies.values().map(one).collect();
    all.join("---\n")
}

#[test]
fn a_flow_between_components_opens_the_egress_of_one_and_the_ingress_of_the_other() {
    let network =
        json!({"flows": [{"from": {"component": "api"}, "to": {"component": "redis"}, "ports": [6379]}]});
    insta::assert_snapshot!(render(&policy(selected(), network)));
}

#[test]
fn without_flows_all_pods_of_the_namespace_reach_dns_alone() {
    insta::assert_snapshot!(render(&policy(json!({"scope": "Namespace"}), json!({}))));
}

#[test]
fn presets_open_what_their_names_say() {
    let network = json!({"flows": [
        {"from": {"preset": "IngressController"}, "to": {"component": "api"}, "ports": ["http"]},
        {"from": {"component": "api"}, "to": {"preset": "PublicHttps"}},
        {"from": {"component": "api"}, "to": {"preset": "Dns"}},
        {"from": {"preset": "PolicyWorkloads"}, "to": {"preset": "PolicyWorkloads"}, "ports": ["7000-7010/UDP"]},
    ]});
    insta::assert_snapshot!(render(&policy(selected(), network)));
}

#[test]
fn peers_outside_the_namespace_open_one_side() {
    let monitoring = json!({"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}});
    let network = json!({"flows": [
        {"from": {"namespaceSelector": monitoring, "podSelector": {"matchLabels": {"app": "prometheus"}}},
         "to": {"component": "api"}, "ports": [9090]},
        {"from": {"namespaceSelector": monitoring, "pods": "All"}, "to": {"component": "redis"}, "ports": ["9121/TCP"]},
        {"from": {"component": "api"}, "to": {"cidr": "203.0.113.9/24", "except": ["203.0.113.7/32"]}, "ports": [5432]},
    ]});
    insta::assert_snapshot!(render(&policy(selected(), network)));
}

#[test]
fn a_hole_as_large_as_its_range_opens_nothing() {
    let network = json!({"flows": [
        {"from": {"component": "api"}, "to": {"cidr": "203.0.113.0/24", "except": ["203.0.113.0/24"]}, "ports": [443]},
    ]});
    let desired = build(&policy(selected(), network), &[]);
    let names: Vec<&String> = desired.network_policies.keys().collect();
    assert_eq!(names, ["portcullis-magsag-default-deny", "portcullis-magsag-dns"]);
}

#[test]
fn no_rule_is_ever_without_peers() {
    let network = json!({"flows": [
        {"from": {"preset": "IngressController"}, "to": {"component": "api"}, "ports": [8000]},
    ]});
    let desired = build(&policy(selected(), network), &[]);
    assert!(
        !desired
            .network_policies
            .contains_key("portcullis-magsag-ingress.api"),
        "no namespace of an ingress controller is known: a rule would let in everybody"
    );
}

#[test]
fn labels_that_contradict_each_other_match_nothing_and_not_one_of_them() {
    let labels = |value: &str| LabelSelector {
        match_labels: Some([("app".to_owned(), value.to_owned())].into()),
        ..LabelSelector::default()
    };
    let merged = both(labels("api"), labels("redis"));
    assert_eq!(merged.match_labels, labels("api").match_labels);
    assert_eq!(
        merged.match_expressions,
        Some(vec![peers::in_list("app", ["redis".to_owned()])])
    );
}

#[test]
fn a_dry_run_is_built_like_the_real_thing() {
    let flows = json!([{"from": {"component": "api"}, "to": {"component": "redis"}, "ports": [6379]}]);
    let real = build(&policy(selected(), json!({"flows": flows})), &[]);
    let dry = build(
        &policy(selected(), json!({"flows": flows, "mode": "DryRun"})),
        &[],
    );
    assert!(dry.dry_run && !real.dry_run);
    assert_eq!(dry.network_policies, real.network_policies);
}
