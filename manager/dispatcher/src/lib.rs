//! Tells each node its tasks and the store what the nodes report; runs on the leader.
//!
//! | owned task | where | ends |
//! |---|---|---|
//! | routes commits to sessions, expires nodes, gives up orphans | [`Dispatcher::run`] | its token |
//! | puts statuses together into transactions | `writer` | with `run` |
//! | asks a driver for one task's secret | `fetch` | its answer, or its session |
//! | one for each session | `session` | its stream, a newer session, expiry, or `run` |
//!
//! Channels: writes go to the writer by a bounded queue; a session is woken through its mailbox,
//! which holds only which tasks to read again.

mod assignments;
mod check;
mod content;
mod dispatcher;
mod driver;
mod fetch;
mod liveness;
mod mailbox;
mod notice;
mod options;
mod orphans;
mod reach;
mod reports;
mod service;
mod session;
mod suspicion;
mod term;
mod wireguard_keys;
mod writer;

pub use dispatcher::Dispatcher;
pub use driver::SecretDrivers;
pub use options::{LeaderAddr, Options};
pub use service::LEADER_KEY;

#[cfg(test)]
mod tests;
