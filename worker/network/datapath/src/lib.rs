//! The datapath process: what of a node's network is served by a program and outlives the daemon.
//!
//! One thread. [`dns`] answers names in every sandbox, [`gossip`] learns which nodes live,
//! [`encryption`] has the tunnel's threads carry encrypted networks, [`process`] takes orders over a unix socket (`datapath-client` is the other end) and hands everything over to
//! a newer release of itself.

pub mod dns;
pub mod encryption;
pub mod gossip;
pub mod namespace;
pub mod process;
