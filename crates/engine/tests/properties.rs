//! What holds for every object: nothing panics, the order of containers does not matter, and each path leads somewhere.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod random;

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_api::Enforcement;
use portcullis_engine::mutation::{self, Mutation, Scope};
use portcullis_engine::path::Segment;
use portcullis_engine::{
    CompiledPolicy, ConfigMapFact, Fact, FactKey, Facts, KeyFact, PodsBehind, SecretFact, Subject, Verdict,
    evaluate, references, render, select,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use serde_json::{Map, Value, json};

/// Everything that the webhook does with one object, but for the network.
fn judge(policy: &CompiledPolicy, object: &Value, looked_up: bool) -> Option<(Verdict, Mutation)> {
    let json = object.to_string();
    let mut subject = Subject::from_json(&json, "agents").ok()?;
    let mut facts = Facts::default();
    let governing = select([policy], &subject, None, &facts);
    let mutation = mutation::apply(&governing, &mut subject, Scope::All);
    if looked_up {
        facts = facts_of(&subject);
    }
    let verdict = evaluate(&governing, &subject, &facts, Enforcement::Deny);
    assert!(render::denial(&subject, &governing, &verdict).starts_with(&subject.to_string()));
    assert!(!render::our_error(&subject, &verdict).is_empty());
    for warning in render::warnings(&governing, &verdict) {
        assert!(warning.chars().count() <= 120, "{warning}");
    }
    Some((verdict, mutation))
}

/// `magsag` is there with two keys, one of them empty; all else was looked up and is absent.
fn facts_of(subject: &Subject<'_>) -> Facts {
    let mut facts = Facts {
        pods_behind: Some(Fact::Known(PodsBehind {
            labels: vec![[("app".to_owned(), "api".to_owned())].into()],
            awaited: None,
        })),
        ..Facts::default()
    };
    for key in references(subject) {
        match key {
            FactKey::Secret(name) => drop(facts.secrets.insert(name, Fact::Absent)),
            FactKey::ConfigMap(name) => drop(facts.config_maps.insert(name, Fact::Absent)),
        }
    }
    let key = |name: &str, empty| (name.to_owned(), KeyFact { empty });
    let secret = SecretFact {
        keys: [key("api-key", false), key("cors", true)].into(),
    };
    let data = [
        ("cors".to_owned(), "['*']".to_owned()),
        ("CORS_ORIGINS".to_owned(), "*".to_owned()),
    ];
    let config_map = ConfigMapFact { data: data.into() };
    facts
        .secrets
        .insert("magsag".into(), Fact::Known(Arc::new(secret)));
    facts
        .config_maps
        .insert("magsag".into(), Fact::Known(Arc::new(config_map)));
    facts
}

/// Any object of the kinds that rules know, each field in the shape that Kubernetes gives it, `null` or absent.
fn object() -> impl Strategy<Value = Value> {
    prop_oneof![8 => random::workload(), 1 => ingress()]
}

fn ingress() -> impl Strategy<Value = Value> {
    let annotations = [
        "enable-cors",
        "cors-allow-origin",
        "cors-allow-credentials",
        "configuration-snippet",
    ];
    let annotation =
        (prop::sample::select(annotations.to_vec()), random::text()).prop_map(|(name, value)| {
            (
                format!("nginx.ingress.kubernetes.io/{name}"),
                Value::String(value),
            )
        });
    vec(annotation, 0..4).prop_map(|annotations| {
        let annotations: Map<String, Value> = annotations.into_iter().collect();
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "api", "namespace": "agents", "annotations": annotations}, "spec": {},
        })
    })
}

/// Anything that is JSON, with field names that the view reads.
fn junk() -> impl Strategy<Value = Value> {
    let names = [
        "spec",
        "template",
        "jobTemplate",
        "metadata",
        "labels",
        "annotations",
        "ownerReferences",
        "containers",
        "initContainers",
        "ephemeralContainers",
        "securityContext",
        "capabilities",
        "seccompProfile",
        "env",
        "envFrom",
        "valueFrom",
        "secretKeyRef",
        "volumes",
        "projected",
        "sources",
        "name",
        "type",
        "drop",
        "value",
        "os",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        random::text().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let field = (prop::sample::select(names.to_vec()), inner.clone());
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            vec(field, 0..6).prop_map(|fields| {
                let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
                Value::Object(fields.collect::<Map<_, _>>())
            }),
        ]
    })
}

/// A well-formed object in which up to three places hold something else.
fn damaged() -> impl Strategy<Value = Value> {
    (object(), vec((any::<Index>(), junk()), 0..4)).prop_map(|(mut object, strokes)| {
        for (place, value) in strokes {
            let mut pointers = Vec::new();
            collect_pointers(&object, String::new(), &mut pointers);
            let pointer = place.get(&pointers);
            *object.pointer_mut(pointer).expect("collected from this object") = value;
        }
        object
    })
}

fn collect_pointers(value: &Value, pointer: String, all: &mut Vec<String>) {
    let escape = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                collect_pointers(value, format!("{pointer}/{}", escape(name)), all);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                collect_pointers(value, format!("{pointer}/{index}"), all);
            }
        }
        _ => {}
    }
    all.push(pointer);
}

