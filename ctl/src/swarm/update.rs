//! `swarmctl swarm update`

use std::time::Duration;

use clap::Args;
use proto::control::{GetClusterRequest, UpdateClusterRequest};
use types::ClusterSpec;

use crate::connect::Host;
use crate::error::Error;
use crate::output;
use crate::parse::duration::duration;

/// Change the settings of the swarm
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl swarm update --cert-expiry 720h         From each node's next renewal on
  swarmctl swarm update --task-history-limit 2")]
pub(crate) struct Update {
    /// Life of the nodes' certificates, from each one's next renewal on
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    cert_expiry: Option<Duration>,
    /// How often nodes tell that they live
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    dispatcher_heartbeat: Option<Duration>,
    /// How long a node may be disconnected before its tasks move
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    disconnect_grace: Option<Duration>,
    /// Log entries between snapshots
    #[arg(long, value_name = "NUMBER")]
    snapshot_interval: Option<u64>,
    /// Tasks kept per slot, the live one included; negative keeps all
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    task_history_limit: Option<i64>,
}

impl Update {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        let mut control = connection.control();
        let cluster = control
            .get_cluster(GetClusterRequest {})
            .await?
            .into_inner();
        let cluster = cluster.cluster.unwrap_or_default();
        let stored = ClusterSpec::try_from(cluster.spec.unwrap_or_default())
            .map_err(|error| Error::Failed(format!("the swarm's settings: {error}")))?;
        let spec = self.applied_to(stored.clone());
        if spec != stored {
            let request = UpdateClusterRequest {
                version: cluster.meta.unwrap_or_default().version,
                spec: Some((&spec).into()),
            };
            control.update_cluster(request).await?;
        }
        Ok(output::line("Swarm updated.")?)
    }

    fn applied_to(&self, mut spec: ClusterSpec) -> ClusterSpec {
        let set = |field: &mut Duration, value: Option<Duration>| *field = value.unwrap_or(*field);
        set(&mut spec.node_cert_expiry, self.cert_expiry);
        set(&mut spec.heartbeat_period, self.dispatcher_heartbeat);
        set(&mut spec.disconnect_grace, self.disconnect_grace);
        spec.snapshot_interval = self.snapshot_interval.unwrap_or(spec.snapshot_interval);
        spec.task_history_limit = self.task_history_limit.unwrap_or(spec.task_history_limit);
        spec
    }
}
