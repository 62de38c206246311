//! Secrets and ConfigMaps as they are read from the API server: what no rule needs is dropped while it is parsed, so
//! that a Secret's value is never kept, not even until a fact is made of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Resource;
use kube::core::ObjectMeta;
use portcullis_engine::{ConfigMapFact, KeyFact, SecretFact};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};

/// An object of a namespace of which a fact is kept.
pub trait Source:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + DeserializeOwned
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// What is kept.
    type Fact: Send + Sync + 'static;

    /// What is kept of this object.
    fn into_fact(self) -> Self::Fact;
}

/// A Secret without its values, and without the annotations in which `kubectl apply` repeats them.
#[derive(Clone, Debug, Deserialize)]
pub struct SecretKeys {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
    #[serde(default)]
    data: Option<BTreeMap<String, Value>>,
}

/// A ConfigMap without what is not text.
#[derive(Clone, Debug, Deserialize)]
pub struct ConfigMapTexts {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

impl Source for SecretKeys {
    type Fact = SecretFact;

    fn into_fact(self) -> SecretFact {
        let keys = self.data.unwrap_or_default().into_iter();
        let keys = keys.map(|(key, value)| (key, KeyFact { empty: value.empty }));
        SecretFact { keys: keys.collect() }
    }
}

impl Source for ConfigMapTexts {
    type Fact = ConfigMapFact;

    fn into_fact(self) -> ConfigMapFact {
        ConfigMapFact {
            data: self.data.unwrap_or_default(),
        }
    }
}

/// All that is read of a value: whether it has any bytes.
#[derive(Clone, Copy, Debug)]
struct Value {
    empty: bool,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Length;

        impl Visitor<'_> for Length {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text in base64")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value {
                    empty: text.is_empty(),
                })
            }

            fn visit_unit<E: Error>(self) -> Result<Value, E> {
                Ok(Value { empty: true })
            }
        }

        deserializer.deserialize_any(Length)
    }
}

/// The part of the metadata that a watch needs.
fn identity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Identity {
        name: Option<String>,
        namespace: Option<String>,
        resource_version: Option<String>,
    }
    let identity = Identity::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: identity.name,
        namespace: identity.namespace,
        resource_version: identity.resource_version,
        ..ObjectMeta::default()
    })
}

/// The same resource as `$kind`.
macro_rules! resource {
    ($source:ty, $kind:ty) => {
        impl Resource for $source {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                <$kind as Resource>::kind(&())
            }

            fn group((): &()) -> Cow<'_, str> {
                <$kind as Resource>::group(&())
            }

            fn version((): &()) -> Cow<'_, str> {
                <$kind as Resource>::version(&())
            }

            fn plural((): &()) -> Cow<'_, str> {
                <$kind as Resource>::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(SecretKeys, Secret);
resource!(ConfigMapTexts, ConfigMap);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_a_secret_outlives_its_parsing() {
        let json = r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "magsag", "annotations":
            {"kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"api-key\":\"aHVudGVyMg==\"}}"}},
            "data": {"api-key": "aHVudGVyMg==", "empty": ""}}"#;
        let secret: SecretKeys = serde_json::from_str(json).unwrap();
        assert!(!format!("{secret:?}").contains("aHVudGVyMg"));
        let empty = |key: &str| secret.clone().into_fact().keys.get(key).map(|it| it.empty);
        assert_eq!(empty("api-key"), Some(false));
        assert_eq!(empty("empty"), Some(true));
        assert_eq!(empty("other"), None);
    }
}
