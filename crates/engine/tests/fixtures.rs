//! Every rule against its fixtures: `fixtures/<rule id>/{pass,fail}/*.yaml`, each a policy, facts and one object, as
//! small as it goes. A `fail` case must be reported by its very rule; the whole text that kubectl would show is kept
//! as a snapshot. The same files are meant for the rules' native twins.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "fixtures are files; only the crate itself reads none"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_api::{Enforcement, RuleId, SecurityPolicy, Severity};
use portcullis_engine::mutation::{self, Scope};
use portcullis_engine::path::{FieldPath, Segment};
use portcullis_engine::{
    CompiledPolicy, ConfigMapFact, Decision, Fact, FactKey, Facts, Governing, KeyFact, PodsBehind,
    SecretFact, Subject, Verdict, evaluate, render, rules, select,
};
use rstest::rstest;
use serde::Deserialize;
use serde_json::{Value, json};

/// One case. `policy` is the spec of a policy `agents/test`, whose `rulesVersion`, `environment`, `enforcement` and
/// `workloads` default to `v1`, `Production`, `Deny` and the whole namespace.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fixture {
    policy: Value,
    object: Value,
    /// Secrets that exist, each with its keys and whether the key has a value; all others are absent.
    #[serde(default)]
    secrets: BTreeMap<String, BTreeMap<String, bool>>,
    /// ConfigMaps that exist, with their data; all others are absent.
    #[serde(default)]
    config_maps: BTreeMap<String, BTreeMap<String, String>>,
    /// Labels of the pods behind an Ingress.
    pods_behind: Option<Vec<BTreeMap<String, String>>>,
    /// Why pods behind an Ingress are still to come.
    pods_awaited: Option<String>,
    /// Nothing was looked up: every fact is unknown.
    #[serde(default)]
    facts_unknown: bool,
    /// The objects that would be looked up live before the verdict is given, such as `ConfigMap settings`, sorted.
    deciding_facts: Option<Vec<String>>,
}

impl Fixture {
    /// The policy. Rules that only ever warn are left out of it, but for the one that is tried.
    fn policy(&self, tried: RuleId) -> CompiledPolicy {
        let mut spec = json!({
            "rulesVersion": "v1", "environment": "Production", "enforcement": "Deny",
            "workloads": {"scope": "Namespace"},
        });
        for (field, value) in self.policy.as_object().expect("policy is a map") {
            spec[field] = value.clone();
        }
        let milder = rules::all().filter(|it| it.severities.production < Severity::Deny && it.id != tried);
        let milder = milder.map(|it| json!({"id": it.id, "enforcement": "Disabled"}));
        let stated = spec["rules"].as_array().cloned().unwrap_or_default();
        spec["rules"] = stated.into_iter().chain(milder).collect();
        let policy: SecurityPolicy = serde_json::from_value(json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy",
            "metadata": {"name": "test", "namespace": "agents"}, "spec": spec,
        }))
        .expect("policy has the shape of its type");
        CompiledPolicy::try_from(&policy).expect("policy is valid")
    }

    fn pods_behind(&self) -> Option<Fact<PodsBehind>> {
        let is_known = self.pods_behind.is_some() || self.pods_awaited.is_some();
        is_known.then(|| {
            Fact::Known(PodsBehind {
                labels: self.pods_behind.clone().unwrap_or_default(),
                awaited: self.pods_awaited.as_deref().map(Into::into),
            })
        })
    }

    fn facts(&self, subject: &Subject<'_>) -> Facts {
        let mut facts = Facts {
            pods_behind: self.pods_behind(),
            ..Facts::default()
        };
        if self.facts_unknown {
            return facts;
        }
        for key in portcullis_engine::references(subject) {
            match key {
                FactKey::Secret(name) => facts.secrets.insert(name, Fact::Absent).map(drop),
                FactKey::ConfigMap(name) => facts.config_maps.insert(name, Fact::Absent).map(drop),
            };
        }
        for (name, keys) in &self.secrets {
            let keys = keys
                .iter()
                .map(|(key, filled)| (key.clone(), KeyFact { empty: !filled }))
                .collect();
            facts
                .secrets
                .insert(name.clone(), Fact::Known(Arc::new(SecretFact { keys })));
        }
        for (name, data) in &self.config_maps {
            facts.config_maps.insert(
                name.clone(),
                Fact::Known(Arc::new(ConfigMapFact { data: data.clone() })),
            );
        }
        facts
    }
}

