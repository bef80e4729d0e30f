//! Images on this machine.

mod import;
mod inspect;
mod load;
mod ls;
mod rm;
mod upload;

use clap::Subcommand;

use crate::connect::Host;
use crate::error::Error;

/// What can be done to images.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Import(import::Import),
    Inspect(inspect::Inspect),
    Load(load::Load),
    #[command(alias = "list")]
    Ls(ls::Ls),
    #[command(alias = "remove")]
    Rm(rm::Rm),
}

impl Verb {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        match self {
            Self::Import(command) => command.run(host).await,
            Self::Inspect(command) => command.run(host).await,
            Self::Load(command) => command.run(host).await,
            Self::Ls(command) => command.run(host).await,
            Self::Rm(command) => command.run(host).await,
        }
    }
}
