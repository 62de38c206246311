//! Default severities are those of `docs/rules.tsv`, which says where each rule comes from.

use portcullis_api::{Environment, Severity};
use portcullis_engine::rules;

const TABLE: &str = include_str!("../../../docs/rules.tsv");

/// The controls of the Pod Security Standards are rules of their own under one row.
const FAMILY: &str = "pod/security-level";

fn row(id: &str) -> Option<Vec<&'static str>> {
    let rows = TABLE.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let mut rows = rows.filter(|it| it.first() == Some(&id));
    rows.next()
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Disabled => "off",
        Severity::Audit => "audit",
        Severity::Warn => "warn",
        Severity::Deny => "deny",
    }
}

#[test]
fn default_severities_are_those_of_the_table() {
    for rule in rules::all() {
        let row = row(rule.id.as_str())
            .or_else(|| row(FAMILY))
            .expect("the table has a row");
        let columns = [
            Environment::Development,
            Environment::Staging,
            Environment::Production,
        ];
        let severities = columns.map(|it| word(rule.severities.of(it))).join("/");
        assert_eq!(Some(&severities.as_str()), row.get(2), "{}", rule.id);
    }
}

#[test]
fn only_controls_of_the_standard_stand_under_its_row() {
    let without_row = rules::all().filter(|it| row(it.id.as_str()).is_none());
    assert!(
        without_row
            .into_iter()
            .all(|it| it.id.as_str().starts_with("pod/"))
    );
}
