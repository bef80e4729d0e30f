//! Brings output of containers from the nodes to whoever asked; runs on the leader.
//!
//! Each node's agent keeps one `Publish` stream open. A subscription is opened on the nodes that
//! run the tasks it asks for, and each of them may send as many bytes as it was given credit for:
//! a reader that is slow, or looks at a pager, holds up its own lines and nothing else.
//!
//! | owned task | where | ends |
//! |---|---|---|
//! | opens subscriptions on nodes that get matching tasks | [`LogBroker::run`] | its token |
//! | one for each `Publish` stream | `service` | its stream, or `run` |

mod broker;
mod hub;
mod line;
mod selector;
mod service;
mod subscription;

pub use broker::{Error, LogBroker, Options};
pub use line::{Batch, LogLine, LogStreamName};
pub use selector::{LogOptions, Selector};
pub use subscription::Subscription;

#[cfg(test)]
mod tests;
