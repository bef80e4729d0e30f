//! Networks of the swarm.

mod create;
mod inspect;
mod ls;
mod prune;
mod rm;

use clap::Subcommand;

use crate::connect::Host;
use crate::error::Error;

/// What can be done to networks.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Create(create::Create),
    Inspect(inspect::Inspect),
    #[command(alias = "list")]
    Ls(ls::Ls),
    Prune(prune::Prune),
    #[command(alias = "remove")]
    Rm(rm::Rm),
}

impl Verb {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        match self {
            Self::Create(command) => command.run(host).await,
            Self::Inspect(command) => command.run(host).await,
            Self::Ls(command) => command.run(host).await,
            Self::Prune(command) => command.run(host).await,
            Self::Rm(command) => command.run(host).await,
        }
    }
}

/// `swarm` for networks of the cluster, `local` for those every node has for itself.
fn scope(predefined: bool) -> &'static str {
    if predefined { "local" } else { "swarm" }
}
