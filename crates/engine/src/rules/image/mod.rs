//! `image/*`: where images come from and how they are named.

pub(super) mod pinned;
pub(super) mod pull_policy;
pub(super) mod supported_version;

use super::Context;
use crate::image_name::ImageName;
use crate::path::FieldPath;
use crate::subject::ContainerRef;

/// The containers with the names of their images; the API server refuses one without, so that it is none to judge.
fn images<'c, 'a>(context: &Context<'c, 'a>) -> impl Iterator<Item = (ContainerRef<'c, 'a>, ImageName<'c>)> {
    let named = context
        .subject
        .containers()
        .filter(|it| !it.container.image.is_empty());
    named.map(|it| (it, ImageName::parse(&it.container.image)))
}

/// Path of one field of a container.
fn field(context: &Context<'_, '_>, it: &ContainerRef<'_, '_>, field: &'static str) -> FieldPath {
    context.subject.container_path(it).field(field)
}

/// Whether a tag is moved to another image from time to time: it names no version, or `latest`.
fn moves(name: &ImageName<'_>) -> bool {
    let is_version = |tag: &str| tag.bytes().any(|it| it.is_ascii_digit()) && !tag.starts_with("latest");
    name.digest.is_none() && !name.tag.is_some_and(is_version)
}
