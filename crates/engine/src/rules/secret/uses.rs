//! Every place where the pods of a subject refer to a Secret.

use std::collections::BTreeSet;

use crate::object::{KeyToPath, PodSpec};
use crate::path::FieldPath;
use crate::rules::Context;
use crate::subject::{ContainerRef, Subject};

/// One reference to a Secret that the pod needs in order to start, unless it is `optional`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use<'s, 'a> {
    place: Place<'s, 'a>,
    /// Name of the Secret.
    pub secret: &'s str,
    /// What is asked of it.
    pub keys: Keys<'s, 'a>,
    /// Whether it may be absent.
    pub optional: bool,
}

/// The keys that a reference asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keys<'s, 'a> {
    /// One key for the variable of this name.
    Variable {
        /// Name of the variable.
        name: &'s str,
        /// The key.
        key: &'s str,
    },
    /// These keys as files; never empty.
    Files(&'s [KeyToPath<'a>]),
    /// Every key as a file.
    AllFiles,
    /// Every key as a variable.
    AllVariables,
}

impl<'s> Keys<'s, '_> {
    /// The keys that are asked for by name.
    pub(super) fn named(self) -> impl Iterator<Item = &'s str> {
        let (one, files): (Option<&'s str>, &'s [KeyToPath<'_>]) = match self {
            Self::Variable { key, .. } => (Some(key), &[]),
            Self::Files(items) => (None, items),
            Self::AllFiles | Self::AllVariables => (None, &[]),
        };
        one.into_iter().chain(files.iter().map(|it| it.key.as_str()))
    }

    /// Whether `key` comes with this reference, where the Secret has it.
    pub(super) fn include(self, key: &str) -> bool {
        matches!(self, Self::AllFiles | Self::AllVariables) || self.named().any(|it| it == key)
    }
}

#[derive(Clone, Copy, Debug)]
enum Place<'s, 'a> {
    Env(ContainerRef<'s, 'a>, usize),
    EnvFrom(ContainerRef<'s, 'a>, usize),
    Volume(usize, &'s str, Source),
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Secret,
    Projected(usize),
    Csi,
}

impl Use<'_, '_> {
    /// Path of the reference.
    pub(super) fn path(&self, subject: &Subject<'_>) -> FieldPath {
        match self.place {
            Place::Env(it, index) => {
                let name = it.container.env.get(index).map(|it| it.name.as_str());
                let path = subject.container_path(&it).field("env").item(index, name);
                path.fields(&["valueFrom", "secretKeyRef"])
            }
            Place::EnvFrom(it, index) => {
                let path = subject.container_path(&it).field("envFrom").item(index, None);
                path.field("secretRef")
            }
            Place::Volume(index, name, source) => {
                let path = subject.pod_spec_path().field("volumes").item(index, Some(name));
                match source {
                    Source::Secret => path.field("secret"),
                    Source::Projected(index) => path
                        .fields(&["projected", "sources"])
                        .item(index, None)
                        .field("secret"),
                    Source::Csi => path.fields(&["csi", "nodePublishSecretRef"]),
                }
            }
        }
    }
}

/// The references of all containers, and of the volumes that a container mounts: the kubelet ignores the others, and
/// a registry's credentials (`imagePullSecrets`) stop no pod by their absence.
pub(super) fn uses<'s, 'a>(context: &Context<'s, 'a>) -> Vec<Use<'s, 'a>> {
    let mut uses = Vec::new();
    for it in context.subject.containers() {
        of_container(it, &mut uses);
    }
    if let Some((_, spec)) = context.subject.pod() {
        of_volumes(context.subject, spec, &mut uses);
    }
    uses.retain(|it| !it.secret.is_empty());
    uses
}

fn of_container<'s, 'a>(it: ContainerRef<'s, 'a>, uses: &mut Vec<Use<'s, 'a>>) {
    for (index, variable) in it.container.env.iter().enumerate() {
        let source = variable.value_from.as_ref();
        if let Some(reference) = source.and_then(|it| it.secret_key_ref.as_ref()) {
            uses.push(Use {
                place: Place::Env(it, index),
                secret: &reference.name,
                keys: Keys::Variable {
                    name: &variable.name,
                    key: &reference.key,
                },
                optional: reference.optional,
            });
        }
    }
    for (index, source) in it.container.env_from.iter().enumerate() {
        if let Some(reference) = &source.secret_ref {
            uses.push(Use {
                place: Place::EnvFrom(it, index),
                secret: &reference.name,
                keys: Keys::AllVariables,
                optional: reference.optional,
            });
        }
    }
}

fn of_volumes<'s, 'a>(subject: &'s Subject<'a>, spec: &'s PodSpec<'a>, uses: &mut Vec<Use<'s, 'a>>) {
    if spec.volumes.is_empty() {
        return;
    }
    let mounts = subject.containers().flat_map(|it| &it.container.volume_mounts);
    let mounted: BTreeSet<&str> = mounts.map(|it| it.name.as_str()).collect();
    let volumes = spec.volumes.iter().enumerate();
    for (index, volume) in volumes.filter(|(_, it)| mounted.contains(it.name.as_str())) {
        let mut push = |source, secret, items: &'s [KeyToPath<'a>], optional| {
            let keys = if items.is_empty() {
                Keys::AllFiles
            } else {
                Keys::Files(items)
            };
            let place = Place::Volume(index, &volume.name, source);
            uses.push(Use {
                place,
                secret,
                keys,
                optional,
            });
        };
        if let Some(it) = &volume.secret {
            push(Source::Secret, it.secret_name.as_str(), &it.items, it.optional);
        }
        let sources = volume.projected.iter().flat_map(|it| &it.sources).enumerate();
        for (place, it) in sources.filter_map(|(place, it)| Some((place, it.secret.as_ref()?))) {
            push(Source::Projected(place), it.name.as_str(), &it.items, it.optional);
        }
        if let Some(it) = volume
            .csi
            .as_ref()
            .and_then(|it| it.node_publish_secret_ref.as_ref())
        {
            push(Source::Csi, it.name.as_str(), &[], false);
        }
    }
}
