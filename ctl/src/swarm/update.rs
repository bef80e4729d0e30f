//! `swarmctl swarm update`

use std::time::Duration;

use clap::Args;
use proto::control::{GetClusterRequest, GetUnlockKeyRequest, UpdateClusterRequest};
use types::ClusterSpec;

use super::unlock_command;
use crate::connect::Host;
use crate::error::Error;
use crate::output;
use crate::parse::duration::duration;

/// Change the settings of the swarm
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl swarm update --cert-expiry 720h         From each node's next renewal on
  swarmctl swarm update --autolock=true            Managers need a key after a restart; it is shown
  swarmctl swarm update --rotate-data-keys         Seal all managers' logs anew
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
    /// Encrypt the managers' keys, so that a manager has to be unlocked after a restart
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true
    )]
    autolock: Option<bool>,
    /// Have every manager replace the key that seals its log and snapshots
    #[arg(long)]
    rotate_data_keys: bool,
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
        if spec != stored || self.rotate_data_keys {
            let request = UpdateClusterRequest {
                version: cluster.meta.unwrap_or_default().version,
                spec: Some((&spec).into()),
                rotate_data_keys: self.rotate_data_keys,
                ..UpdateClusterRequest::default()
            };
            control.update_cluster(request).await?;
        }
        output::line("Swarm updated.")?;
        if spec.autolock_managers && !stored.autolock_managers {
            let key = control.get_unlock_key(GetUnlockKeyRequest {}).await?;
            output::line(unlock_command(&key.into_inner().unlock_key))?;
        }
        Ok(())
    }

    fn applied_to(&self, mut spec: ClusterSpec) -> ClusterSpec {
        let set = |field: &mut Duration, value: Option<Duration>| *field = value.unwrap_or(*field);
        set(&mut spec.node_cert_expiry, self.cert_expiry);
        set(&mut spec.heartbeat_period, self.dispatcher_heartbeat);
        set(&mut spec.disconnect_grace, self.disconnect_grace);
        spec.snapshot_interval = self.snapshot_interval.unwrap_or(spec.snapshot_interval);
        spec.task_history_limit = self.task_history_limit.unwrap_or(spec.task_history_limit);
        spec.autolock_managers = self.autolock.unwrap_or(spec.autolock_managers);
        spec
    }
}
