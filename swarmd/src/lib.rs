//! The daemon on every node: options, listeners, identity, role changes, shutdown.
//!
//! [`Daemon`] owns the directory and the local socket, and at most one `node`: the part this
//! machine has in a swarm. A node owns its agent and, while its certificate says manager, a
//! `manager_side` with everything managers run.
//!
//! | owned task | where | ends |
//! |---|---|---|
//! | the local socket's services | `local` | [`Daemon::shutdown`] |
//! | the node: certificate, role, leaving | `node::actor` | leaving, removal, shutdown |
//! | the agent | `node::actor` | with the node |
//! | services for other nodes, leading, settling | `manager_side` | demotion, or with the node |

pub mod address;
pub mod authorize;
mod certificate;
mod daemon;
mod dialer;
mod error;
mod group;
pub mod harden;
mod image_use;
mod images;
mod interfaces;
mod key_keeper;
mod leader_parts;
mod leave;
mod local;
mod logs;
mod manager_side;
pub mod memory;
mod network_checks;
mod node;
mod options;
mod settle;
pub mod socket_group;
pub mod state_dir;
mod switch;
mod view;

pub use daemon::{Daemon, Init, Initialized, Join};
pub use error::{Error, chain};
pub use options::{
    ExecutorChoice, KEY_PERIOD_DEFAULT, Options, RUN_DIR_DEFAULT, RaftTiming, SOCKET_DEFAULT,
    STATE_DIR_DEFAULT,
};
pub use view::{Membership, Standing, View};
