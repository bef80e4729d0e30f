//! `swarmctl unlock`

use clap::Args;
use proto::daemon::get_status_response::State;
use proto::daemon::{GetStatusRequest, UnlockRequest};

use crate::connect::Host;
use crate::error::Error;
use crate::{output, secret_input};

/// Unlock this manager after a restart, when the swarm locks its managers
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl unlock                             Asks for the key without showing it
  swarmctl unlock < /root/unlock-key
  swarmctl unlock-key -q | ssh other swarmctl unlock")]
pub(crate) struct Unlock {}

impl Unlock {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        let mut daemon = connection.daemon()?;
        let status = daemon.get_status(GetStatusRequest {}).await?.into_inner();
        match status.state() {
            State::Locked => {}
            State::Inactive => {
                return Err(Error::Failed("this node is not part of a swarm".to_owned()));
            }
            State::Pending | State::Active | State::Error => {
                return Err(Error::Failed("swarm is not locked".to_owned()));
            }
        }
        let key = secret_input::hidden("unlock key")?;
        daemon.unlock(UnlockRequest { key }).await?;
        Ok(output::line("Swarm unlocked.")?)
    }
}
