//! Nothing that makes the operator act comes in without saying which right its author needs: the types' tables of
//! fields against the schema and against the chart.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use portcullis_api::{ACTING_FIELDS, JUDGING_FIELDS, REACH_FIELDS, crds};
use serde_json::Value;

const CHART_TABLE: &str = include_str!("../charts/portcullis/templates/policy-authors.yaml");

#[test]
fn r52_each_acting_field_has_a_row_in_the_chart() {
    let rows: BTreeSet<&str> = CHART_TABLE
        .lines()
        .filter_map(|line| line.trim().strip_prefix("\"acting\" \"")?.strip_suffix('"'))
        .collect();
    assert_eq!(
        rows,
        ACTING_FIELDS.iter().copied().collect(),
        "left: rows of charts/portcullis/templates/policy-authors.yaml, right: portcullis_api::ACTING_FIELDS"
    );
}

#[test]
fn r52_each_reach_field_is_compared_in_the_chart() {
    for field in REACH_FIELDS {
        let name = field.trim_start_matches("spec.");
        for version in ["spec", "specBefore"] {
            assert!(
                CHART_TABLE.contains(&format!("variables.{version}.?{name}.")),
                "`reach` and `reachBefore` of charts/portcullis/templates/policy-authors.yaml must hold {field}"
            );
        }
    }
}

#[test]
fn r52_each_field_of_the_spec_is_classified_once() -> Result<()> {
    let classified: Vec<&str> = [ACTING_FIELDS, REACH_FIELDS, JUDGING_FIELDS].concat();
    let distinct: BTreeSet<&str> = classified.iter().copied().collect();
    assert_eq!(
        distinct.len(),
        classified.len(),
        "a field stands in one table only"
    );

    let mut met = BTreeSet::new();
    let mut unclassified = Vec::new();
    walk("spec", &spec_schema()?, &distinct, &mut met, &mut unclassified);
    assert_eq!(
        unclassified,
        Vec::<String>::new(),
        "classify in crates/api/src/acting.rs: does it make the operator act?"
    );
    let met: BTreeSet<&str> = met.iter().map(String::as_str).collect();
    assert_eq!(
        met, distinct,
        "left: fields of the schema, right: fields of crates/api/src/acting.rs"
    );
    Ok(())
}

/// Goes down as far as the tables do: a field is classified itself, or by all of its own fields.
fn walk(
    path: &str,
    schema: &Value,
    classified: &BTreeSet<&str>,
    met: &mut BTreeSet<String>,
    unclassified: &mut Vec<String>,
) {
    let fields = schema["properties"].as_object();
    for (name, field) in fields.into_iter().flatten() {
        let path = format!("{path}.{name}");
        let known = classified.contains(path.as_str());
        if known {
            met.insert(path.clone());
        }
        let (inner, schema) = match field.get("items") {
            Some(items) => (format!("{path}[]"), items),
            None => (path.clone(), field),
        };
        if classified.iter().any(|it| it.starts_with(&format!("{inner}."))) {
            walk(&inner, schema, classified, met, unclassified);
        } else if !known {
            unclassified.push(path);
        }
    }
}

fn spec_schema() -> Result<Value> {
    let kind = |crd: &CustomResourceDefinition| crd.spec.names.kind == "SecurityPolicy";
    let crd = serde_json::to_value(crds()?.into_iter().find(kind))?;
    let spec = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec");
    Ok(spec.context("the schema of SecurityPolicy's spec")?.clone())
}
