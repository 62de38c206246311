//! `secret/*`: credentials and where they come from.

mod commands;
pub(super) mod credentials;
mod entries;
pub(super) mod key_missing;
pub(super) mod literal;
pub(super) mod missing;
pub(super) mod names;
mod remedies;
mod shapes;
mod uses;
