//! Objects whose parts multiply: each case would take minutes, were the work not bounded, and none is admitted for it.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "these tests write their objects themselves")]
mod random;

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_api::{Enforcement, RuleId};
use portcullis_engine::{ConfigMapFact, Decision, Fact, Facts, Subject, Verdict, evaluate, select};
use serde_json::{Value, json};

/// Facts with the ConfigMaps `large`, with 20,000 variables, and `long`, with one text of 64 KiB.
fn facts() -> Facts {
    let data = (0..20_000).map(|it| (format!("SETTING_{it}"), "text".to_owned()));
    let large = ConfigMapFact { data: data.collect() };
    let data = [("NOTE".to_owned(), "some text ".repeat(6500))].into();
    let long = ConfigMapFact { data };
    let mut facts = Facts::default();
    for (name, map) in [("large", large), ("long", long)] {
        facts.config_maps.insert(name.into(), Fact::Known(Arc::new(map)));
    }
    facts
}

/// Judges a Pod with these containers by the rules that read variables.
fn judge(containers: &[Value]) -> Verdict {
    judge_annotated("", containers)
}

/// As [`judge`], with the annotation `note`.
fn judge_annotated(note: &str, containers: &[Value]) -> Verdict {
    let policy = random::policy(
        "test",
        &json!({
            "http": {"cors": {"allowedOrigins": ["https://app.example.com"]}},
            "secrets": {},
        }),
    );
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers},
        "metadata": {"name": "api", "namespace": "agents", "annotations": {"note": note}},
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

fn count(verdict: &Verdict, rule: RuleId) -> usize {
    verdict.violations.iter().filter(|it| it.rule == rule).count()
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

/// Variables of these names, each with the whole annotation `note`.
fn of_annotation(names: impl Iterator<Item = String>) -> Value {
    let source = json!({"fieldRef": {"fieldPath": "metadata.annotations['note']"}});
    names
        .map(|name| json!({"name": name, "valueFrom": source}))
        .collect()
}

/// 65,000 distinct texts that are no origins, with a wildcard each.
fn many_origins() -> String {
    let digit = |it: u32| char::from_digit(it % 36, 36).expect("digit is below 36");
    let origins = (0..65_000).map(|it| format!("{}{}{}*,", digit(it / 36 / 36), digit(it / 36), digit(it)));
    origins.collect()
}

/// Were each origin of each variable kept, these would be 13,000,000.
#[test]
fn many_origins_behind_many_variables_are_counted_and_not_kept() {
    let env = of_annotation((0..100).map(|it| format!("CORS_ORIGINS_{it}")));
    let verdict = judge_annotated(&many_origins(), &[json!({"name": "api", "env": env})]);
    assert_eq!(count(&verdict, RuleId::HttpCorsWildcard), 100);
    let kept: usize = verdict.violations.iter().map(|it| it.about.len()).sum();
    assert!(kept < 100 * 40, "{kept}");
}

#[test]
fn one_more_origin_among_too_many_to_be_kept_is_another_violation() {
    let env = of_annotation(["CORS_ORIGINS".to_owned()].into_iter());
    let containers = [json!({"name": "api", "env": env})];
    let before = judge_annotated(&many_origins(), &containers);
    let after = |note: &str| {
        let mut verdict = judge_annotated(note, &containers);
        verdict.ratchet(&before);
        verdict.decision()
    };
    assert_eq!(after(&many_origins()), Decision::Warn);
    assert_eq!(after(&format!("{}*", many_origins())), Decision::Deny);
}

/// Were all of it looked through, these would be 8 GB.
#[test]
fn one_long_annotation_behind_many_variables_is_read_a_few_times() {
    let env = of_annotation((0..30_000).map(|it| format!("A{it}")));
    let note = "some text ".repeat(26_000);
    let verdict = judge_annotated(&note, &[json!({"name": "api", "env": env})]);
    assert_eq!(rules(&verdict), ["secret/literal"].into());
    assert!(verdict.violations.len() > 29_900, "{}", verdict.violations.len());
}

/// Were all of it looked through, these would be 3 GB.
#[test]
fn one_long_text_of_a_config_map_behind_many_variables_is_read_a_few_times() {
    let source = json!({"configMapKeyRef": {"name": "long", "key": "NOTE"}});
    let variable = |it| json!({"name": format!("A{it}"), "valueFrom": source});
    let env: Vec<Value> = (0..45_000).map(variable).collect();
    let verdict = judge(&[json!({"name": "api", "env": env})]);
    assert_eq!(rules(&verdict), ["secret/literal"].into());
    assert!(verdict.violations.len() > 44_800, "{}", verdict.violations.len());
}

/// Were each part compiled, this would take minutes.
#[test]
fn many_patterns_behind_many_variables_are_not_tried() {
    let env = of_annotation((0..100).map(|it| format!("CORS_ORIGIN_REGEX_{it}")));
    let verdict = judge_annotated(&many_origins(), &[json!({"name": "api", "env": env})]);
    assert_eq!(count(&verdict, RuleId::HttpCorsWildcard), 100);
}
