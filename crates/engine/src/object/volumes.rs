//! Volumes and their mounts, as far as Secrets are concerned.

use serde::Deserialize;

use super::{LocalReference, lenient};
use crate::Text;

/// `volumeMounts[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct VolumeMount<'a> {
    /// Name of the volume.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
}

/// `volumes[]`, as far as Secrets are concerned.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct Volume<'a> {
    /// Name of the volume.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
    /// A whole Secret or some of its keys.
    #[serde(deserialize_with = "lenient")]
    pub secret: Option<SecretVolume<'a>>,
    /// Several sources in one directory.
    #[serde(deserialize_with = "lenient")]
    pub projected: Option<Projected<'a>>,
    /// A driver's volume.
    #[serde(deserialize_with = "lenient")]
    pub csi: Option<CsiVolume<'a>>,
}

/// `volumes[].secret`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct SecretVolume<'a> {
    /// Name of the Secret.
    #[serde(deserialize_with = "lenient")]
    pub secret_name: Text<'a>,
    /// The keys that are mounted; empty means all.
    #[serde(deserialize_with = "lenient")]
    pub items: Vec<KeyToPath<'a>>,
    /// Whether it may be absent.
    #[serde(deserialize_with = "lenient")]
    pub optional: bool,
}

/// One key of a mounted Secret.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct KeyToPath<'a> {
    /// Key within the Secret.
    #[serde(deserialize_with = "lenient")]
    pub key: Text<'a>,
}

/// `volumes[].projected`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Projected<'a> {
    /// The sources.
    #[serde(deserialize_with = "lenient")]
    pub sources: Vec<ProjectedSource<'a>>,
}

/// `volumes[].projected.sources[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ProjectedSource<'a> {
    /// A Secret.
    #[serde(deserialize_with = "lenient")]
    pub secret: Option<ProjectedSecret<'a>>,
}

/// `volumes[].projected.sources[].secret`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ProjectedSecret<'a> {
    /// Name of the Secret.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
    /// The keys that are mounted; empty means all.
    #[serde(deserialize_with = "lenient")]
    pub items: Vec<KeyToPath<'a>>,
    /// Whether it may be absent.
    #[serde(deserialize_with = "lenient")]
    pub optional: bool,
}

/// `volumes[].csi`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct CsiVolume<'a> {
    /// Secret with the driver's credentials.
    #[serde(deserialize_with = "lenient")]
    pub node_publish_secret_ref: Option<LocalReference<'a>>,
}
