//! `swarmctl service rm`

use clap::Args;
use proto::control::RemoveServiceRequest;

use crate::connect::Host;
use crate::error::Error;
use crate::output;

/// Remove services and stop their tasks
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl service rm web
  swarmctl service rm web api")]
pub(crate) struct Rm {
    /// Ids, names or beginnings of ids
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
}

impl Rm {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let mut control = host.connect().await?.control();
        let mut errors = vec![];
        for key in self.services {
            match control
                .remove_service(RemoveServiceRequest { key: key.clone() })
                .await
            {
                Ok(_) => output::line(key)?,
                Err(status) => errors.push(status.into()),
            }
        }
        Error::join(errors)
    }
}
