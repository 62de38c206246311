//! `env` and `envFrom` of a container.

use serde::Deserialize;

use super::lenient;
use crate::Text;

/// `env[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct EnvVar<'a> {
    /// Name of the variable.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
    /// Literal value.
    #[serde(deserialize_with = "lenient")]
    pub value: Option<Text<'a>>,
    /// Where the value comes from instead. Most variables are literals, which are the smaller for the box.
    #[serde(deserialize_with = "lenient")]
    pub value_from: Option<Box<EnvSource<'a>>>,
}

/// `env[].valueFrom`; other sources than these hold neither settings nor credentials.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct EnvSource<'a> {
    /// One key of a Secret.
    #[serde(deserialize_with = "lenient")]
    pub secret_key_ref: Option<KeyReference<'a>>,
    /// One key of a ConfigMap.
    #[serde(deserialize_with = "lenient")]
    pub config_map_key_ref: Option<KeyReference<'a>>,
    /// One field of the pod.
    #[serde(deserialize_with = "lenient")]
    pub field_ref: Option<FieldReference<'a>>,
    /// One key of a file.
    #[serde(deserialize_with = "lenient")]
    pub file_key_ref: Option<FileKeyReference>,
}

/// One key of a file in a volume: it is known only where the pod runs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FileKeyReference {
    /// Whether it may be absent.
    #[serde(deserialize_with = "lenient")]
    pub optional: bool,
}

/// One field of the pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct FieldReference<'a> {
    /// Path of the field, such as `metadata.annotations['origins']`.
    #[serde(deserialize_with = "lenient")]
    pub field_path: Text<'a>,
}

/// One key of a Secret or ConfigMap.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct KeyReference<'a> {
    /// Name of the object.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
    /// Key within it.
    #[serde(deserialize_with = "lenient")]
    pub key: Text<'a>,
    /// Whether it may be absent.
    #[serde(deserialize_with = "lenient")]
    pub optional: bool,
}

/// `envFrom[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct EnvFrom<'a> {
    /// Put before each key.
    #[serde(deserialize_with = "lenient")]
    pub prefix: Text<'a>,
    /// A ConfigMap.
    #[serde(deserialize_with = "lenient")]
    pub config_map_ref: Option<OptionalReference<'a>>,
    /// A Secret.
    #[serde(deserialize_with = "lenient")]
    pub secret_ref: Option<OptionalReference<'a>>,
}

/// A reference to an object that may be absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct OptionalReference<'a> {
    /// Name of the object.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
    /// Whether it may be absent.
    #[serde(deserialize_with = "lenient")]
    pub optional: bool,
}
