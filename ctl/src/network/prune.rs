//! `swarmctl network prune`

use std::io::{BufRead as _, IsTerminal as _};

use clap::Args;
use proto::control::{ListNetworksRequest, RemoveNetworkRequest};
use types::Network;

use crate::connect::Host;
use crate::error::Error;
use crate::filter::{Filter, Filters};
use crate::output;

/// Remove all networks nobody is on, but ingress
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl network prune
  swarmctl network prune --force --filter label=stage=test")]
pub(crate) struct Prune {
    /// Only networks that match: label
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Prune {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let filters = Filters::new(&self.filters, &["label"])?;
        if !self.force && !confirmed()? {
            return Ok(());
        }
        let mut control = host.connect().await?.control();
        let list = control.list_networks(ListNetworksRequest {}).await?;
        let mut errors = vec![];
        for view in list.into_inner().networks {
            let network = Network::try_from(view.network.unwrap_or_default())?;
            let is_kept = view.in_use || view.predefined || network.spec.ingress;
            if is_kept || !filters.labels("label", &network.spec.labels) {
                continue;
            }
            let key = network.id.to_string();
            match control.remove_network(RemoveNetworkRequest { key }).await {
                Ok(_) => output::line(network.spec.name)?,
                // Somebody has put it to use, or removed it, since.
                Err(status)
                    if matches!(
                        status.code(),
                        tonic::Code::FailedPrecondition | tonic::Code::NotFound
                    ) => {}
                Err(status) => errors.push(status.into()),
            }
        }
        Error::join(errors)
    }
}

/// Asks the person at the terminal; without one the answer is no.
fn confirmed() -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::Usage(
            "this removes all networks nobody is on: say --force where nobody can be asked"
                .to_owned(),
        ));
    }
    output::note("This removes all networks no service or task is on. Continue? [y/N]".to_owned());
    let mut answer = String::new();
    // A terminal that cannot be read has said nothing.
    let _ = std::io::stdin().lock().read_line(&mut answer);
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
