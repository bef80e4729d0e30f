//! The whole identity story over real TLS and gRPC on the loopback interface.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

// The name by which the rest of the workspace knows the crate.
extern crate swarm_ca as ca;

mod authorization;
mod echo;
mod fixture;
mod joining;
mod local_socket;
mod mutual_tls;
mod rotation;
