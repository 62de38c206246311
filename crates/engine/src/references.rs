//! Which objects beside itself a subject is judged by, so that a caller can look them up before `evaluate`.

use std::collections::BTreeSet;

use crate::facts::FactKey;
use crate::subject::Subject;

/// The Secrets and ConfigMaps of its own namespace that `subject` refers to.
#[must_use]
pub fn references(_subject: &Subject<'_>) -> BTreeSet<FactKey> {
    BTreeSet::new()
}
