//! What the swarm keeps running.

mod create;
mod flags;
mod health;
mod inspect;
mod logs;
mod ls;
mod names;
mod pretty;
mod progress;
mod ps;
mod rm;
mod rollback;
mod scale;
mod update;
mod wait;
mod write;

use clap::Subcommand;

pub(crate) use wait::{WaitFlags, Waiting};

use crate::connect::Host;
use crate::error::Error;

/// What can be done to services.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Create(Box<create::Create>),
    Inspect(inspect::Inspect),
    Logs(logs::Logs),
    #[command(alias = "list")]
    Ls(ls::Ls),
    Ps(ps::Ps),
    #[command(alias = "remove")]
    Rm(rm::Rm),
    Rollback(rollback::Rollback),
    Scale(scale::Scale),
    Update(Box<update::Update>),
}

impl Verb {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        match self {
            Self::Create(command) => command.run(host).await,
            Self::Inspect(command) => command.run(host).await,
            Self::Logs(command) => command.run(host).await,
            Self::Ls(command) => command.run(host).await,
            Self::Ps(command) => command.run(host).await,
            Self::Rm(command) => command.run(host).await,
            Self::Rollback(command) => command.run(host).await,
            Self::Scale(command) => command.run(host).await,
            Self::Update(command) => command.run(host).await,
        }
    }
}
