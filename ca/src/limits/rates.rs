//! How many requests a second each peer may make. Managers and local users may make any number.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use types::{ClientId, NodeId, NodeRole};

use super::{Bucket, subscriber};
use crate::authorize::{Origin, Peer};

/// Requests without a certificate that one address may make at once. Joining takes two.
const ANONYMOUS_BURST: u32 = 200;
/// And each second.
const ANONYMOUS_PER_SECOND: u32 = 50;
/// Requests a worker or a client may make at once. A worker's agent makes a few in a minute.
const KNOWN_BURST: u32 = 1000;
/// And each second.
const KNOWN_PER_SECOND: u32 = 200;
/// Peers remembered at once, about 100 bytes each.
const PEERS_MAX: usize = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Address(IpAddr),
    Node(NodeId),
    Client(ClientId),
}

/// The buckets of all peers seen lately.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    buckets: Mutex<HashMap<Who, Bucket>>,
}

impl Rates {
    /// Counts a request. False when its peer makes too many.
    pub(crate) fn allow(&self, origin: &Origin, now: Instant) -> bool {
        let (who, burst, per_second) = match &origin.peer {
            Peer::Local(_) => return true,
            Peer::Node(node) if node.role == NodeRole::Manager => return true,
            Peer::Node(node) => (Who::Node(node.node_id), KNOWN_BURST, KNOWN_PER_SECOND),
            Peer::Client(client) => (Who::Client(client.client_id), KNOWN_BURST, KNOWN_PER_SECOND),
            Peer::Anonymous => match origin.remote_addr {
                Some(addr) => {
                    let who = Who::Address(subscriber(addr.ip()));
                    (who, ANONYMOUS_BURST, ANONYMOUS_PER_SECOND)
                }
                None => return true,
            },
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= PEERS_MAX && !buckets.contains_key(&who) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if buckets.len() >= PEERS_MAX {
                // More busy peers than that are one crowd, and the crowd has to wait.
                return false;
            }
        }
        let bucket = buckets.entry(who);
        bucket
            .or_insert_with(|| Bucket::new(burst, per_second, now))
            .take(now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use types::{ClusterId, Timestamp};

    use super::*;
    use crate::PeerIdentity;

    fn from(addr: [u8; 4]) -> Origin {
        Origin {
            peer: Peer::Anonymous,
            remote_addr: Some((Ipv4Addr::from(addr), 1).into()),
            forwarded_by: None,
        }
    }

    fn node(role: NodeRole) -> Origin {
        Origin {
            peer: Peer::Node(PeerIdentity {
                node_id: NodeId::from_number(1),
                role,
                cluster_id: ClusterId::from_number(1),
                cert_not_before: Timestamp::default(),
                cert_not_after: Timestamp::default(),
            }),
            ..from([10, 0, 0, 9])
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_has_its_burst_and_takes_nothing_from_another() {
        let (rates, now) = (Rates::default(), Instant::now());
        let allowed = |origin: &Origin| (0..5000).filter(|_| rates.allow(origin, now)).count();
        assert_eq!(allowed(&from([10, 0, 0, 1])), ANONYMOUS_BURST as usize);
        assert_eq!(allowed(&from([10, 0, 0, 2])), ANONYMOUS_BURST as usize);
        assert_eq!(allowed(&node(NodeRole::Worker)), KNOWN_BURST as usize);
        assert_eq!(allowed(&node(NodeRole::Manager)), 5000);
        let later = now + std::time::Duration::from_secs(1);
        assert!(rates.allow(&from([10, 0, 0, 1]), later));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_quiet_peers_make_room() {
        let (rates, now) = (Rates::default(), Instant::now());
        let peer = |number: usize| {
            let [_, a, b, c] = u32::try_from(number).unwrap().to_be_bytes();
            from([10, a, b, c])
        };
        for number in 0..PEERS_MAX {
            assert!(rates.allow(&peer(number), now));
        }
        assert!(!rates.allow(&peer(PEERS_MAX), now));
        let later = now + std::time::Duration::from_secs(60);
        assert!(rates.allow(&peer(PEERS_MAX), later));
        assert_eq!(rates.buckets.lock().unwrap().len(), 1);
    }
}
