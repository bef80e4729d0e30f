//! Real containers, made by the real shim. Needs root and `busybox-static`; says so where it has not.

mod cgroups;
mod differential;
mod exit;
mod harness;
mod hostile;
mod identity;
mod isolation;
mod limits;
mod survival;
