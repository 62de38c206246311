//! The rules of Portcullis: pure functions from policies, an object and facts to a verdict.
//!
//! No runtime, no client, no clock, no logging. Webhook, controller, background audit and command line share this
//! crate, so that they never disagree.

mod environment;
mod evaluate;
pub mod facts;
mod image_name;
pub mod mutation;
pub mod object;
pub mod path;
pub mod pods_behind;
pub mod policy;
mod references;
pub mod render;
pub mod request;
pub mod rules;
pub mod subject;
mod text;
pub mod verdict;
mod words;

pub use evaluate::{Governing, Selection, evaluate, select, select_before};
pub use facts::{ConfigMapFact, Fact, FactKey, Facts, KeyFact, SecretFact};
pub use pods_behind::{Backend, Labels, PodsBehind};
pub use policy::{CompiledPolicy, InvalidPolicy, PolicyName};
pub use references::references;
pub use subject::{Kind, Subject};
pub use text::Text;
pub use verdict::{Decision, Observed, Unknown, Verdict, Violation};
