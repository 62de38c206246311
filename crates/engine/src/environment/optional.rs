//! What an optional reference may hide: where it turns out to be absent, the kubelet keeps the earlier value.

use std::cell::OnceCell;
use std::collections::HashSet;

use super::{Environment, is_literal};
use crate::facts::Fact;
use crate::object::EnvVar;

impl<'e, 'a> Environment<'e, 'a, '_> {
    /// The same environment where each optional reference is absent of which nobody knows; `None` where none of them may
    /// hide an earlier value. An unknown ConfigMap is not among them: what it may set is unknown and reported as such.
    pub(crate) fn without_optional(&self) -> Option<Self> {
        // Hardly any container has such a reference, and every review asks.
        if !self.container.env.iter().any(|it| self.may_be_absent(it)) {
            return None;
        }
        let has_sources = !self.container.env_from.is_empty();
        let mut earlier = HashSet::new();
        let hides = self.container.env.iter().any(|it| {
            let is_set = !earlier.insert(it.name.as_str()) || has_sources;
            is_set && self.may_be_absent(it)
        });
        hides.then(|| Self {
            // They are paid for once.
            sources: OnceCell::from(self.sources().clone()),
            definitions: OnceCell::new(),
            is_optional_absent: true,
            container: self.container,
            metadata: self.metadata,
            facts: self.facts,
            budget: self.budget,
        })
    }

    /// Whether the entry refers to what may be absent when the pod starts, without any harm to it.
    pub(super) fn may_be_absent(&self, variable: &'e EnvVar<'a>) -> bool {
        let Some(source) = variable.value_from.as_ref().filter(|_| !is_literal(variable)) else {
            return false;
        };
        match &source.secret_key_ref {
            Some(it) => it.optional && matches!(self.facts.secret(&it.name), Fact::Unknown(_)),
            None => source.file_key_ref.as_ref().is_some_and(|it| it.optional),
        }
    }
}
