//! What is known of a variable's value, and which objects it was read from.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::facts::{Fact, FactKey, Facts};

/// Stands in a [`Value::Partial`] for what comes from a Secret, or may. No variable holds it: a C string ends there.
pub(crate) const GAP: char = '\0';

/// Stands in a [`Value::Partial`] for what is known only where the pod runs, and is no credential.
pub(crate) const HIDDEN: char = '\u{1}';

/// What is read and copied in all for one object and one rule, in bytes: more than Linux starts a process with. It
/// bounds the work and not the variables, as what a later one overrides costs time, too.
pub(super) const MAX_WORK: usize = 8 * 1024 * 1024;

/// What it costs to look at anything, however short its text is, in bytes.
const COST_OF_A_LOOK: usize = 16;

/// What is known of a variable's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value<'e> {
    /// This text.
    Text(Cow<'e, str>),
    /// It comes from the Secret of this name.
    Secret(&'e str),
    /// It is known only where the pod runs, such as the pod's address.
    Hidden,
    /// It expands to more than a process can start with, or it is more than is read for one object.
    TooLong,
    /// Some of it is known.
    Partial {
        /// The value, with a [`GAP`] or [`HIDDEN`] for each part that is not known.
        text: String,
        /// What such a part is: what is unknown before a Secret, and that before what is hidden.
        gap: Box<Self>,
    },
    /// It depends on a fact that is unknown.
    Unknown {
        /// The fact.
        fact: FactKey,
        /// Why it is unknown.
        cause: Arc<str>,
    },
}

impl Value<'_> {
    /// The text, with a [`GAP`] or [`HIDDEN`] for what is not known; `None` where it is too long.
    pub(crate) fn known_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Partial { text, .. } => Some(text),
            Self::Secret(_) | Self::Unknown { .. } => Some("\0"),
            Self::Hidden => Some("\u{1}"),
            Self::TooLong => None,
        }
    }
}

/// Whether some of `text` stands for what is not known.
pub(crate) fn has_gap(text: &str) -> bool {
    text.contains([GAP, HIDDEN])
}

/// An object whose content or absence decides a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source<'e> {
    /// The ConfigMap of this name.
    ConfigMap(&'e str),
    /// The Secret of this name.
    Secret(&'e str),
}

impl<'e> Source<'e> {
    /// Its name.
    pub(crate) fn name(self) -> &'e str {
        match self {
            Self::ConfigMap(name) | Self::Secret(name) => name,
        }
    }

    /// Whether a value may rest on it. A Secret that is unknown stays unread: none of its values would be known, and where
    /// the policy asks for nothing of Secrets there is no right to read it.
    pub(super) fn is_read(self, facts: &Facts) -> bool {
        match self {
            Self::ConfigMap(_) => true,
            Self::Secret(name) => !matches!(facts.secret(name), Fact::Unknown(_)),
        }
    }

    /// The fact that is known of it.
    pub(crate) fn key(self) -> FactKey {
        match self {
            Self::ConfigMap(name) => FactKey::ConfigMap(name.to_owned()),
            Self::Secret(name) => FactKey::Secret(name.to_owned()),
        }
    }
}

/// The objects that a value rests on. Most values rest on none or one, for which nothing is allocated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RestsOn<'e> {
    first: Option<Source<'e>>,
    others: BTreeSet<Source<'e>>,
}

impl<'e> RestsOn<'e> {
    /// Adds one more.
    pub(crate) fn add(&mut self, source: Source<'e>) {
        if *self.first.get_or_insert(source) != source {
            self.others.insert(source);
        }
    }

    /// Each once.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Source<'e>> {
        self.first.into_iter().chain(self.others.iter().copied())
    }

    /// Adds all of `sources`; `None` where that costs more than may be spent.
    pub(super) fn extend(
        &mut self,
        sources: impl Iterator<Item = Source<'e>>,
        budget: &Budget,
    ) -> Option<()> {
        for source in sources {
            budget.look(0)?;
            self.add(source);
        }
        Some(())
    }
}

impl<'e> FromIterator<Source<'e>> for RestsOn<'e> {
    fn from_iter<I: IntoIterator<Item = Source<'e>>>(sources: I) -> Self {
        let mut all = Self::default();
        sources.into_iter().for_each(|it| all.add(it));
        all
    }
}

/// What may still be read and copied, shared by the containers of one object.
#[derive(Debug)]
pub(crate) struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(MAX_WORK))
    }
}

impl Budget {
    /// Takes what reading or copying so many bytes costs; `None` where that is too much.
    pub(super) fn read(&self, bytes: usize) -> Option<()> {
        self.0.set(self.0.get().checked_sub(bytes)?);
        Some(())
    }

    /// Takes what looking at so many bytes costs; `None` where that is too much.
    pub(super) fn look(&self, bytes: usize) -> Option<()> {
        self.read(bytes.saturating_add(COST_OF_A_LOOK))
    }
}
