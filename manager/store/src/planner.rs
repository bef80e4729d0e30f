//! The shape of a leader loop: marks what changed, then plans from the state alone.

use types::Timestamp;
use types::id::IdSource;

use crate::{Action, Change, State};

/// One leader loop. Level-triggered: what happened only marks a key dirty, planning re-reads.
pub trait Planner: Send {
    /// For logs and status pages.
    fn name(&self) -> &'static str;

    /// Marks what a committed change concerns.
    fn observe(&mut self, change: &Change);

    /// Marks everything: at leader start, after a lagging watch or a refused transaction.
    fn resync(&mut self, state: &State);

    /// Decides what to change now. Must come to rest: planning again on an unchanged state at
    /// the same time yields nothing.
    fn plan(&mut self, context: &mut PlanContext<'_>) -> Plan;
}

/// Everything a plan may depend on.
pub struct PlanContext<'a> {
    /// The state as last committed.
    pub state: &'a State,
    /// The time it is.
    pub now: Timestamp,
    /// Where new ids come from.
    pub ids: &'a mut dyn IdSource,
}

/// What to change, and when to look again though nothing happens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Independent transactions of at most `TRANSACTION_ACTIONS_MAX` actions each.
    pub transactions: Vec<Vec<Action>>,
    /// When to plan again at the latest.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    /// Adds actions that need not be atomic, cut into transactions of the allowed size.
    pub fn add_independent(&mut self, actions: Vec<Action>) {
        let mut rest = actions.into_iter().peekable();
        while rest.peek().is_some() {
            self.transactions
                .push(rest.by_ref().take(crate::TRANSACTION_ACTIONS_MAX).collect());
        }
    }

    /// Notes that planning is due at `at`, keeping the earliest such time.
    pub fn wake_no_later_than(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }
}
