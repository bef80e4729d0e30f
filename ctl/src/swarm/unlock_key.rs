//! `swarmctl unlock-key`

use clap::Args;
use proto::control::{GetUnlockKeyRequest, UpdateClusterRequest};

use super::unlock_command;
use crate::connect::Host;
use crate::error::Error;
use crate::output;

/// Show or replace the key that unlocks managers after a restart
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl unlock-key
  swarmctl unlock-key -q > /root/unlock-key
  swarmctl unlock-key --rotate      Managers that are off now need the former key once more")]
pub(crate) struct UnlockKey {
    /// Only show the key
    #[arg(short, long)]
    quiet: bool,
    /// Replace the key
    #[arg(long)]
    rotate: bool,
}

impl UnlockKey {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        let mut control = connection.control();
        if self.rotate {
            let request = UpdateClusterRequest {
                rotate_unlock_key: true,
                ..UpdateClusterRequest::default()
            };
            control.update_cluster(request).await?;
            if !self.quiet {
                output::line("Successfully rotated manager unlock key.\n")?;
            }
        }
        let answer = control.get_unlock_key(GetUnlockKeyRequest {}).await?;
        let key = answer.into_inner().unlock_key;
        if key.is_empty() {
            return Err(Error::Failed(
                "no unlock key is set: autolock is not turned on (swarmctl update --autolock=true)"
                    .to_owned(),
            ));
        }
        Ok(output::line(if self.quiet {
            key
        } else {
            unlock_command(&key)
        })?)
    }
}
