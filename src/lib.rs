//! The binary's parts, and the only code that does IO. A library so that tests and benchmarks run the very server that the
//! operator runs; its interface is for them alone and promises nothing.

mod built_in;
pub mod cli;
pub mod context;
pub mod controller;
mod error;
pub mod facts;
pub mod metrics;
pub mod operator;
pub mod webhook;
