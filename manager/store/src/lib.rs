//! What is true: the objects of the cluster in memory, transactions on them, and the watch.
//!
//! One writer (the Raft apply loop) changes a [`State`] transaction by transaction; readers take
//! O(1) snapshots and never block it. A transaction carries the versions it read and is checked
//! when applied, so nobody holds a lock across consensus. Applying is deterministic: it reads no
//! clock, no randomness and no options, so every manager holds the same state at the same index.

mod address_range;
mod apply;
pub mod codec;
mod conflict;
mod connection;
mod holdings;

mod object;
mod planner;
mod propose;
mod state;
mod store;
pub mod subnets;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;

pub use address_range::AddressRange;
pub use conflict::PREDEFINED;
pub use holdings::{Holder, Holdings, given_port};
pub use object::{Kind, Object, ObjectId};
pub use planner::{Plan, PlanContext, Planner};
pub use propose::{Propose, ProposeError};
pub use state::State;
pub use store::{Commit, Event, RestoreError, Store, Watch};
pub use transaction::{
    Action, Change, Refusal, RefusalReason, TRANSACTION_ACTIONS_MAX, TRANSACTION_BYTES_MAX,
    Transaction,
};
