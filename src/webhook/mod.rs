//! The webhook: server, TLS and the admission handlers.

mod certificate_store;
mod certificates;
mod handler;
mod head;
mod mutate;
mod own_kinds;
mod owner;
mod response;
mod review;
mod server;
mod tls;
mod token;

pub use certificate_store::keep as keep_certificates;
pub use server::{Limits, Readiness, listen, serve, serve_probes};
pub use tls::Served;
pub use token::{Token, Trust};
