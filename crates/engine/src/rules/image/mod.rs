//! `image/*`: where images come from and how they are named.

pub(super) mod minimal_base;
pub(super) mod pinned;
pub(super) mod pull_policy;
pub(super) mod supported_version;

use super::Context;
use crate::image_name::ImageName;
use crate::path::FieldPath;

/// An image that a subject runs or mounts.
struct Image<'c> {
    /// Where it is named.
    path: FieldPath,
    /// The name as it is written.
    text: &'c str,
    /// The name as a node reads it.
    name: ImageName<'c>,
    /// Where its pull policy is stated.
    pull_policy_path: FieldPath,
    /// Its pull policy; empty where none is stated.
    pull_policy: &'c str,
}

/// The images of containers and volumes. Without a name the API server refuses them, so that there is none to judge.
fn images<'c>(context: &Context<'c, '_>) -> impl Iterator<Item = Image<'c>> {
    let run = context.subject.containers().map(|it| {
        let place = context.subject.container_path(&it);
        let fields = ["image", "imagePullPolicy"].map(|field| place.clone().field(field));
        (
            fields,
            it.container.image.as_str(),
            it.container.image_pull_policy.as_str(),
        )
    });
    let volumes = context
        .subject
        .pod()
        .map_or(&[][..], |(_, spec)| &spec.volumes)
        .iter()
        .enumerate();
    let mounted = volumes.filter_map(|(index, volume)| {
        let image = volume.image.as_ref()?;
        let place = context.subject.pod_spec_path().field("volumes");
        let place = place.item(index, Some(&volume.name)).field("image");
        let fields = ["reference", "pullPolicy"].map(|field| place.clone().field(field));
        Some((fields, image.reference.as_str(), image.pull_policy.as_str()))
    });
    let named = run.chain(mounted).filter(|(_, text, _)| !text.is_empty());
    named.map(|([path, pull_policy_path], text, pull_policy)| Image {
        path,
        text,
        name: ImageName::parse(text),
        pull_policy_path,
        pull_policy,
    })
}

/// Whether a tag is moved to another image from time to time: it names no version, or `latest`.
fn moves(name: &ImageName<'_>) -> bool {
    let is_version = |tag: &str| tag.bytes().any(|it| it.is_ascii_digit()) && !tag.starts_with("latest");
    name.digest.is_none() && !name.tag.is_some_and(is_version)
}
