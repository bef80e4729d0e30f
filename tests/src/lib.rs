//! Harness and tests of the whole.

pub mod scenario;
