//! `swarmctl node promote`

use clap::Args;
use types::NodeRole;

use super::change::set_role;
use crate::connect::Host;
use crate::error::Error;

/// Make managers of workers
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl node promote n2 n3")]
pub(crate) struct Promote {
    /// Ids, host names or beginnings of ids
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
}

impl Promote {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        set_role(&host.connect().await?, &self.nodes, NodeRole::Manager).await
    }
}
