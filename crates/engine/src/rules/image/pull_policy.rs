//! Nodes run the image that is meant.
//!
//! Fields: `imagePullPolicy` and `image` of each container. Allowed: `Always`, unset; `IfNotPresent` with a digest or a
//! tag that names a version.
//! Source: S2-66.

use portcullis_api::RuleId;

use super::{field, images, moves};
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
    for (it, name) in images(context) {
        let stated = it.container.image_pull_policy.as_str();
        let (required, fix) = match stated {
            "Never" => ("Always or IfNotPresent", "remove imagePullPolicy"),
            "IfNotPresent" if moves(&name) => (
                "Always, as the tag moves",
                "name a version or a digest, or set imagePullPolicy to Always",
            ),
            _ => continue,
        };
        let path = field(context, &it, "imagePullPolicy");
        findings.violation(path, Observed::Shown(stated.to_owned()), required, fix);
        findings.about(stated);
    }
}
