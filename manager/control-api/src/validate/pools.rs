//! Address pools and the data path of a cluster, fixed when it is made.

use ipnet::IpNet;
use types::cluster::ClusterNetworkSpec;
use types::network::DATA_PATH_PORT_DEFAULT;

use super::{Checked, Invalid, network};

/// Ports the data path may use: no privileged one, none of those given to outgoing connections.
const DATA_PATH_PORTS: std::ops::RangeInclusive<u16> = 1024..=49_151;
/// Pools at most.
const POOLS_MAX: usize = 32;
/// Longest prefix of the pieces: room for a gateway, a service and some tasks.
const SIZE_MAX_V4: u8 = 29;
const SIZE_MAX_V6: u8 = 112;

/// Pools and data path of a new cluster.
///
/// # Errors
/// The first setting that is out of range (S9.05, S20.33).
pub fn cluster_network(spec: &ClusterNetworkSpec) -> Checked {
    if !DATA_PATH_PORTS.contains(&spec.data_path_port) {
        return Err(Invalid::new(
            "DataPathPort",
            format!(
                "{} cannot be used: the valid range is 1024 to 49151, and {DATA_PATH_PORT_DEFAULT} \
                 is the default",
                spec.data_path_port
            ),
        ));
    }
    if spec.pools.len() > POOLS_MAX {
        return Err(Invalid::new(
            "DefaultAddrPool",
            format!("{} pools, at most {POOLS_MAX}", spec.pools.len()),
        ));
    }
    for (index, pool) in spec.pools.iter().enumerate() {
        network::subnet("DefaultAddrPool", pool.base)?;
        let max = match pool.base {
            IpNet::V4(_) => SIZE_MAX_V4,
            IpNet::V6(_) => SIZE_MAX_V6,
        };
        if !(pool.base.prefix_len()..=max).contains(&pool.size) {
            return Err(Invalid::new(
                "SubnetSize",
                format!(
                    "subnets of /{} cannot be cut from {}: the mask length must be {} to {max}",
                    pool.size,
                    pool.base,
                    pool.base.prefix_len()
                ),
            ));
        }
        let mut before = spec.pools[..index].iter().map(|other| other.base);
        let overlaps = |other: &IpNet| {
            other.contains(&pool.base.network()) || pool.base.contains(&other.network())
        };
        if let Some(other) = before.find(overlaps) {
            return Err(Invalid::new(
                "DefaultAddrPool",
                format!("{} overlaps with {other}", pool.base),
            ));
        }
    }
    Ok(())
}
