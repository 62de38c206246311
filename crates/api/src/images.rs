//! `spec.images`: where images come from and how they are named.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Images of the policy's workloads.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.registries) || self.registries.all(r, r.matches('^(localhost|[a-zA-Z0-9-]+([.][a-zA-Z0-9-]+)+|[a-zA-Z0-9.-]+:[0-9]{1,5})(/[a-z0-9._-]+)*$|^[a-zA-Z0-9-]+([.][a-zA-Z0-9-]+)+:[0-9]{1,5}(/[a-z0-9._-]+)*$'))")
        .message("images.registries[] must begin with the registry's host and name no tag, such as ghcr.io/acme or docker.io/library/postgres")
)]
pub struct Images {
    /// Registries, or repositories in them, from which images may come; absent means from anywhere. An image without a
    /// registry comes from `docker.io`. Example: `[ghcr.io/acme, docker.io/library/postgres]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub registries: Option<Vec<String>>,

    /// Whether each image must be named by its digest; absent means that a version tag is enough. Example: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_digest: Option<bool>,

    /// Minimal images from which others are made: repositories with their registry, or words that stand in names and
    /// tags. An image names its base in the pods' annotation `org.opencontainers.image.base.name`.
    /// Example: `[gcr.io/distroless, alpine, slim]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(
            length(min = 1, max = 253),
            regex(pattern = r"^[a-zA-Z0-9][-._:/a-zA-Z0-9]*$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub bases: Option<Vec<String>>,

    /// Versions that are supported, by image. Example: `[{image: ghcr.io/acme/api, supported: ">=1.0.0 <1.1.0"}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["image".into()]))]
    pub versions: Option<Vec<ImageVersions>>,
}

/// The supported versions of one image.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ImageVersions {
    /// The image, without tag and digest. Example: `ghcr.io/acme/api`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^@\s]+$"))]
    pub image: String,

    /// Range of semantic versions that are supported; a version alone means that and what is compatible with it, as in
    /// `^1.4.2`. The version of an image is its tag, or else the pod's label
    /// `app.kubernetes.io/version`. Example: `">=1.0.0 <1.1.0"`.
    #[schemars(length(min = 1, max = 128))]
    pub supported: String,

    /// Range of versions that only get critical fixes: they warn, wherever they run. Example: `">=0.3.0 <0.4.0"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub critical_fixes_only: Option<String>,
}
