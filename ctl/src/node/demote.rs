//! `swarmctl node demote`

use clap::Args;
use types::NodeRole;

use super::change::set_role;
use crate::connect::Host;
use crate::error::Error;

/// Make workers of managers
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl node demote n3")]
pub(crate) struct Demote {
    /// Ids, host names or beginnings of ids
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
}

impl Demote {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        set_role(&host.connect().await?, &self.nodes, NodeRole::Worker).await
    }
}
