//! Harness and tests of the whole.

pub mod cluster;
pub mod scenario;
pub mod sim_executor;
