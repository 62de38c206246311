//! `http/*`: what the application serves.

pub(super) mod cors_explicit;
pub(super) mod cors_wildcard;
mod names;
mod origins;
mod pattern;
mod settings;

pub(super) use self::settings::Setting;
