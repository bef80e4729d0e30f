//! The dispatcher over gRPC on a connection in memory, with agents that follow a script.

pub(crate) mod contents;
pub(crate) mod fixture;
mod liveness;
mod reports;
mod sessions;
