//! Has the node gossip with its peers about who lives, by the process that outlives the daemon.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use datapath_client::{Datapath, GossipKey, GossipView, Liveness, Peer, PeerStates};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use types::NodeId;
use types::network::GOSSIP_PORT;
use types::reach::Reach;
use zeroize::Zeroizing;

/// Pause before what the process refused is said again: the port may be another program's, or the
/// address not there yet.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Peers that gossip holds for dead; `None` while this daemon does not gossip.
pub(crate) type Lost = Option<Arc<BTreeSet<NodeId>>>;

/// What is to be of gossip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nothing is known that would change what there is.
    AsBefore,
    /// The node is in no cluster.
    Over,
    /// With these.
    With(GossipView),
}

/// Gossip for as long as this is held; what the process was told holds on.
pub(crate) struct Gossip {
    wanted: watch::Sender<Wanted>,
    lost: watch::Receiver<Lost>,
    _ends: DropGuard,
}

impl Gossip {
    /// Tells `heed` who is dead, whenever that changes. Needs an async runtime.
    pub(crate) fn start(
        datapath: Datapath,
        tracker: &TaskTracker,
        heed: impl Fn(Arc<BTreeSet<NodeId>>) + Send + Sync + 'static,
    ) -> Self {
        let (wanted, told) = watch::channel(Wanted::AsBefore);
        let (lost, tells) = watch::channel(None);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tracker.spawn(async move {
            let (says, hears) = (say(&datapath, told, &lost), hear(&datapath, &lost, heed));
            let both = async { tokio::join!(says, hears) };
            stopped.run_until_cancelled(both).await;
        });
        Self {
            wanted,
            lost: tells,
            _ends: stop.drop_guard(),
        }
    }

    /// Takes what managers told.
    pub(crate) fn set(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|known| {
            let is_new = wanted != Wanted::AsBefore && wanted != *known;
            if is_new {
                *known = wanted;
            }
            is_new
        });
    }

    pub(crate) fn lost(&self) -> watch::Receiver<Lost> {
        self.lost.clone()
    }
}

/// What gossip of a node is to be, as managers told. Without keys, as from the disk, what there is
/// goes on.
///
/// One socket of one family: IPv4 where the node has it, since that is what pairs of nodes use.
pub(crate) fn wanted(node: Option<NodeId>, data_path: &[IpAddr], reach: &Reach) -> Wanted {
    let Some(settings) = &reach.settings else {
        return Wanted::Over;
    };
    let own = data_path.iter().find(|address| address.is_ipv4());
    let (Some(node), Some(own)) = (node, own.or(data_path.first()).copied()) else {
        return Wanted::AsBefore;
    };
    let of_family = |of: &[IpAddr]| {
        let mut like = of.iter().filter(|one| one.is_ipv4() == own.is_ipv4());
        like.next().copied()
    };
    let peers = reach.peers.values().filter(|peer| peer.node != node);
    let peers: Vec<Peer> = peers
        .filter_map(|peer| {
            let address = SocketAddr::new(of_family(&peer.data_path)?, GOSSIP_PORT);
            Some(Peer {
                node: peer.node,
                address,
            })
        })
        .collect();
    if settings.gossip_keys.is_empty() {
        return Wanted::AsBefore;
    }
    let key = |key: &types::Payload| GossipKey(Zeroizing::new(key.bytes().to_vec()));
    let listen = SocketAddr::new(own, GOSSIP_PORT);
    Wanted::With(GossipView {
        node,
        listen,
        advertise: listen,
        peers,
        keys: settings.gossip_keys.iter().map(key).collect(),
    })
}

