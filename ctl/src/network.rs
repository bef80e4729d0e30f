//! Networks of the swarm.

mod connect;
mod create;
mod inspect;
mod ls;
mod prune;
mod rm;
mod verify;

use clap::Subcommand;

use crate::connect::Host;
use crate::error::Error;

/// What can be done to networks.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Connect(connect::Connect),
    Create(create::Create),
    Disconnect(connect::Disconnect),
    Inspect(inspect::Inspect),
    #[command(alias = "list")]
    Ls(ls::Ls),
    Prune(prune::Prune),
    #[command(alias = "remove")]
    Rm(rm::Rm),
    Verify(verify::Verify),
}

impl Verb {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        match self {
            Self::Connect(command) => command.run(host).await,
            Self::Create(command) => command.run(host).await,
            Self::Disconnect(command) => command.run(host).await,
            Self::Inspect(command) => command.run(host).await,
            Self::Ls(command) => command.run(host).await,
            Self::Prune(command) => command.run(host).await,
            Self::Rm(command) => command.run(host).await,
            Self::Verify(command) => command.run(host).await,
        }
    }
}

/// `swarm` for networks of the cluster, `local` for those every node has for itself.
fn scope(predefined: bool) -> &'static str {
    if predefined { "local" } else { "swarm" }
}
