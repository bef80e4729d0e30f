//! `swarmctl leave`

use clap::Args;
use proto::daemon::LeaveRequest;

use crate::connect::Host;
use crate::error::Error;
use crate::output;

/// Take this machine out of its swarm
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl leave
  swarmctl leave --force      As a manager: the swarm may lose its quorum, or end")]
pub(crate) struct Leave {
    /// Leave even as a manager, whatever that does to the swarm
    #[arg(short, long)]
    force: bool,
}

impl Leave {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        connection
            .daemon()?
            .leave(LeaveRequest { force: self.force })
            .await?;
        Ok(output::line("Node left the swarm.")?)
    }
}
