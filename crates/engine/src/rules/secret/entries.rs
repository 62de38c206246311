//! The credentials that a policy declares, and how a workload takes them.

use crate::object::{Container, PodSpec};
use crate::policy::CompiledEntry;
use crate::rules::Context;
use crate::subject::{ContainerKind, ContainerRef};

/// The declared entries.
pub(super) fn all<'c>(context: &Context<'c, '_>) -> &'c [CompiledEntry] {
    let secrets = context.policy.secrets.as_ref();
    secrets.map_or(&[], |it| it.entries.as_slice())
}

/// Whether the entry speaks of the subject: by its components, or where it states none by its names alone.
pub(super) fn concerns(context: &Context<'_, '_>, entry: &CompiledEntry) -> bool {
    let names = entry.components.as_ref();
    names.is_none_or(|names| context.components.iter().any(|it| names.contains(&it.name)))
}

/// Whether the subject must have the entry.
pub(super) fn is_needed(context: &Context<'_, '_>, entry: &CompiledEntry) -> bool {
    entry.components.is_some() && concerns(context, entry)
}

/// The containers that may fulfil an entry: those that its delivery names, else all but those of `kubectl debug`.
pub(super) fn candidates<'s, 'a>(
    context: &Context<'s, 'a>,
    entry: &CompiledEntry,
) -> impl Iterator<Item = ContainerRef<'s, 'a>> {
    context.subject.containers().filter(|it| {
        let is_named = || {
            entry
                .deliver_to
                .iter()
                .any(|name| *name == it.container.name.as_str())
        };
        it.kind != ContainerKind::Ephemeral && (entry.deliver_to.is_empty() || is_named())
    })
}

/// Whether a container takes the entry from its very Secret and key: by reference, `envFrom` or mount. A `_FILE`
/// variable needs the mount that it points into, and that mount is enough.
pub(super) fn is_fulfilled_by(entry: &CompiledEntry, container: &Container<'_>, spec: &PodSpec<'_>) -> bool {
    by_reference(entry, container) || by_env_from(entry, container) || by_mount(entry, container, spec)
}

fn by_reference(entry: &CompiledEntry, container: &Container<'_>) -> bool {
    let sources = container.env.iter().filter(|it| entry.is_named(&it.name));
    let mut references = sources.filter_map(|it| it.value_from.as_ref()?.secret_key_ref.as_ref());
    references.any(|it| it.name.as_str() == entry.secret && it.key.as_str() == entry.key)
}

fn by_env_from(entry: &CompiledEntry, container: &Container<'_>) -> bool {
    // A variable of `env` hides one of `envFrom`.
    let is_hidden = container.env.iter().any(|it| entry.is_named(&it.name));
    !is_hidden
        && container.env_from.iter().any(|source| {
            let is_secret = source
                .secret_ref
                .as_ref()
                .is_some_and(|it| it.name.as_str() == entry.secret);
            is_secret && entry.is_named(&format!("{}{}", source.prefix, entry.key))
        })
}

fn by_mount(entry: &CompiledEntry, container: &Container<'_>, spec: &PodSpec<'_>) -> bool {
    let is_mounted = |name: &str| container.volume_mounts.iter().any(|it| it.name.as_str() == name);
    let has = |secret: &str, items: &[crate::object::KeyToPath<'_>]| {
        secret == entry.secret && (items.is_empty() || items.iter().any(|it| it.key.as_str() == entry.key))
    };
    spec.volumes
        .iter()
        .filter(|it| is_mounted(&it.name))
        .any(|volume| {
            let secret = volume.secret.as_ref();
            let mut projected = volume.projected.iter().flat_map(|it| &it.sources);
            secret.is_some_and(|it| has(&it.secret_name, &it.items))
                || projected.any(|it| it.secret.as_ref().is_some_and(|it| has(&it.name, &it.items)))
        })
}
