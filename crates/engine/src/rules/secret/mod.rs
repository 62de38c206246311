//! `secret/*`: credentials and where they come from.

pub(super) mod key_missing;
pub(super) mod literal;
pub(super) mod missing;
