//! What the engine is told beside the object: policies, the cluster's ceiling, Secrets and ConfigMaps. Watches keep
//! them in memory; look-ups ask the API server.

mod ceiling;
mod config_maps;
mod connections;
mod listing;
mod look_up;
mod namespaces;
mod pods;
mod policies;
mod shelf;
mod sources;
mod watch;
mod watched;

pub use ceiling::Ceiling;
pub use connections::Connections;
pub use listing::{INGRESSES, Pages, WORKLOADS, is_made_by_controller, items, template_labels};
pub use look_up::{LookUp, is_object_name, look_up};
pub use namespaces::watch_namespaces;
pub use pods::{Backends, Backing};
pub use policies::{Known, Policies, cannot_be_read};
pub use watch::{watch_ceiling, watch_policies};
pub use watched::Watched;
