//! Images come from allowed registries and are named by what does not move.
//!
//! Fields: `image` of each container, `image.reference` of volumes. Allowed: where the policy states `images.registries`, an image out of them; a digest,
//! or unless `images.requireDigest` is true a tag that names a version.
//! Source: S2-66.

use portcullis_api::RuleId;

use super::{Image, images, moves};
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
    for Image { path, text, name, .. } in images(context) {
        if let Some(registries) = &section.registries
            && !registries.iter().any(|it| name.is_in(it))
        {
            let observed = Observed::Shown(name.repository.to_string());
            let required = format!("an image of {}", registries.join(", "));
            findings.violation(path.clone(), observed, required, FIX_REGISTRY);
            findings.about(&*name.repository);
        }
        if section.require_digest && name.digest.is_none() {
            findings.violation(path, observed(&name), "a digest", fix_digest(text, &name));
            // Another image would be another one to trust.
            findings.about(text);
        } else if moves(&name) {
            findings.violation(
                path,
                observed(&name),
                "a tag that names a version, or a digest",
                FIX_TAG,
            );
            findings.about(text);
        }
    }
}

fn observed(name: &ImageName<'_>) -> Observed {
    Observed::Shown(match name.tag {
        // What stands before it may be no tag, but a password.
        _ if name.has_bad_digest => "a malformed digest".to_owned(),
        Some(tag) => format!("tag {tag}"),
        None => "no tag, which means latest".to_owned(),
    })
}

fn fix_digest(text: &str, name: &ImageName<'_>) -> String {
    let is_plain = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-' | b'/' | b':');
    if name.has_bad_digest || !text.bytes().all(is_plain) {
        return "name it by its digest, as your registry shows it".to_owned();
    }
    format!(
        "write {}@sha256:…; `docker buildx imagetools inspect {text}` prints it",
        name.repository
    )
}
