//! Images come from allowed registries and are named by what does not move.
//!
//! Field: `image` of each container. Allowed: where the policy states `images.registries`, an image out of them; a digest,
//! or unless `images.requireDigest` is true a tag that names a version.
//! Source: S2-66.

use portcullis_api::RuleId;

use super::{field, images, moves};
use crate::image_name::ImageName;
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::ImagePinned,
    title: "unpinned image",
    meaning: "images come from allowed registries and are named by what does not move",
    section: Section::Images,
    severities: Severities::OFF_WARN_DENY,
    page: include_str!("../../../../../docs/rules/image/pinned.md"),
    check,
};

const FIX_REGISTRY: &str =
    "use an image of an allowed registry, or add this one to images.registries of the policy";
const FIX_TAG: &str = "name the version that was tested, such as :1.4.2, or its digest";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let Some(section) = &context.policy.images else {
        return;
    };
    for (it, name) in images(context) {
        let path = field(context, &it, "image");
        if let Some(registries) = &section.registries
            && !registries.iter().any(|it| name.is_in(it))
        {
            let observed = Observed::Shown(name.repository.to_string());
            let required = format!("an image of {}", registries.join(", "));
            findings.violation(path.clone(), observed, required, FIX_REGISTRY);
            findings.about(&*name.repository);
        }
        if section.require_digest && name.digest.is_none() {
            let fix = format!(
                "write {}@sha256:…; `docker buildx imagetools inspect {}` prints it",
                name.repository, it.container.image
            );
            findings.violation(path, observed(&name), "a digest", fix);
            findings.about("digest");
        } else if moves(&name) {
            findings.violation(
                path,
                observed(&name),
                "a tag that names a version, or a digest",
                FIX_TAG,
            );
            findings.about(name.tag.unwrap_or_default());
        }
    }
}

fn observed(name: &ImageName<'_>) -> Observed {
    match name.tag {
        Some(tag) => Observed::Shown(format!("tag {tag}")),
        None => Observed::Shown("no tag, which means latest".to_owned()),
    }
}
