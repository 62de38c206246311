//! The emergency brake: `enforcementCeiling`, a key of a ConfigMap in the operator's namespace.

use portcullis_api::Enforcement;
use tokio::sync::watch;

/// The strictest thing that any policy of the cluster may do. Read on each request, changed by a watch.
#[derive(Debug)]
pub struct Ceiling(watch::Sender<Enforcement>);

impl Default for Ceiling {
    fn default() -> Self {
        Self(watch::Sender::new(Enforcement::Deny))
    }
}

impl Ceiling {
    /// The ceiling in force.
    pub fn get(&self) -> Enforcement {
        *self.0.borrow()
    }

    /// Puts another ceiling in force.
    pub fn set(&self, ceiling: Enforcement) {
        self.0
            .send_if_modified(|now| std::mem::replace(now, ceiling) != ceiling);
    }

    /// Tells of each change, also of one that was taken back at once.
    pub fn subscribe(&self) -> watch::Receiver<Enforcement> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_was_taken_back_at_once_is_told() {
        let ceiling = Ceiling::default();
        let changes = ceiling.subscribe();
        ceiling.set(Enforcement::Deny);
        assert!(!changes.has_changed().unwrap(), "it is in force already");
        ceiling.set(Enforcement::Warn);
        ceiling.set(Enforcement::Deny);
        assert!(changes.has_changed().unwrap(), "somebody may have seen it");
    }
}
