//! `swarmctl init`

use std::time::Duration;

use clap::Args;
use ipnet::{IpNet, Ipv4Net};
use proto::daemon::InitRequest;
use types::ClusterSpec;
use types::cluster::SubnetPool;

use super::{AvailabilityFlag, join_command, unlock_command};
use crate::connect::Host;
use crate::error::Error;
use crate::output;
use crate::parse::duration::duration;
use crate::parse::network::subnet;

/// Make this machine the first manager of a new swarm
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl init
  swarmctl init --advertise-addr 10.0.0.1
  swarmctl init --advertise-addr 10.0.0.1 --availability drain
  swarmctl init --advertise-addr 10.0.0.1 --data-path-addr eth1")]
pub(crate) struct Init {
    /// Address other nodes reach this one at [default: this machine's only address]
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
    /// Encrypt the managers' keys, so that a manager has to be unlocked after a restart
    #[arg(long)]
    autolock: bool,
    /// Life of the nodes' certificates [default: 2160h]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    cert_expiry: Option<Duration>,
    /// How often nodes tell that they live [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    dispatcher_heartbeat: Option<Duration>,
    /// How long a node may be disconnected before its tasks move [default: 1.5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    disconnect_grace: Option<Duration>,
    /// Log entries between snapshots [default: 10000]
    #[arg(long, value_name = "NUMBER")]
    snapshot_interval: Option<u64>,
    /// Pool that networks' subnets are cut from [default: 10.0.0.0/8]
    #[arg(long, value_name = "CIDR", value_parser = subnet)]
    default_addr_pool: Vec<IpNet>,
    /// Prefix length of those subnets [default: 24, 64 for IPv6]
    #[arg(long, value_name = "LENGTH")]
    default_addr_pool_mask_length: Option<u8>,
    /// UDP port of traffic between containers, on all nodes [default: 4789]
    #[arg(long, value_name = "PORT")]
    data_path_port: Option<u16>,
    /// Encrypt what passes between nodes on every network
    #[arg(long)]
    encrypt_all: bool,
    /// Tasks kept per slot, the live one included; negative keeps all [default: 5]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    task_history_limit: Option<i64>,
}

impl Init {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        let answer = connection
            .daemon()?
            .init(self.request())
            .await?
            .into_inner();
        output::line(format!(
            "Swarm initialized: current node ({}) is now a manager.\n",
            answer.node_id
        ))?;
        output::line(join_command(
            "worker",
            &answer.worker_token,
            &answer.advertise_addr,
        ))?;
        output::line(
            "To add a manager to this swarm, run 'swarmctl join-token manager' and follow the \
             instructions.",
        )?;
        if !answer.unlock_key.is_empty() {
            output::line(format!("\n{}", unlock_command(&answer.unlock_key)))?;
        }
        Ok(())
    }

    fn request(self) -> InitRequest {
        let mut spec = ClusterSpec::default();
        let set = |field: &mut Duration, value: Option<Duration>| *field = value.unwrap_or(*field);
        set(&mut spec.node_cert_expiry, self.cert_expiry);
        set(&mut spec.heartbeat_period, self.dispatcher_heartbeat);
        set(&mut spec.disconnect_grace, self.disconnect_grace);
        spec.snapshot_interval = self.snapshot_interval.unwrap_or(spec.snapshot_interval);
        spec.task_history_limit = self.task_history_limit.unwrap_or(spec.task_history_limit);
        spec.autolock_managers = self.autolock;
        let size = self.default_addr_pool_mask_length;
        let pools = self.default_addr_pool.iter();
        spec.network.pools = pools
            .map(|base| SubnetPool {
                base: *base,
                size: size.unwrap_or(if base.addr().is_ipv4() { 24 } else { 64 }),
            })
            .collect();
        // Without a pool of one's own the default one is cut in other pieces.
        if let (Some(size), true) = (size, spec.network.pools.is_empty()) {
            let base = Ipv4Net::new_assert([10, 0, 0, 0].into(), 8).into();
            spec.network.pools.push(SubnetPool { base, size });
        }
        let port = &mut spec.network.data_path_port;
        *port = self
            .data_path_port
            .filter(|port| *port != 0)
            .unwrap_or(*port);
        spec.network.encrypt_all = self.encrypt_all;
        InitRequest {
            listen_addr: self.listen_addr,
            advertise_addr: self.advertise_addr.unwrap_or_default(),
            data_path_addr: self.data_path_addr.unwrap_or_default(),
            availability: self.availability.number(),
            spec: Some((&spec).into()),
        }
    }
}
