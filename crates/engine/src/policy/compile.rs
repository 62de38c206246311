//! `TryFrom` a `SecurityPolicy`: the one place that decides whether a policy is valid.
//!
//! The schema and its CEL validations refuse most mistakes when a policy is applied. What slips past them, by an old
//! schema or a server without the webhook, ends here with the same field paths.

use std::collections::BTreeSet;
use std::fmt;

use portcullis_api::{
    Component, LiteralPolicy, OnMissing, RuleId, Scope, SecretEntry, Secrets, SecurityPolicy,
    SecurityPolicySpec, Selector, Severity,
};

use super::{
    CompiledComponent, CompiledEntry, CompiledHttp, CompiledPolicy, CompiledSecrets, LabelSelector,
    PolicyName, images, network, pod_security,
};
use crate::rules;

/// One thing that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Field, such as `spec.network.flows[0].to.cidr`.
    pub path: String,
    /// What is wrong and what is asked for, to be read behind the path.
    pub message: String,
}

/// Everything that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", DisplayFindings(findings))]
pub struct InvalidPolicy {
    /// All findings, in the order of the fields.
    pub findings: Vec<Finding>,
}

struct DisplayFindings<'f>(&'f [Finding]);

impl fmt::Display for DisplayFindings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}`{}` {}", finding.path, finding.message)?;
        }
        Ok(())
    }
}

/// Collects findings.
#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn add(&mut self, path: String, message: impl Into<String>) {
        self.0.push(Finding {
            path,
            message: message.into(),
        });
    }

    /// Looks at a field `components` under `path`.
    pub(super) fn components(&mut self, path: &str, stated: Option<&[String]>, known: &BTreeSet<&str>) {
        if stated.is_none() && !known.is_empty() {
            let message = "is required once the policy states components";
            self.add(format!("{path}.components"), message);
        }
        for name in stated
            .into_iter()
            .flatten()
            .filter(|it| !known.contains(it.as_str()))
        {
            let message = format!("must name entries of spec.components, got `{name}`");
            self.add(format!("{path}.components"), message);
        }
    }

    pub(super) fn selector(&mut self, path: &str, selector: &Selector) -> Option<LabelSelector> {
        match LabelSelector::compile(selector) {
            Ok(selector) => Some(selector),
            Err(findings) => {
                for (field, message) in findings {
                    self.add(format!("{path}{field}"), message);
                }
                None
            }
        }
    }
}

impl TryFrom<&SecurityPolicy> for CompiledPolicy {
    type Error = InvalidPolicy;

    fn try_from(policy: &SecurityPolicy) -> Result<Self, InvalidPolicy> {
        let mut findings = Findings::default();
        let name = PolicyName {
            namespace: policy.metadata.namespace.clone().unwrap_or_default(),
            name: policy.metadata.name.clone().unwrap_or_default(),
        };
        if super::EXEMPT_NAMESPACES.contains(&name.namespace.as_str()) {
            findings.add(
                "metadata.namespace".into(),
                format!("must not be {}, which is never governed", name.namespace),
            );
        }
        let compiled = compile(name, &policy.spec, &mut findings);
        if findings.0.is_empty() {
            Ok(compiled)
        } else {
            Err(InvalidPolicy { findings: findings.0 })
        }
    }
}

fn compile(name: PolicyName, spec: &SecurityPolicySpec, findings: &mut Findings) -> CompiledPolicy {
    let workloads = compile_workloads(spec, findings);
    let components = compile_components(spec.components.as_deref().unwrap_or_default(), findings);
    let names: BTreeSet<&str> = spec
        .components
        .iter()
        .flatten()
        .map(|it| it.name.as_str())
        .collect();
    CompiledPolicy {
        name,
        contact: spec.contact.clone(),
        enforcement: spec.enforcement,
        workloads,
        components,
        pod_security: spec
            .pod_security
            .as_ref()
            .map(|it| pod_security::compile(it, &names, findings)),
        images: spec.images.as_ref().map(|it| images::compile(it, findings)),
        secrets: spec
            .secrets
            .as_ref()
            .map(|it| compile_secrets(it, &names, findings)),
        http: spec.http.as_ref().map(compile_http),
        network: spec
            .network
            .as_ref()
            .map(|it| network::compile(it, &names, findings)),
        severities: severities(spec, findings),
    }
}

