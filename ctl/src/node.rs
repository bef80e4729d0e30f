//! The machines of the swarm.

mod change;
mod demote;
mod inspect;
mod ls;
mod promote;
mod ps;
mod rm;
mod update;

use clap::Subcommand;

use crate::connect::Host;
use crate::error::Error;

/// What can be done to nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Demote(demote::Demote),
    Inspect(inspect::Inspect),
    #[command(alias = "list")]
    Ls(ls::Ls),
    Promote(promote::Promote),
    Ps(ps::Ps),
    #[command(alias = "remove")]
    Rm(rm::Rm),
    Update(update::Update),
}

impl Verb {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        match self {
            Self::Demote(command) => command.run(host).await,
            Self::Inspect(command) => command.run(host).await,
            Self::Ls(command) => command.run(host).await,
            Self::Promote(command) => command.run(host).await,
            Self::Ps(command) => command.run(host).await,
            Self::Rm(command) => command.run(host).await,
            Self::Update(command) => command.run(host).await,
        }
    }
}
