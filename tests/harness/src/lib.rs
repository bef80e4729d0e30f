//! A swarm on one machine: nodes as network and pid namespaces running the real programs.
//!
//! Used by the demo, the benchmarks and the end-to-end tests. Everything a [`Lab`] makes (processes,
//! namespaces, cgroups, files) goes away with it, also when a test panics.

pub mod capture;
mod cut;
mod http;
pub mod image;
pub mod lab;
mod net;
pub mod node;
pub mod probe;
pub mod programs;
pub mod story;
pub mod wait;

pub use lab::{Lab, LabOptions};
pub use node::Node;
pub use probe::Probe;
pub use programs::Programs;
pub use wait::{eventually, wait_for};

/// Why nothing of this can run here, if so: it needs root and the tools of `iproute2`.
#[must_use]
pub fn unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    match std::process::Command::new("ip").arg("-V").output() {
        Ok(_) => None,
        Err(error) => Some(format!("needs the ip program (package iproute2): {error}")),
    }
}
