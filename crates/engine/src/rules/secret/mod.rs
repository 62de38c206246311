//! `secret/*`: credentials and where they come from.

mod commands;
mod credentials;
mod entries;
pub(super) mod key_missing;
pub(super) mod literal;
pub(super) mod missing;
mod names;
mod remedies;
mod shapes;
mod uses;
