//! The crate against the kernel, in network namespaces these tests make; needs root.

mod balancer;
mod faithful;
mod lab;
mod mesh;
mod sealed;
