//! Which tasks exist: reconciling services, restarts, updates, history.
//!
//! Three leader loops, each a [`store::Planner`]:
//!
//! * [`Orchestrator`] alone creates tasks and says what is wanted of them. It plans one service at
//!   a time ([`reconcile`](orchestrator)): how many slots there are (`replicated`, `global`), then
//!   for each slot exactly one thing, either a step of an update (`update`) or care for the task
//!   that fills it (`supervise`).
//! * [`Enforcer`] rejects tasks whose node has stopped fitting them.
//! * [`Reaper`] deletes tasks that are over.
//!
//! All of them work from the stored state. What they keep in memory says where to look next, so a
//! new leader goes on where the old one stopped.
//!
//! # Where this differs from Swarm, and why
//!
//! * Tasks moved because their node is DOWN, drained or removed are replaced without delay, whatever
//!   the restart condition, and do not count as attempts: the policy is about how a task ends, not
//!   about its machine (S23.23, S8.12).
//! * The minute a replacement waits for its predecessor begins after the restart delay (S23.04).
//! * A task that fails while it waits to be updated is restarted as it was. Swarm gives it the new
//!   spec, past parallelism and failure detection, even while the update is paused.
//! * A task that completes under condition `none` or `on-failure` is no failed update (S23.02), and
//!   a failing rollback stays paused whatever its failure action (S23.03).
//! * An update that waits for a task says so in its status message (S23.01).
//! * A rejected task is not retried more than once a second, even at restart delay 0.

mod agenda;
mod batch;
mod draft;
mod enforcer;
mod global;
mod orchestrator;
mod reaper;
mod replicated;
mod restart;
mod revision;
mod slot;
mod supervise;
mod update;
mod versions;
mod view;

#[cfg(test)]
mod fixture;

pub use enforcer::Enforcer;
pub use orchestrator::Orchestrator;
pub use reaper::Reaper;
pub use versions::VersionReaper;

use store::Planner;

/// Every leader loop that decides about tasks, in the order in which a task meets them.
///
/// The allocator and the scheduler are given, since planners know only types and store, not each
/// other. The leader and the scenario tests both take their list from here.
#[must_use]
pub fn planners(allocator: Box<dyn Planner>, scheduler: Box<dyn Planner>) -> Vec<Box<dyn Planner>> {
    vec![
        Box::new(Orchestrator::default()),
        allocator,
        scheduler,
        Box::new(Enforcer::default()),
        Box::new(Reaper::default()),
        Box::new(VersionReaper::default()),
    ]
}
