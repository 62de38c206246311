//! Who else writes the webhook configurations: how often they had to be put back, how long to rest meanwhile, and what may
//! be told of them.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// Pause between two writes: changes of many policies become one.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest pause while somebody else keeps changing a configuration, or the API server refuses it.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Longest pause while a configuration is not there: nothing is judged until it is back.
const MAX_PAUSE_WHILE_MISSING: Duration = Duration::from_secs(2);

/// Time without a write after which the count begins anew.
pub const REST: Duration = Duration::from_secs(60);

/// Writes in a row that are not slowed down, nor told to users.
const FREE: u32 = 5;

/// What the webhook configurations in the cluster are known to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listed {
    /// They were not written yet, or one of them was deleted.
    #[default]
    Pending,
    /// They are changed or deleted again and again.
    Contested,
    /// The namespaces that they list.
    Namespaces(BTreeSet<String>),
}

/// What came of one look at the configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// They say what is demanded.
    Right,
    /// At least one had to be written.
    Wrote,
    /// They could not be read or written.
    Failed,
}

/// How often the same demand had to be written again, because somebody else writes something different or the API server
/// refuses it. Policies that come and go change the demand and are no contest.
#[derive(Debug)]
pub struct Contest<Demand> {
    demand: Option<Demand>,
    /// Writes, done or refused.
    tries: u32,
    writes: u32,
    last: Option<Instant>,
    is_missing: bool,
}

impl<Demand: PartialEq> Contest<Demand> {
    /// No look was taken yet.
    pub fn new() -> Self {
        Self {
            demand: None,
            tries: 0,
            writes: 0,
            last: None,
            is_missing: false,
        }
    }

    /// One look at the configurations. A long rest lets the count begin anew.
    pub fn note(&mut self, look: Look, demand: Demand) {
        let now = Instant::now();
        let rested = self.last.is_none_or(|it| now - it >= REST);
        if rested || self.demand.as_ref() != Some(&demand) {
            (self.tries, self.writes) = (0, 0);
        }
        self.demand = Some(demand);
        if look != Look::Right {
            self.tries = self.tries.saturating_add(1);
            self.last = Some(now);
        }
        if look == Look::Wrote {
            self.writes = self.writes.saturating_add(1);
        }
        if look != Look::Failed {
            self.is_missing = false;
        }
    }

    /// A configuration was deleted; until it is put back, none lists any namespace.
    pub fn note_missing(&mut self) {
        self.is_missing = true;
    }

    /// How long to rest before the next look.
    pub fn pause(&self) -> Duration {
        let doublings = self.tries.saturating_sub(FREE);
        let longest = if self.is_missing {
            MAX_PAUSE_WHILE_MISSING
        } else {
            MAX_PAUSE
        };
        (PAUSE * 2_u32.saturating_pow(doublings)).min(longest)
    }

    /// Whether somebody else changes or deletes them again and again.
    pub fn is_contested(&self) -> bool {
        self.writes > FREE
    }

    /// What may be told of the configurations, when they list `namespaces` now.
    pub fn listed(&self, namespaces: BTreeSet<String>) -> Listed {
        if self.is_contested() {
            Listed::Contested
        } else if self.is_missing {
            Listed::Pending
        } else {
            Listed::Namespaces(namespaces)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn governed() -> BTreeSet<String> {
        ["agents".to_owned()].into()
    }

    #[test]
    fn r12_a_contest_is_slowed_down() {
        let mut contest = Contest::new();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            contest.note(Look::Wrote, 1);
            pauses.push(contest.pause().as_secs());
        }
        assert_eq!(pauses, [1, 1, 1, 1, 1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn policies_that_come_and_go_are_never_slowed_down() {
        let mut contest = Contest::new();
        for demand in 0..100 {
            contest.note(Look::Wrote, demand);
            assert_eq!(contest.pause(), PAUSE);
        }
    }

    #[test]
    fn a_contest_is_told_and_a_refusal_is_none() {
        let mut contest = Contest::new();
        for _ in 0..FREE {
            contest.note(Look::Wrote, 1);
            assert_eq!(contest.listed(governed()), Listed::Namespaces(governed()));
        }
        contest.note(Look::Failed, 1);
        assert_eq!(contest.listed(governed()), Listed::Namespaces(governed()));
        contest.note(Look::Wrote, 1);
        assert_eq!(contest.listed(governed()), Listed::Contested);
        contest.note(Look::Right, 1);
        assert_eq!(contest.listed(governed()), Listed::Contested, "until it rested");
        contest.last = Some(Instant::now() - REST);
        contest.note(Look::Right, 1);
        assert_eq!(contest.listed(governed()), Listed::Namespaces(governed()));
    }

    #[test]
    fn r12_what_is_missing_lists_nothing_and_is_put_back_soon() {
        let mut contest = Contest::new();
        for _ in 0..12 {
            contest.note(Look::Failed, 1);
        }
        assert_eq!(contest.pause(), MAX_PAUSE);
        contest.note_missing();
        assert_eq!(contest.pause(), MAX_PAUSE_WHILE_MISSING);
        assert_eq!(contest.listed(governed()), Listed::Pending);
        contest.note(Look::Failed, 1);
        assert_eq!(contest.listed(governed()), Listed::Pending, "still missing");
        contest.note(Look::Wrote, 1);
        assert_eq!(contest.pause(), MAX_PAUSE);
        assert_eq!(contest.listed(governed()), Listed::Namespaces(governed()));
    }
}
