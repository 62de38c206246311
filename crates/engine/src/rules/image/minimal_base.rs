//! Images are made from what is minimal.
//!
//! Fields: `image` of each container, `image.reference` of volumes and the pods' annotation
//! `org.opencontainers.image.base.name`. Allowed: where the policy states `images.bases`, an image out of one of them, an
//! annotation that names one, and a tag or name with one of its words, such as `3.13-alpine`.
//! Source: S1-66.

use portcullis_api::RuleId;

use super::images;
use crate::image_name::ImageName;
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::ImageMinimalBase,
    title: "base image",
    meaning: "images are made from what is minimal",
    section: Section::Images,
    severities: Severities::OFF_WARN_WARN,
    page: include_str!("../../../../../docs/rules/image/minimal-base.md"),
    check,
};

/// Annotation of an image with the name of the one that it was made from. Source: OCI image specification.
const BASE_NAME: &str = "org.opencontainers.image.base.name";

const FIX: &str =
    "build it from one of them, and name that in the pods' annotation org.opencontainers.image.base.name";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let bases = context.policy.images.as_ref().and_then(|it| it.bases.as_deref());
    let (Some(bases), Some((metadata, _))) = (bases, context.subject.pod()) else {
        return;
    };
    let stated = metadata.annotations.get(BASE_NAME).map(|it| ImageName::parse(it));
    if stated.is_some_and(|it| bases.iter().any(|base| is_of(&it, base))) {
        return;
    }
    for it in images(context) {
        if !bases.iter().any(|base| is_of(&it.name, base)) {
            let observed = Observed::Shown(it.name.repository.to_string());
            let required = format!("made from {}", bases.join(", "));
            findings.violation(it.path, observed, required, FIX);
            findings.about(&*it.name.repository);
        }
    }
}

/// Whether an image is `base`: lies in that repository, or has that word in its name or tag.
fn is_of(name: &ImageName<'_>, base: &str) -> bool {
    if base.contains(['/', '.']) {
        return name.is_in(base);
    }
    let parts = name.repository.split('/').skip(1).chain(name.tag);
    parts.flat_map(|it| it.split(['-', '_'])).any(|word| {
        // `alpine3.20` is an alpine.
        word.strip_prefix(base)
            .is_some_and(|rest| rest.bytes().all(|it| it.is_ascii_digit() || it == b'.'))
    })
}
