//! Real containers, made by the real shim. Needs root and `busybox-static`; says so where it has not.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, in its helpers too"
)]

mod cgroups;
mod differential;
mod exec;
mod exit;
mod harness;
mod hostile;
mod identity;
mod isolation;
mod limits;
mod survival;
