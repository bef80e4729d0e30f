//! Real containers, made by the real shim. Needs root and `busybox-static`; says so where it has not.

mod exit;
mod harness;
