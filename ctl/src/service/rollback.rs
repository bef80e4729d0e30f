//! `swarmctl service rollback`

use clap::Args;

use super::wait::{WaitFlags, Waiting};
use super::write::{Write, write};
use crate::connect::Host;
use crate::error::Error;
use crate::output;

/// Go back to what a service ran before its last update
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl service rollback web
  swarmctl service rollback web      Again: forward to the update")]
pub(crate) struct Rollback {
    /// Id, name or beginning of an id
    service: String,
    #[command(flatten)]
    wait: WaitFlags,
}

impl Rollback {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        let service = write(&connection, &self.service, &Write::Previous).await?;
        output::line(&self.service)?;
        self.wait
            .wait(&connection, &service, Waiting::Rollback)
            .await
    }
}
