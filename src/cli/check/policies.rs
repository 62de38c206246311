//! Policies from files, read as strictly as the API server reads them.

use portcullis_api::SecurityPolicy;
use portcullis_engine::{CompiledPolicy, InvalidPolicy};
use serde_json::Value;

use super::files::Document;
use super::finding::Finding;
use super::schema::{self, Schema};

/// Namespace of a policy that states none when `--namespace` states none either, as with kubectl.
const DEFAULT_NAMESPACE: &str = "default";

/// Whether a document is one of our kinds.
pub(super) fn is_policy(document: &Document) -> bool {
    document.group() == portcullis_api::GROUP
}

/// Compiles every policy; otherwise tells everything that is wrong, each with its place.
pub(super) fn compile(
    documents: &[&Document],
    namespace: Option<&str>,
) -> Result<Vec<CompiledPolicy>, Vec<String>> {
    let schema = Schema::of_security_policy().map_err(|error| vec![error])?;
    let mut policies = Vec::new();
    let mut errors = Vec::new();
    for document in documents {
        match compile_one(&schema, document, namespace) {
            Ok(policy) => policies.push(policy),
            Err(findings) => errors.extend(findings.iter().map(|it| describe(document, it))),
        }
    }
    if errors.is_empty() {
        Ok(policies)
    } else {
        Err(errors)
    }
}

fn compile_one(
    schema: &Schema,
    document: &Document,
    namespace: Option<&str>,
) -> Result<CompiledPolicy, Vec<Finding>> {
    let object = schema::without_nulls(&document.value);
    let findings = schema.findings(&object);
    if !findings.is_empty() {
        return Err(findings);
    }
    let mut policy = parse(object)?;
    policy
        .metadata
        .namespace
        .get_or_insert_with(|| namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned());
    CompiledPolicy::try_from(&policy).map_err(from_engine)
}

fn parse(object: Value) -> Result<SecurityPolicy, Vec<Finding>> {
    serde_json::from_value(object)
        .map_err(|error| vec![Finding::clause("spec".into(), format!("cannot be read: {error}"))])
}

fn from_engine(invalid: InvalidPolicy) -> Vec<Finding> {
    let findings = invalid.findings.into_iter();
    findings.map(|it| Finding::clause(it.path, it.message)).collect()
}

/// `policy.yaml:12:7: SecurityPolicy magsag: `spec.enforcement` must be one of Audit, Warn, Deny, got `deny``
fn describe(document: &Document, finding: &Finding) -> String {
    let place = document.locate(&finding.path);
    let kind = document.kind();
    match document.text("/metadata/name") {
        "" => format!("{place}: {kind}: {}", finding.text),
        name => format!("{place}: {kind} {name}: {}", finding.text),
    }
}
