//! How managers agree: a replicated log of opaque bytes, its copy on disk, and who takes part.
//!
//! The crate knows nothing of the store. A [`StateMachine`] is handed committed bytes in order; a
//! [`Raft`] handle proposes bytes, reports who leads, and changes the membership. Managers reach
//! each other through a [`Dialer`] and the gRPC service of [`Raft::grpc_service`], so that TLS and
//! authorization stay with the daemon.
//!
//! Tasks and threads, all ended by [`Raft::shutdown`]:
//!
//! | what | where | channel |
//! |---|---|---|
//! | consensus (the library's own tasks) | `core` | its own bounded queues |
//! | `raft-log`, a thread that alone writes the log | `log::wal` | [`mpsc`](tokio::sync::mpsc), 1,024 commands |
//! | status: publishes [`Status`] | `core::observe` | `watch` |
//! | compaction by size | `core::observe` | `Notify` |
//!
//! On disk, under one directory of mode 0700: `lock`, `log/` (sled) or `log.redb`, `snapshot`. Every
//! record is sealed; see [`DataKey`].
//!
//! # When the disk cannot be trusted
//!
//! An I/O error while running (a full disk, a failing one) stops the member for good:
//! [`Condition::Failed`] says why, every call returns an error, and the process is expected to end. A
//! record that cannot be opened at start is an [`Error::Corrupt`] naming the record, and nothing on
//! disk is changed: the records of one write are atomic in the log, so it is damage rather than a
//! crash. The way out is to restore the directory, or to remove it and join again as a new member,
//! because every other member holds the same state.

mod core;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod handle;
mod log;
mod membership;
mod options;
mod propose;
mod snapshot;
mod state_machine;
mod status;
mod transport;

pub use error::{BoxError, Error};
pub use handle::Raft;
pub use log::seal::DataKey;
pub use options::{BackendKind, Options};
pub use propose::Committed;
pub use state_machine::StateMachine;
pub use status::{Condition, Member, Status};
pub use transport::Dialer;
pub use transport::server::GrpcService;
