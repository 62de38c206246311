//! What the engine may know beside the object. It reads nothing itself: webhook, controller and command line fill this.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::pods_behind::PodsBehind;

/// Something that was looked up. Unknown is never taken for fine, and never for broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// It is there.
    Known(T),
    /// It was looked up and is not there.
    Absent,
    /// It could not be looked up; the text says why, in the words of ours.
    Unknown(Arc<str>),
}

/// What is known of a Secret. Never a value, nor a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFact {
    /// Its keys.
    pub keys: BTreeMap<String, KeyFact>,
}

/// What is known of one key of a Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyFact {
    /// Whether the value has no bytes.
    pub empty: bool,
}

/// What is known of a ConfigMap: its texts, which are no secret. Binary keys are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMapFact {
    /// Key and text.
    pub data: BTreeMap<String, String>,
}

/// Names an object that a verdict rests on, so that it can be looked up live before a denial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactKey {
    /// A Secret of the subject's namespace, by name.
    Secret(String),
    /// A ConfigMap of the subject's namespace, by name.
    ConfigMap(String),
}

/// All facts for one subject. What was never put in is unknown.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Secrets of the subject's namespace, by name.
    pub secrets: BTreeMap<String, Fact<Arc<SecretFact>>>,
    /// ConfigMaps of the subject's namespace, by name.
    pub config_maps: BTreeMap<String, Fact<Arc<ConfigMapFact>>>,
    /// The pods behind an Ingress; `None` for other kinds, and where no policy asks for them.
    pub pods_behind: Option<Fact<PodsBehind>>,
}

impl Facts {
    /// What is known of the Secret `name`.
    #[must_use]
    pub fn secret(&self, name: &str) -> Fact<&SecretFact> {
        look_up(&self.secrets, "Secret", name)
    }

    /// What is known of the ConfigMap `name`.
    #[must_use]
    pub fn config_map(&self, name: &str) -> Fact<&ConfigMapFact> {
        look_up(&self.config_maps, "ConfigMap", name)
    }
}

fn look_up<'f, T>(facts: &'f BTreeMap<String, Fact<Arc<T>>>, kind: &str, name: &str) -> Fact<&'f T> {
    match facts.get(name) {
        Some(Fact::Known(it)) => Fact::Known(it),
        Some(Fact::Absent) => Fact::Absent,
        Some(Fact::Unknown(cause)) => Fact::Unknown(Arc::clone(cause)),
        None => Fact::Unknown(format!("{kind} {name} was not looked up").into()),
    }
}
