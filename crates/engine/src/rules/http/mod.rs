//! `http/*`: what the application serves.

pub(super) mod cors_explicit;
pub(super) mod cors_wildcard;
