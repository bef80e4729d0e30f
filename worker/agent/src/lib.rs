//! The part of a worker that talks to the managers and keeps the node's tasks going.
//!
//! Tasks and channels:
//!
//! - [`Agent::run`] looks for the leader ([`search`]), then holds one session with it
//!   ([`session`]): assignments come in, statuses and heartbeats go out.
//! - One [`driver`] per cluster task steps it through its states. It is told what is wanted by a
//!   `watch` and tells what it observed through the [`outbox`], which keeps the latest status of
//!   each task until a manager has stored it. Drivers live in a tracker and end with the agent or
//!   when their task is withdrawn; they do not care whether there is a session.
//! - One thread writes task records ([`files`]); it ends when the agent drops it.
//! - One [`logs`] publisher per session, with one task per subscription.
//!
//! Stopping the agent leaves every container running.

mod agent;
mod assignments;
mod content;
mod driver;
mod files;
mod logs;
mod managers;
mod networks;
mod notice;
mod options;
mod outbox;
mod search;
mod session;
mod tasks;

pub use agent::Agent;
pub use notice::NodeNotice;
pub use options::{DialError, Error, ManagerDialer, Options};

#[cfg(test)]
mod tests;
