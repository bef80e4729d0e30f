//! `swarmctl network rm`

use clap::Args;
use proto::control::RemoveNetworkRequest;

use crate::connect::Host;
use crate::error::Error;
use crate::output;

/// Remove networks nobody is on
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl network rm web
  swarmctl network rm web db")]
pub(crate) struct Rm {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// Do not mind networks that are not there
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let mut control = host.connect().await?.control();
        let mut errors = vec![];
        for key in self.networks {
            let request = RemoveNetworkRequest { key: key.clone() };
            match control.remove_network(request).await {
                Ok(_) => output::line(key)?,
                Err(status) if self.force && status.code() == tonic::Code::NotFound => {}
                Err(status) => errors.push(status.into()),
            }
        }
        Error::join(errors)
    }
}