/// Tells the process what is wanted, until it takes it.
async fn say(datapath: &Datapath, mut wanted: watch::Receiver<Wanted>, lost: &watch::Sender<Lost>) {
    let mut is_running = false;
    while wanted.changed().await.is_ok() {
        loop {
            let now = wanted.borrow_and_update().clone();
            let said = match now {
                Wanted::AsBefore => Ok(()),
                Wanted::Over => {
                    is_running = false;
                    lost.send_replace(None);
                    datapath.clear_gossip().await
                }
                // A process for nobody to gossip with would be one too many.
                Wanted::With(view) if view.peers.is_empty() && !is_running => Ok(()),
                Wanted::With(view) => {
                    let set = datapath.set_gossip(view).await;
                    if set.is_ok() {
                        is_running = true;
                        lost.send_if_modified(|lost| {
                            let was_silent = lost.is_none();
                            if was_silent {
                                *lost = Some(dead(&datapath.peers().borrow()));
                            }
                            was_silent
                        });
                    }
                    set
                }
            };
            let Err(error) = said else { break };
            tracing::warn!(%error, "this node does not gossip as it should");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

/// Passes on who is dead.
async fn hear(
    datapath: &Datapath,
    lost: &watch::Sender<Lost>,
    heed: impl Fn(Arc<BTreeSet<NodeId>>),
) {
    let mut peers = datapath.peers();
    let mut heeded = Arc::default();
    let mut counted = (0, 0);
    loop {
        let states = peers.borrow_and_update().clone();
        let now = dead(&states);
        let up = states.values().filter(|one| **one == Liveness::Up).count();
        if counted != (up, now.len()) {
            counted = (up, now.len());
            tracing::info!(up, lost = now.len(), "peers as gossip knows them");
        }
        if now != heeded {
            heeded = Arc::clone(&now);
            heed(Arc::clone(&now));
            lost.send_if_modified(|lost| {
                let is_told = lost.is_some();
                if is_told {
                    *lost = Some(now);
                }
                is_told
            });
        }
        if peers.changed().await.is_err() {
            return;
        }
    }
}

fn dead(states: &PeerStates) -> Arc<BTreeSet<NodeId>> {
    let down = states.iter().filter(|(_, one)| **one == Liveness::Down);
    Arc::new(down.map(|(node, _)| *node).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use types::Payload;
    use types::reach::{NetworkSettings, Peer as Told};

    use super::*;

    fn reach(keys: Vec<Payload>, peers: &[(u128, &str)]) -> Reach {
        let peer = |(number, addresses): &(u128, &str)| {
            let node = NodeId::from_number(*number);
            let told = Told {
                node,
                index: 7,
                data_path: addresses
                    .split(' ')
                    .map(|one| one.parse().unwrap())
                    .collect(),
                wireguard_keys: vec![],
                alive: true,
            };
            (node, Arc::new(told))
        };
        Reach {
            settings: Some(NetworkSettings {
                index: 1,
                data_path_port: 4789,
                gossip_keys: keys,
            }),
            peers: peers.iter().map(peer).collect::<BTreeMap<_, _>>(),
            ..Reach::default()
        }
    }

    #[test]
    fn a_node_gossips_with_peers_of_its_family_under_the_keys_it_was_told() {
        let own = Some(NodeId::from_number(1));
        let both = ["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        let keys = vec![Payload::new(vec![7; 32]), Payload::new(vec![8; 32])];
        let peers = [
            (1, "192.0.2.1"),
            (2, "2001:db8::2 192.0.2.2"),
            (3, "2001:db8::3"),
        ];
        let told = reach(keys.clone(), &peers);
        let Wanted::With(view) = wanted(own, &both, &told) else {
            panic!("it has keys");
        };
        assert_eq!(view.listen, "192.0.2.1:7946".parse().unwrap());
        assert_eq!(view.peers.len(), 1, "neither itself nor the other family");
        assert_eq!(view.peers[0].address, "192.0.2.2:7946".parse().unwrap());
        let first: &[u8] = &view.keys[0].0;
        assert_eq!((first, view.keys.len()), (keys[0].bytes(), 2));
        let Wanted::With(view) = wanted(own, &both[..1], &told) else {
            panic!("it has keys");
        };
        assert_eq!(view.peers.len(), 2, "those with IPv6");
    }

    #[test]
    fn without_keys_or_place_all_stays_and_without_settings_it_ends() {
        let own = Some(NodeId::from_number(1));
        let place = ["192.0.2.1".parse().unwrap()];
        let peers = [(2, "192.0.2.2")];
        assert_eq!(
            wanted(own, &place, &reach(vec![], &peers)),
            Wanted::AsBefore
        );
        let told = reach(vec![Payload::new(vec![7; 32])], &peers);
        assert_eq!(wanted(own, &[], &told), Wanted::AsBefore);
        assert_eq!(wanted(own, &place, &Reach::default()), Wanted::Over);
    }
}
