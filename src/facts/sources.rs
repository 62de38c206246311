//! Secrets and ConfigMaps as they are read from the API server: what no rule needs is dropped while it is parsed, so
//! that a Secret's value is never kept, not even until a fact is made of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Resource;
use kube::core::ObjectMeta;
use portcullis_engine::{ConfigMapFact, Fact, KeyFact, SecretFact};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

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
    type Fact: PartialEq + Send + Sync + 'static;

    /// What is kept of this object; unknown when it is too large to be kept.
    fn into_fact(self) -> Fact<Arc<Self::Fact>>;

    /// Bytes of what is kept.
    fn weight(fact: &Self::Fact) -> usize;
}

/// Objects that are listed at a time: a page is held as a whole, and each object may have a MiB.
pub(super) const PAGE: u32 = 25;

/// Bytes of keys and values of one object that are kept; whoever may write ConfigMaps must not fill our memory.
const MAX_OBJECT: usize = 64 * 1024;

/// What is unknown of an object that is too large.
fn too_large<K: Resource<DynamicType = ()>, T>(object: &K) -> Fact<T> {
    let meta = object.meta();
    let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
    let cause = format!(
        "{} {}/{} is too large to be read: its keys and texts must have at most {MAX_OBJECT} bytes",
        K::kind(&()),
        namespace.unwrap_or_default(),
        name.unwrap_or_default()
    );
    Fact::Unknown(cause.into())
}

/// Keys and values of one object as far as they are kept; `None` when they are too large.
#[derive(Clone, Debug)]
struct Bounded<V>(Option<BTreeMap<String, V>>);

impl<V> Default for Bounded<V> {
    fn default() -> Self {
        Self(Some(BTreeMap::new()))
    }
}

impl<'de, V: Deserialize<'de> + Weighed> Deserialize<'de> for Bounded<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de> + Weighed> Visitor<'de> for Entries<V> {
            type Value = Bounded<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("keys and values")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Bounded::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut entries, mut weight) = (BTreeMap::new(), 0);
                while let Some((key, value)) = map.next_entry::<String, V>()? {
                    weight += key.len() + value.weight();
                    if weight > MAX_OBJECT {
                        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                        return Ok(Bounded(None));
                    }
                    entries.insert(key, value);
                }
                Ok(Bounded(Some(entries)))
            }
        }

        deserializer.deserialize_any(Entries(PhantomData))
    }
}

/// A value of which the kept bytes are counted.
trait Weighed {
    fn weight(&self) -> usize;
}

impl Weighed for String {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Weighed for Value {
    fn weight(&self) -> usize {
        size_of::<Self>()
    }
}

/// A Secret without its values, and without the annotations in which `kubectl apply` repeats them.
#[derive(Clone, Debug, Deserialize)]
pub struct SecretKeys {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
    #[serde(default)]
    data: Bounded<Value>,
}

/// A ConfigMap without what is not text.
#[derive(Clone, Debug, Deserialize)]
pub struct ConfigMapTexts {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
    #[serde(default)]
    data: Bounded<String>,
}

impl Source for SecretKeys {
    type Fact = SecretFact;

    fn into_fact(self) -> Fact<Arc<SecretFact>> {
        let Some(data) = &self.data.0 else {
            return too_large(&self);
        };
        let keys = data.iter();
        let keys = keys.map(|(key, value)| (key.clone(), KeyFact { empty: value.empty }));
        Fact::Known(Arc::new(SecretFact { keys: keys.collect() }))
    }

    fn weight(fact: &SecretFact) -> usize {
        fact.keys.keys().map(|it| it.len() + size_of::<KeyFact>()).sum()
    }
}

impl Source for ConfigMapTexts {
    type Fact = ConfigMapFact;

    fn into_fact(mut self) -> Fact<Arc<ConfigMapFact>> {
        match self.data.0.take() {
            Some(data) => Fact::Known(Arc::new(ConfigMapFact { data })),
            None => too_large(&self),
        }
    }

    fn weight(fact: &ConfigMapFact) -> usize {
        fact.data.iter().map(|(key, text)| key.len() + text.len()).sum()
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
    fn what_is_too_large_is_unknown_and_not_kept() {
        let config_map = |size: usize| {
            let json = serde_json::json!({"metadata": {"name": "magsag", "namespace": "agents"},
                "data": {"a": "x".repeat(size), "b": "y"}});
            serde_json::from_value::<ConfigMapTexts>(json).unwrap()
        };
        let Fact::Known(fact) = config_map(MAX_OBJECT - 3).into_fact() else {
            panic!("it is just small enough");
        };
        assert_eq!(ConfigMapTexts::weight(&fact), MAX_OBJECT);
        let large = config_map(MAX_OBJECT - 2);
        assert!(large.data.0.is_none());
        let cause = "ConfigMap agents/magsag is too large to be read: its keys and texts must have at most 65536 bytes";
        assert_eq!(large.into_fact(), Fact::Unknown(cause.into()));
    }

    #[test]
    fn no_value_of_a_secret_outlives_its_parsing() {
        let json = r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "magsag", "annotations":
            {"kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"api-key\":\"aHVudGVyMg==\"}}"}},
            "data": {"api-key": "aHVudGVyMg==", "empty": ""}}"#;
        let secret: SecretKeys = serde_json::from_str(json).unwrap();
        assert!(!format!("{secret:?}").contains("aHVudGVyMg"));
        let Fact::Known(fact) = secret.into_fact() else {
            panic!("it is small");
        };
        let empty = |key: &str| fact.keys.get(key).map(|it| it.empty);
        assert_eq!(empty("api-key"), Some(false));
        assert_eq!(empty("empty"), Some(true));
        assert_eq!(empty("other"), None);
    }
}