#[rstest]
fn fixture(#[files("fixtures/**/*.yaml")] path: PathBuf) {
    let text = std::fs::read_to_string(&path).expect("fixture is readable");
    let fixture: Fixture =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (rule, expected, name) = parts(&path);

    let policy = fixture.policy(rule);
    let json = fixture.object.to_string();
    let mut subject = Subject::from_json(&json, "agents").expect("object is readable");
    let facts = fixture.facts(&subject);
    let governing = select([&policy], &subject, None, &facts);
    assert!(!governing.is_empty(), "the policy selects the object");
    mutation::apply(&governing, &mut subject, Scope::All);
    let verdict = evaluate(&governing, &subject, &facts, Enforcement::Deny);

    let reported = verdict.violations.iter().any(|it| it.rule == rule)
        || verdict.unknowns.iter().any(|it| it.rule == rule);
    assert_eq!(
        reported,
        expected == "fail",
        "{rule} on {}: {verdict:#?}",
        path.display()
    );
    for violation in &verdict.violations {
        assert!(
            resolves(&fixture.object, &violation.path),
            "{} does not resolve",
            violation.path.indexed()
        );
    }
    if let Some(expected) = &fixture.deciding_facts {
        let named = |it: &FactKey| match it {
            FactKey::Secret(name) => format!("Secret {name}"),
            FactKey::ConfigMap(name) => format!("ConfigMap {name}"),
        };
        let deciding: BTreeSet<String> = verdict.deciding_facts().iter().map(named).collect();
        assert_eq!(&Vec::from_iter(deciding), expected, "{}", path.display());
    }
    if expected == "fail" {
        insta::assert_snapshot!(
            format!("{}__{name}", rule.as_str().replace('/', "__")),
            shown(&subject, &governing, &verdict)
        );
    }
}

/// All that kubectl would print.
fn shown(subject: &Subject<'_>, governing: &[Governing<'_>], verdict: &Verdict) -> String {
    let refusal = match verdict.decision() {
        Decision::Deny => render::denial(subject, governing, verdict),
        Decision::Error => render::our_error(subject, verdict),
        Decision::Warn | Decision::Allow => "admitted".to_owned(),
    };
    format!(
        "{refusal}\n---\n{}",
        render::warnings(governing, verdict).join("\n")
    )
}

/// Rule id, `pass` or `fail`, and name of the case, from its path.
fn parts(path: &Path) -> (RuleId, String, String) {
    let parts: Vec<String> = path.iter().map(|it| it.to_string_lossy().into_owned()).collect();
    let [.., family, rule, expected, file] = parts.as_slice() else {
        panic!("{}: unexpected place", path.display())
    };
    let rule = format!("{family}/{rule}")
        .parse()
        .expect("folder is named after a rule");
    (rule, expected.clone(), file.trim_end_matches(".yaml").to_owned())
}

/// Whether the path leads to something in the object, or to a field that could be set on something in it.
fn resolves(object: &Value, path: &FieldPath) -> bool {
    let mut current = object;
    for step in path.segments() {
        let next = match step {
            Segment::Field(name) => current.get(name.as_ref()),
            Segment::Item { index, .. } => current.get(index),
            Segment::Key(key) => current.get(key),
        };
        match next {
            Some(value) => current = value,
            // An unset field of something that is there, and what would lie below it.
            None => {
                let is_field = !matches!(step, Segment::Item { .. });
                return (current.is_object() || current.is_null()) && is_field;
            }
        }
    }
    true
}

#[test]
fn every_rule_has_fixtures_that_pass_and_fail() {
    for rule in rules::all() {
        for expected in ["pass", "fail"] {
            let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("fixtures")
                .join(rule.id.as_str())
                .join(expected);
            let count = std::fs::read_dir(&folder)
                .map(Iterator::count)
                .unwrap_or_default();
            assert!(count > 0, "no fixture in {}", folder.display());
        }
    }
}

#[test]
fn every_page_begins_with_its_rule() {
    for rule in rules::all() {
        assert_eq!(rule.page.lines().next(), Some(format!("# {}", rule.id).as_str()));
    }
}
