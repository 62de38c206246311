//! Which objects beside itself a subject refers to, so that a caller can look them up before `evaluate`.

use std::collections::BTreeSet;

use crate::facts::FactKey;
use crate::object::{Container, PodSpec, Volume};
use crate::subject::{Subject, containers};

/// The Secrets and ConfigMaps of its own namespace that the pods of `subject` refer to, in any container and volume.
///
/// To be asked after [`crate::mutation::apply`], which adds references. ConfigMaps that are mounted as files are not
/// among them, as no rule reads them.
#[must_use]
pub fn references(subject: &Subject<'_>) -> BTreeSet<FactKey> {
    let mut keys = BTreeSet::new();
    if let Some((_, spec)) = subject.pod() {
        of_pod(spec, &mut keys);
    }
    keys
}

fn of_pod(spec: &PodSpec<'_>, keys: &mut BTreeSet<FactKey>) {
    for it in containers(spec) {
        of_container(it.container, keys);
    }
    for volume in &spec.volumes {
        of_volume(volume, keys);
    }
    for it in &spec.image_pull_secrets {
        secret(&it.name, keys);
    }
}

fn of_container(container: &Container<'_>, keys: &mut BTreeSet<FactKey>) {
    for source in container.env.iter().filter_map(|it| it.value_from.as_ref()) {
        if let Some(it) = &source.secret_key_ref {
            secret(&it.name, keys);
        }
        if let Some(it) = &source.config_map_key_ref {
            config_map(&it.name, keys);
        }
    }
    for source in &container.env_from {
        if let Some(it) = &source.secret_ref {
            secret(&it.name, keys);
        }
        if let Some(it) = &source.config_map_ref {
            config_map(&it.name, keys);
        }
    }
}

fn of_volume(volume: &Volume<'_>, keys: &mut BTreeSet<FactKey>) {
    if let Some(it) = &volume.secret {
        secret(&it.secret_name, keys);
    }
    let projected = volume.projected.iter().flat_map(|it| &it.sources);
    for it in projected.filter_map(|it| it.secret.as_ref()) {
        secret(&it.name, keys);
    }
    if let Some(it) = volume
        .csi
        .as_ref()
        .and_then(|it| it.node_publish_secret_ref.as_ref())
    {
        secret(&it.name, keys);
    }
}

/// An empty name refers to nothing: the API server refuses it, or the kubelet does.
fn secret(name: &str, keys: &mut BTreeSet<FactKey>) {
    if !name.is_empty() {
        keys.insert(FactKey::Secret(name.to_owned()));
    }
}

fn config_map(name: &str, keys: &mut BTreeSet<FactKey>) {
    if !name.is_empty() {
        keys.insert(FactKey::ConfigMap(name.to_owned()));
    }
}
