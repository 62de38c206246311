//! Nodes run the image that is meant.
//!
//! Fields: `imagePullPolicy` and `image` of each container, `image` of volumes. Allowed: `Always`, unset; `IfNotPresent` with a digest or a
//! tag that names a version.
//! Source: S2-66.

use portcullis_api::RuleId;

use super::{images, moves};
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::ImagePullPolicy,
    title: "image pull policy",
    meaning: "nodes run the image that is meant, not one that was left on them",
    section: Section::Images,
    severities: Severities::OFF_WARN_WARN,
    page: include_str!("../../../../../docs/rules/image/pull-policy.md"),
    check,
};

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    for it in images(context) {
        let (required, fix) = match it.pull_policy {
            "Never" => ("Always or IfNotPresent", "remove it"),
            "IfNotPresent" if moves(&it.name) => (
                "Always, as the tag moves",
                "name a version or a digest, or set it to Always",
            ),
            _ => continue,
        };
        let observed = Observed::Shown(it.pull_policy.to_owned());
        findings.violation(it.pull_policy_path, observed, required, fix);
        findings.about(format!("{} {}", it.pull_policy, it.text));
    }
}