fn compile_workloads(spec: &SecurityPolicySpec, findings: &mut Findings) -> Option<LabelSelector> {
    match (spec.workloads.scope, &spec.workloads.selector) {
        (Scope::Namespace, None) => None,
        (Scope::Selected, Some(selector)) => findings.selector("spec.workloads.selector", selector),
        _ => {
            let message = "is required with scope Selected and must be absent with scope Namespace";
            findings.add("spec.workloads.selector".into(), message);
            None
        }
    }
}

fn compile_components(components: &[Component], findings: &mut Findings) -> Vec<CompiledComponent> {
    let mut seen = BTreeSet::new();
    let mut compiled = Vec::new();
    for (index, it) in components.iter().enumerate() {
        if !seen.insert(&it.name) {
            findings.add(
                format!("spec.components[{index}].name"),
                format!("must be unique, got `{}` twice", it.name),
            );
        }
        let selector = findings.selector(&format!("spec.components[{index}].selector"), &it.selector);
        compiled.extend(selector.map(|selector| CompiledComponent {
            name: it.name.clone(),
            role: it.role,
            selector,
        }));
    }
    compiled
}

fn compile_secrets(
    section: &Secrets,
    components: &BTreeSet<&str>,
    findings: &mut Findings,
) -> CompiledSecrets {
    let entries = section.entries.as_deref().unwrap_or_default();
    let mut seen = BTreeSet::new();
    for (index, it) in entries.iter().enumerate() {
        let path = format!("spec.secrets.entries[{index}]");
        if !seen.insert(&it.name) {
            findings.add(
                format!("{path}.name"),
                format!("must be unique, got `{}` twice", it.name),
            );
        }
        findings.components(&path, it.components.as_deref(), components);
    }
    CompiledSecrets::new(entries.iter().map(compile_entry).collect())
}

fn compile_entry(entry: &SecretEntry) -> CompiledEntry {
    CompiledEntry {
        name: entry.name.clone(),
        env: entry.env.clone(),
        aliases: entry.aliases.clone().unwrap_or_default(),
        components: entry.components.clone(),
        secret: entry.secret_ref.name.clone(),
        key: entry.secret_ref.key.clone(),
        deliver_to: entry
            .delivery
            .as_ref()
            .map(|it| it.containers.clone())
            .unwrap_or_default(),
    }
}

fn compile_http(section: &portcullis_api::Http) -> CompiledHttp {
    let Some(cors) = &section.cors else {
        return CompiledHttp::default();
    };
    let normal = |it: &String| it.trim_end_matches('/').to_ascii_lowercase();
    CompiledHttp {
        cors: true,
        cors_env: cors.env.clone(),
        allowed_origins: cors
            .allowed_origins
            .as_ref()
            .map(|list| list.iter().map(normal).collect()),
    }
}

/// Severity of each rule: the policy's own entry, else the section's word, else the table's column for the
/// environment; then the policy's ceiling.
fn severities(spec: &SecurityPolicySpec, findings: &mut Findings) -> Vec<Severity> {
    let mut seen = BTreeSet::new();
    for (index, it) in spec.rules.iter().flatten().enumerate() {
        if !seen.insert(it.id) {
            findings.add(
                format!("spec.rules[{index}].id"),
                format!("must be unique, got `{}` twice", it.id),
            );
        }
    }
    RuleId::ALL
        .iter()
        .map(|id| severity(spec, *id).capped(spec.enforcement))
        .collect()
}

fn severity(spec: &SecurityPolicySpec, id: RuleId) -> Severity {
    let rule = rules::rule(id);
    if !rule.section.is_stated(spec) {
        return Severity::Disabled;
    }
    let stated = spec
        .rules
        .iter()
        .flatten()
        .find(|it| it.id == id)
        .map(|it| it.enforcement);
    let section = spec.secrets.as_ref().and_then(|it| section_word(it, id));
    stated
        .or(section)
        .unwrap_or_else(|| rule.severities.of(spec.environment))
}

/// What `spec.secrets` itself says about a rule's severity; an absent `onMissing` means its strictest value.
fn section_word(secrets: &Secrets, id: RuleId) -> Option<Severity> {
    match id {
        RuleId::SecretMissing | RuleId::SecretKeyMissing => Some(match secrets.on_missing {
            Some(OnMissing::Warn) => Severity::Warn,
            Some(OnMissing::Deny) | None => Severity::Deny,
        }),
        RuleId::SecretLiteral if secrets.literals == Some(LiteralPolicy::Allowed) => Some(Severity::Disabled),
        _ => None,
    }
}
