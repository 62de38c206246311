//! What people read stays short and in its lines, whatever the object holds.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "these tests write their objects themselves")]
mod random;

use portcullis_api::Enforcement;
use portcullis_engine::{Facts, Subject, evaluate, render, select};
use serde_json::{Value, json};

/// The denial of a Pod with these containers and how many places it lists.
fn denial(policy: &Value, containers: &Value) -> (String, usize) {
    let policy = random::policy("test", policy);
    let json = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api", "namespace": "agents"},
        "spec": {"containers": containers},
    })
    .to_string();
    let subject = Subject::from_json(&json, "agents").expect("object is readable");
    let governing = select([&policy], &subject, None, &Facts::default());
    let verdict = evaluate(&governing, &subject, &Facts::default(), Enforcement::Deny);
    let text = render::denial(&subject, &governing, &verdict);
    (text, render::listed(&verdict).count())
}

#[test]
fn a_denial_lists_fifty_places_and_counts_the_rest() {
    let containers: Vec<Value> = (0..1000)
        .map(|index| json!({"name": format!("c{index}"), "securityContext": {"privileged": true}}))
        .collect();
    let (text, listed) = denial(&json!({"podSecurity": {"level": "Baseline"}}), &json!(containers));
    assert_eq!(listed, 50);
    assert_eq!(text.matches("[pod/privileged]").count(), 50);
    assert!(text.contains(" in 1000 places: "), "{text}");
    assert!(text.contains("\n  and 950 more\n  help: "), "{text}");
}

#[test]
fn a_denial_of_fifty_long_places_stays_below_64_kib() {
    let add: Vec<String> = (0..300)
        .map(|index| format!("{index}-🦀{}", "🦀".repeat(300)))
        .collect();
    let containers: Vec<Value> = (0..60)
        .map(|index| {
            let name = format!("{index}{}", "é".repeat(1000));
            json!({"name": name, "securityContext": {"capabilities": {"add": add}}})
        })
        .collect();
    let (text, listed) = denial(&json!({"podSecurity": {"level": "Baseline"}}), &json!(containers));
    assert!(text.len() < 64 * 1024, "{}", text.len());
    assert!((1..50).contains(&listed), "{listed}");
    assert!(text.contains(&format!("\n  and {} more\n", 60 - listed)));
}

#[test]
fn an_object_writes_no_lines_and_no_colours_into_a_denial() {
    let forged = "X\n  [pod/privileged] spec.forged\n\u{1b}[31mred\u{202e}";
    let containers = json!([{"name": forged, "securityContext": {"capabilities": {"add": [forged]}}}]);
    let (text, _) = denial(&json!({"podSecurity": {"level": "Baseline"}}), &containers);
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    insta::assert_snapshot!(text);
}
