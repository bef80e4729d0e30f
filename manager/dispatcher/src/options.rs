//! What a dispatcher works on.

use std::sync::Arc;

use store::{Propose, Store};

use crate::SecretDrivers;

/// Tells where the leader is, as `host:port`, if this manager knows.
pub type LeaderAddr = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// A dispatcher's environment.
#[derive(Clone)]
pub struct Options {
    /// What is true.
    pub store: Store,
    /// How to change it. Used only while leading.
    pub proposer: Arc<dyn Propose>,
    /// Where agents are sent while this manager does not lead.
    pub leader_addr: LeaderAddr,
    /// Programs that give the content of secrets.
    pub secret_drivers: Arc<SecretDrivers>,
}
