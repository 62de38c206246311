//! Volumes and their mounts: of what kind they are, and the Secrets in them.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

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

/// `volumes[]`.
#[derive(Clone, Debug, Default)]
pub struct Volume<'a> {
    /// Name of the volume.
    pub name: Text<'a>,
    /// The fields that say of what kind it is, such as `hostPath`; those that this version does not know, too. None
    /// means `emptyDir`, as the API server reads it.
    pub kinds: Vec<Text<'a>>,
    /// A whole Secret or some of its keys.
    pub secret: Option<SecretVolume<'a>>,
    /// Several sources in one directory.
    pub projected: Option<Projected<'a>>,
    /// A driver's volume.
    pub csi: Option<CsiVolume<'a>>,
    /// A path of the node.
    pub host_path: Option<HostPathVolume<'a>>,
    /// The files of an image.
    pub image: Option<ImageVolume<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Volume<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VolumeVisitor;

        impl<'de> Visitor<'de> for VolumeVisitor {
            type Value = Volume<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a volume")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Volume<'de>, A::Error> {
                let mut volume = Volume::default();
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    let is_there = match key.as_str() {
                        "name" => {
                            volume.name = map.next_value()?;
                            false
                        }
                        "secret" => read(&mut volume.secret, &mut map)?,
                        "projected" => read(&mut volume.projected, &mut map)?,
                        "csi" => read(&mut volume.csi, &mut map)?,
                        "hostPath" => read(&mut volume.host_path, &mut map)?,
                        "image" => read(&mut volume.image, &mut map)?,
                        _ => map.next_value::<Option<IgnoredAny>>()?.is_some(),
                    };
                    if is_there {
                        volume.kinds.push(key);
                    }
                }
                Ok(volume)
            }
        }

        deserializer.deserialize_map(VolumeVisitor)
    }
}

/// Reads a value into `field`; whether it is there.
fn read<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    field: &mut Option<T>,
    map: &mut A,
) -> Result<bool, A::Error> {
    if field.is_some() {
        return Err(A::Error::custom("a field of a volume is there twice"));
    }
    *field = map.next_value()?;
    Ok(field.is_some())
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

/// `volumes[].hostPath`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct HostPathVolume<'a> {
    /// Path on the node.
    #[serde(deserialize_with = "lenient")]
    pub path: Text<'a>,
}

/// `volumes[].image`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct ImageVolume<'a> {
    /// Name of the image.
    #[serde(deserialize_with = "lenient")]
    pub reference: Text<'a>,
    /// `Always`, `IfNotPresent` or `Never`.
    #[serde(deserialize_with = "lenient")]
    pub pull_policy: Text<'a>,
}
