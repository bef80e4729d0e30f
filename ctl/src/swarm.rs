//! Making, changing, joining and leaving a swarm.

pub(crate) mod ca;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod join_token;
pub(crate) mod leave;
pub(crate) mod unlock;
pub(crate) mod unlock_key;
pub(crate) mod update;

use clap::{Subcommand, ValueEnum};
use types::node::Availability;

use crate::connect::Host;
use crate::error::Error;

/// What can be done to a swarm.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Ca(ca::Ca),
    Init(init::Init),
    Join(join::Join),
    Leave(leave::Leave),
    JoinToken(join_token::JoinToken),
    Update(update::Update),
    Unlock(unlock::Unlock),
    UnlockKey(unlock_key::UnlockKey),
}

impl Verb {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        match self {
            Self::Ca(command) => command.run(host).await,
            Self::Init(command) => command.run(host).await,
            Self::Join(command) => command.run(host).await,
            Self::Leave(command) => command.run(host).await,
            Self::JoinToken(command) => command.run(host).await,
            Self::Update(command) => command.run(host).await,
            Self::Unlock(command) => command.run(host).await,
            Self::UnlockKey(command) => command.run(host).await,
        }
    }
}

/// Whether a node takes tasks, as flags say it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AvailabilityFlag {
    // Takes tasks
    Active,
    // Keeps its tasks, takes no new ones
    Pause,
    // Gives its tasks away
    Drain,
}

impl From<AvailabilityFlag> for Availability {
    fn from(flag: AvailabilityFlag) -> Self {
        match flag {
            AvailabilityFlag::Active => Self::Active,
            AvailabilityFlag::Pause => Self::Pause,
            AvailabilityFlag::Drain => Self::Drain,
        }
    }
}

impl AvailabilityFlag {
    /// Number on the wire.
    pub(crate) fn number(self) -> i32 {
        proto::objects::Availability::from(Availability::from(self)).into()
    }
}

/// A role, as flags and arguments say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleFlag {
    // Runs tasks
    Worker,
    // Also takes part in decisions and serves users
    Manager,
}

impl From<RoleFlag> for types::NodeRole {
    fn from(flag: RoleFlag) -> Self {
        match flag {
            RoleFlag::Worker => Self::Worker,
            RoleFlag::Manager => Self::Manager,
        }
    }
}

/// How to unlock a manager, and with what.
pub(crate) fn unlock_command(key: &str) -> String {
    format!(
        "To unlock a swarm manager after it restarts, run the `swarmctl swarm unlock`\ncommand and \
         provide the following key:\n\n    {key}\n\nRemember to store this key in a password manager, \
         since without it you\nwill not be able to restart the manager.\n"
    )
}

/// The command that joins, as people paste it.
pub(crate) fn join_command(role: &str, token: &str, addr: &str) -> String {
    format!(
        "To add a {role} to this swarm, run the following command:\n\n    swarmctl join --token \
         {token} {addr}\n"
    )
}
