//! Who gets what of a real cluster: every RPC by every kind of caller, a hostile worker, a hostile
//! network, floods.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod caller;
mod clients;
mod flood;
mod network;
mod roles;
mod table;
mod worker;
