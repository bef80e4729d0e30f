//! Settings of the whole cluster.

use std::time::Duration;

use types::ClusterSpec;

use super::{Checked, Invalid, cluster_network, labels};

/// Shortest pause between heartbeats: below it, nodes do little else.
const HEARTBEAT_PERIOD_MIN: Duration = Duration::from_millis(100);
/// Longest: beyond it, a lost node is noticed so late that it must be a slip.
const HEARTBEAT_PERIOD_MAX: Duration = Duration::from_secs(3600);

/// The settings a cluster is made with or changed to. `cert_expiry_min` is the shortest life of a
/// node certificate: [`ca::NODE_VALIDITY_MIN`] (S20.32) but in tests that cannot wait so long.
///
/// # Errors
/// The first setting that is out of range.
pub fn cluster_spec(spec: &ClusterSpec, cert_expiry_min: Duration) -> Checked {
    labels("Labels", &spec.labels)?;
    cluster_network(&spec.network)?;
    if spec.node_cert_expiry < cert_expiry_min {
        let min = if cert_expiry_min == ca::NODE_VALIDITY_MIN {
            "1h".to_owned()
        } else {
            format!("{cert_expiry_min:?}")
        };
        return Err(Invalid::new(
            "CAConfig.NodeCertExpiry",
            format!(
                "{:?} is too short: the minimum certificate expiry time is {min}",
                spec.node_cert_expiry
            ),
        ));
    }
    for (index, external) in spec.external_cas.iter().enumerate() {
        if let Err(error) = ca::external::address(&external.url) {
            let field = format!("CAConfig.ExternalCAs[{index}].URL");
            return Err(Invalid::new(field, error));
        }
    }
    if !(HEARTBEAT_PERIOD_MIN..=HEARTBEAT_PERIOD_MAX).contains(&spec.heartbeat_period) {
        return Err(Invalid::new(
            "Dispatcher.HeartbeatPeriod",
            format!(
                "a heartbeat period of {:?} cannot be used: it must be {HEARTBEAT_PERIOD_MIN:?} to \
                 {HEARTBEAT_PERIOD_MAX:?}",
                spec.heartbeat_period
            ),
        ));
    }
    if spec.snapshot_interval == 0 {
        return Err(Invalid::new(
            "Raft.SnapshotInterval",
            "0 entries between snapshots cannot be used: it must be 1 or more",
        ));
    }
    Ok(())
}
