//! `swarmctl node rm`

use clap::Args;
use proto::control::RemoveNodeRequest;

use crate::connect::Host;
use crate::error::Error;
use crate::output;

/// Take nodes out of the swarm that are gone for good
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl node rm n4
  swarmctl node rm --force n4      Even while it can be reached")]
pub(crate) struct Rm {
    /// Ids, host names or beginnings of ids
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// Remove a node that can still be reached
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let mut control = host.connect().await?.control();
        let mut errors = vec![];
        for key in self.nodes {
            let request = RemoveNodeRequest {
                key: key.clone(),
                force: self.force,
            };
            match control.remove_node(request).await {
                Ok(_) => output::line(key)?,
                Err(status) => errors.push(status.into()),
            }
        }
        Error::join(errors)
    }
}
