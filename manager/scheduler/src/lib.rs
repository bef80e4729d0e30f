//! Where tasks run: filters rule nodes out, spreading chooses among the rest.
//!
//! [`Scheduler`] keeps count of what each node carries as changes go by, so that a plan costs the
//! nodes and the waiting tasks, never all tasks. It sets ASSIGNED, and SHUTDOWN on tasks that were
//! given up before they had a node; nothing else.

mod failures;
mod filter;
mod load;
mod scheduler;
mod spread;

#[cfg(test)]
mod fixture;

pub use scheduler::Scheduler;
