//! The emergency brake: `enforcementCeiling`, a key of a ConfigMap in the operator's namespace.

use std::sync::atomic::{AtomicU8, Ordering};

use portcullis_api::Enforcement;

/// The strictest thing that any policy of the cluster may do. Read on each request, changed by a watch.
#[derive(Debug)]
pub struct Ceiling(AtomicU8);

impl Default for Ceiling {
    fn default() -> Self {
        Self(AtomicU8::new(encode(Enforcement::Deny)))
    }
}

impl Ceiling {
    /// The ceiling in force.
    pub fn get(&self) -> Enforcement {
        match self.0.load(Ordering::Relaxed) {
            0 => Enforcement::Audit,
            1 => Enforcement::Warn,
            _ => Enforcement::Deny,
        }
    }

    /// Puts another ceiling in force.
    pub fn set(&self, ceiling: Enforcement) {
        self.0.store(encode(ceiling), Ordering::Relaxed);
    }
}

fn encode(ceiling: Enforcement) -> u8 {
    match ceiling {
        Enforcement::Audit => 0,
        Enforcement::Warn => 1,
        Enforcement::Deny => 2,
    }
}