/// What a verdict says, without an order. An unknown is one finding for each fact, wherever it is met first.
fn findings(verdict: &Verdict) -> BTreeSet<(&'static str, String)> {
    let violations = verdict
        .violations
        .iter()
        .map(|it| (it.rule.as_str(), it.path.display()));
    let unknowns = verdict
        .unknowns
        .iter()
        .map(|it| (it.rule.as_str(), format!("{:?}", it.fact)));
    violations.chain(unknowns).collect()
}

/// Whether the path leads to something in the object, or to a field that nothing is said about: items must be there,
/// under the name that the path gives them.
fn resolves(object: &Value, path: &[Segment]) -> bool {
    let mut current = object;
    for segment in path {
        let next = match segment {
            Segment::Field(name) => current.get(name.as_ref()),
            Segment::Key(key) => current.get(key),
            Segment::Item { index, name } => {
                let item = current.get(index);
                if item.is_none_or(|it| name.is_some() && it["name"].as_str() != name.as_deref()) {
                    return false;
                }
                item
            }
        };
        match next {
            Some(value) => current = value,
            None if current.is_object() || current.is_null() => current = &Value::Null,
            None => return false,
        }
    }
    true
}

fn shuffled(object: Value) -> impl Strategy<Value = (Value, Value)> {
    let mut pointers = Vec::new();
    collect_pointers(&object, String::new(), &mut pointers);
    let lists: Vec<(String, Vec<Value>)> = pointers
        .into_iter()
        .filter(|it| it.ends_with("ontainers"))
        .filter_map(|it| Some((it.clone(), object.pointer(&it)?.as_array()?.clone())))
        .collect();
    let orders: Vec<_> = lists
        .iter()
        .map(|(_, list)| Just(list.clone()).prop_shuffle())
        .collect();
    orders.prop_map(move |orders| {
        let mut other = object.clone();
        for ((pointer, _), order) in lists.iter().zip(orders) {
            *other.pointer_mut(pointer).expect("collected from this object") = Value::from(order);
        }
        (object.clone(), other)
    })
}

proptest! {
    #![proptest_config(random::config())]

    #[test]
    fn nothing_panics(
        object in prop_oneof![6 => damaged(), 1 => junk()],
        level in random::level(), defaults in random::defaults(), looked_up: bool,
    ) {
        judge(&random::full_policy(level, &defaults), &object, looked_up);
    }

    #[test]
    fn well_formed_objects_are_read(object in object()) {
        prop_assert!(Subject::from_json(&object.to_string(), "agents").is_ok());
    }

    #[test]
    fn the_order_of_containers_does_not_matter(
        (one, other) in random::workload().prop_flat_map(shuffled),
        level in random::level(), defaults in random::defaults(), looked_up: bool,
    ) {
        let policy = random::full_policy(level, &defaults);
        let (one, _) = judge(&policy, &one, looked_up).expect("object is readable");
        let (other, _) = judge(&policy, &other, looked_up).expect("object is readable");
        prop_assert_eq!(findings(&one), findings(&other));
    }

    #[test]
    fn every_path_leads_somewhere(
        object in object(),
        level in random::level(), defaults in random::defaults(), looked_up: bool,
    ) {
        let policy = random::full_policy(level, &defaults);
        let (verdict, mutation) = judge(&policy, &object, looked_up).expect("object is readable");
        let mut patched = object;
        json_patch::patch(&mut patched, &mutation.patch).expect("the patch applies");
        let paths = verdict.violations.iter().map(|it| &it.path);
        for path in paths.chain(verdict.unknowns.iter().map(|it| &it.path)) {
            prop_assert!(resolves(&patched, path.segments()), "{} in {patched:#}", path.indexed());
        }
    }
}

/// The properties above would hold of objects without violations too.
#[test]
fn random_objects_break_every_rule_of_pods() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    // At Restricted some rules take the place of others.
    let policies = ["Baseline", "Restricted"].map(|level| random::full_policy(level, &[]));
    let mut broken = BTreeSet::new();
    for policy in policies.iter().cycle().take(512) {
        let object = object()
            .new_tree(&mut runner)
            .expect("object is generated")
            .current();
        if let Some((verdict, _)) = judge(policy, &object, true) {
            broken.extend(verdict.violations.iter().map(|it| it.rule.as_str()));
        }
    }
    let of_pods: Vec<_> = portcullis_api::RuleId::ALL
        .iter()
        .map(|it| it.as_str())
        .filter(|it| it.starts_with("pod/") && !broken.contains(it))
        .collect();
    assert_eq!(of_pods, Vec::<&str>::new(), "never broken by a random object");
}

#[test]
fn a_path_to_an_item_that_is_not_there_does_not_resolve() {
    let object = json!({"spec": {"containers": [{"name": "api"}]}});
    let path = |index, name: &str| {
        portcullis_engine::path::FieldPath::root()
            .fields(&["spec", "containers"])
            .item(index, Some(name))
            .field("securityContext")
    };
    assert!(resolves(&object, path(0, "api").segments()));
    assert!(!resolves(&object, path(0, "other").segments()));
    assert!(!resolves(&object, path(1, "api").segments()));
}
