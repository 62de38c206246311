//! Objects whose parts multiply: each case would take minutes, were the work not bounded, and none is admitted for it.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "these tests write their objects themselves")]
mod random;

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_api::Enforcement;
use portcullis_engine::{ConfigMapFact, Decision, Fact, Facts, Subject, Verdict, evaluate, select};
use serde_json::{Value, json};

/// Facts with the ConfigMaps `large`, with 20,000 variables, and `empty`.
fn facts() -> Facts {
    let data = (0..20_000).map(|it| (format!("SETTING_{it}"), "text".to_owned()));
    let map = ConfigMapFact { data: data.collect() };
    let mut facts = Facts::default();
    facts
        .config_maps
        .insert("large".into(), Fact::Known(Arc::new(map)));
    facts
}

/// Judges a Pod with these containers by the rules that read variables.
fn judge(containers: &[Value]) -> Verdict {
    let policy = random::policy(
        "test",
        &json!({
            "http": {"cors": {"allowedOrigins": ["https://app.example.com"]}},
            "secrets": {},
        }),
    );
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api", "namespace": "agents"},
        "spec": {"containers": containers},
    });
    let json = pod.to_string();
    let subject = Subject::from_json(&json, "agents").expect("object is readable");
    let facts = facts();
    let governing = select([&policy], &subject, None, &facts);
    evaluate(&governing, &subject, &facts, Enforcement::Deny)
}

fn rules(verdict: &Verdict) -> BTreeSet<&'static str> {
    verdict.violations.iter().map(|it| it.rule.as_str()).collect()
}

#[test]
fn one_large_source_many_times_is_judged_once() {
    let source = json!({"configMapRef": {"name": "large"}});
    let env = [json!({"name": "CORS_ORIGINS", "value": "$(SETTING_1),https://app.example.com"})];
    let verdict = judge(&[json!({"name": "api", "env": env, "envFrom": vec![source; 80_000]})]);
    assert_eq!(rules(&verdict), ["http/cors-explicit"].into());
    assert_eq!(verdict.violations.len(), 1);
}

#[test]
fn one_large_source_under_many_prefixes_is_refused() {
    let source = |it| json!({"prefix": format!("P{it}_"), "configMapRef": {"name": "large"}});
    let sources: Vec<Value> = (0..80_000).map(source).collect();
    let verdict = judge(&[json!({"name": "api", "envFrom": sources})]);
    assert_eq!(verdict.decision(), Decision::Deny);
    assert_eq!(rules(&verdict), ["http/cors-wildcard", "secret/literal"].into());
}

#[test]
fn one_large_source_in_many_containers_is_refused() {
    let source = json!({"configMapRef": {"name": "large"}});
    let container = |it| json!({"name": format!("c{it}"), "envFrom": [source]});
    let containers: Vec<Value> = (0..20_000).map(container).collect();
    let verdict = judge(&containers);
    assert_eq!(verdict.decision(), Decision::Deny);
    assert_eq!(rules(&verdict), ["http/cors-wildcard", "secret/literal"].into());
}

#[test]
fn undefined_references_beside_many_unknown_sources_are_looked_up_by_prefix() {
    let source = |it| json!({"prefix": format!("P{it}_"), "configMapRef": {"name": "unknown"}});
    let sources: Vec<Value> = (0..40_000).map(source).collect();
    let variable = |it| json!({"name": format!("V{it}"), "value": format!("$(P{it}_X)")});
    let env: Vec<Value> = (0..40_000).map(variable).collect();
    let verdict = judge(&[json!({"name": "api", "env": env, "envFrom": sources})]);
    assert_eq!(verdict.decision(), Decision::Error);
}

#[test]
fn undefined_references_beside_many_known_sources_are_bounded() {
    let source = |it| json!({"prefix": format!("P{it}_"), "configMapRef": {"name": "empty"}});
    let sources: Vec<Value> = (0..40_000).map(source).collect();
    let variable = |it| json!({"name": format!("CORS_ORIGINS_{it}"), "value": "$(UNDEFINED)"});
    let env: Vec<Value> = (0..40_000).map(variable).collect();
    let verdict = judge(&[json!({"name": "api", "env": env, "envFrom": sources})]);
    assert_eq!(verdict.decision(), Decision::Deny);
}
