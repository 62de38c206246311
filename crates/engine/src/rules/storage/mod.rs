//! `storage/*`: the data of databases and brokers.

pub(super) mod permissions;
