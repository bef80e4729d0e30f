//! Nodes as network namespaces of this machine: their networks, repair and clean-up. Needs root.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, in its helpers too"
)]

mod clean;
mod encrypted;
mod lab;
mod local;
mod overlay;
mod repair;
