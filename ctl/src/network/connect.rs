//! `swarmctl network connect` and `disconnect`

use std::net::IpAddr;

use clap::Args;
use proto::control::{ConnectNetworkRequest, DisconnectNetworkRequest};

use crate::connect::Host;
use crate::error::Error;

/// Put a running task's container on an attachable network, until it ends or is disconnected
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl network create --attachable debug
  swarmctl network connect debug web.1
  swarmctl network connect --alias probe --ip 10.0.5.9 debug web.1")]
pub(crate) struct Connect {
    /// Name, id or beginning of the id
    network: String,
    /// Task, as `service ps` shows it: name, id or beginning of the id
    #[arg(value_name = "TASK")]
    task: String,
    /// One more name it is found by on the network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Address it gets there [default: a free one]
    #[arg(long, value_name = "IPV4")]
    ip: Option<std::net::Ipv4Addr>,
    /// IPv6 address it gets there [default: a free one]
    #[arg(long, value_name = "IPV6")]
    ip6: Option<std::net::Ipv6Addr>,
}

/// Take a task's container off a network it was connected to
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl network disconnect debug web.1")]
pub(crate) struct Disconnect {
    /// Name, id or beginning of the id
    network: String,
    /// Task, as `service ps` shows it: name, id or beginning of the id
    #[arg(value_name = "TASK")]
    task: String,
    /// Accepted for scripts written for Docker; it makes no difference
    #[arg(short, long)]
    force: bool,
}

impl Connect {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let ipv4 = self.ip.map(IpAddr::from);
        let addresses = ipv4.into_iter().chain(self.ip6.map(IpAddr::from));
        let request = ConnectNetworkRequest {
            network: self.network,
            task: self.task,
            aliases: self.alias,
            addresses: addresses.map(|address| address.to_string()).collect(),
        };
        let mut control = host.connect().await?.control();
        control.connect_network(request).await?;
        Ok(())
    }
}

impl Disconnect {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let request = DisconnectNetworkRequest {
            network: self.network,
            task: self.task,
        };
        let mut control = host.connect().await?.control();
        control.disconnect_network(request).await?;
        Ok(())
    }
}
