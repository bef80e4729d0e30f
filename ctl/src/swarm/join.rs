//! `swarmctl join`

use std::path::PathBuf;

use clap::Args;
use proto::daemon::JoinRequest;
use proto::objects::NodeRole;

use super::AvailabilityFlag;
use crate::connect::Host;
use crate::error::Error;
use crate::{output, secret_input};

/// Port managers listen at.
const PORT: &str = "2377";

/// Join a swarm; the token says whether as worker or as manager
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl join --token SWMTKN-1-... 10.0.0.1:2377
  swarmctl join --token-file /root/token 10.0.0.1
  ssh manager swarmctl join-token -q worker | swarmctl join --token - 10.0.0.1

What stands on a command line can be read by every process of this machine while it runs: \
--token-file and --token - keep the token out of it.")]
pub(crate) struct Join {
    /// A manager of the swarm
    #[arg(value_name = "HOST[:PORT]")]
    remote: String,
    /// Token for entry; - reads it from standard input
    #[arg(long, conflicts_with = "token_file")]
    token: Option<String>,
    /// File with the token; - reads standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Address other nodes reach this one at [default: the one the manager sees]
    #[arg(long, value_name = "IP[:PORT]")]
    advertise_addr: Option<String>,
    /// Address or interface that carries traffic between containers [default: the advertise address]
    #[arg(long, value_name = "IP|INTERFACE")]
    data_path_addr: Option<String>,
    /// Address to listen at for other nodes
    #[arg(long, value_name = "IP[:PORT]", default_value = "0.0.0.0:2377")]
    listen_addr: String,
    /// Whether this node takes tasks
    #[arg(long, value_enum, ignore_case = true, default_value = "active")]
    availability: AvailabilityFlag,
}

impl Join {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let token = secret_input::secret("token", self.token, self.token_file.as_deref())?;
        let request = JoinRequest {
            remote_addr: with_port(&self.remote),
            token,
            listen_addr: self.listen_addr,
            advertise_addr: self.advertise_addr.unwrap_or_default(),
            data_path_addr: self.data_path_addr.unwrap_or_default(),
            availability: self.availability.number(),
        };
        let connection = host.connect().await?;
        let answer = connection.daemon()?.join(request).await?.into_inner();
        let role = match answer.role() {
            NodeRole::Worker => "worker",
            NodeRole::Manager => "manager",
        };
        Ok(output::line(format!(
            "This node joined a swarm as a {role}."
        ))?)
    }
}

/// The address with a port: `host:2377` unless another is named.
fn with_port(addr: &str) -> String {
    let bare_v6 = addr.parse::<std::net::Ipv6Addr>().is_ok();
    if bare_v6 {
        return format!("[{addr}]:{PORT}");
    }
    let after_brackets = addr.rsplit_once(']').map_or(addr, |(_, rest)| rest);
    if after_brackets.contains(':') {
        addr.to_owned()
    } else {
        format!("{addr}:{PORT}")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_missing_port_is_the_usual_one() {
        for (addr, expected) in [
            ("10.0.0.1", "10.0.0.1:2377"),
            ("10.0.0.1:77", "10.0.0.1:77"),
            ("manager", "manager:2377"),
            ("fd00::1", "[fd00::1]:2377"),
            ("[fd00::1]", "[fd00::1]:2377"),
            ("[fd00::1]:77", "[fd00::1]:77"),
        ] {
            assert_eq!(super::with_port(addr), expected);
        }
    }
}
