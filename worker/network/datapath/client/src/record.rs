//! What can be asked for by name in a network.

use std::net::IpAddr;
use types::{NetworkId, NodeId};

/// Everything that has a name in one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRecords {
    /// The network.
    pub network: NetworkId,
    /// Its name, which may follow any of the names in it: `web.front`.
    pub name: String,
    /// What its services and containers are called. An owner occurs once.
    pub sets: Vec<RecordSet>,
}

/// The names of one service, or of one container that belongs to none.
///
/// A set changes as a whole and alone: another set's answers are not touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSet {
    /// What the set stands for: a service's id, or a container's. Unique in its network.
    pub owner: String,
    /// Index of the store at which it last changed. An older one does not replace a newer one.
    pub version: u64,
    /// The service's name and its aliases, the one reverse lookups give first. Empty when only the
    /// tasks have names. Compared without regard to case.
    pub names: Vec<String>,
    /// The service's virtual addresses. Without any, its names lead to its tasks' addresses.
    pub virtual_ips: Vec<IpAddr>,
    /// Its tasks, wherever they run.
    pub tasks: Vec<TaskRecord>,
}

impl RecordSet {
    /// A number that differs when anything in the set does. The same in every process.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        use prost::Message as _;
        // FNV-1a, of the set as it is sent.
        let bytes = crate::message::Set::from(self).encode_to_vec();
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// A task's or container's place in a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRecord {
    /// Its task name, container name, host name; the one reverse lookups give first.
    pub names: Vec<String>,
    /// Its addresses in the network.
    pub addresses: Vec<IpAddr>,
    /// Where it runs. While gossip holds that node for dead, the service's names do not lead there.
    pub node: Option<NodeId>,
    /// Whether the service's names lead to it: it is healthy and not about to stop. Its own names
    /// are answered regardless.
    pub is_serving: bool,
}
