//! Who gives way to whom, and who is closed when.

use std::sync::atomic::AtomicU8;

use futures::task::noop_waker;
use types::ClusterId;

use super::*;
use crate::PeerIdentity;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn node(role: NodeRole, number: u128) -> Option<Certified> {
    Some(Certified::Node(PeerIdentity {
        node_id: NodeId::from_number(number),
        role,
        cluster_id: ClusterId::from_number(1),
        cert_not_before: Timestamp::default(),
        cert_not_after: Timestamp::default(),
    }))
}

fn all_good() -> Connections {
    Connections::new(Arc::new(|_| Verdict::Good))
}

fn is_closed(place: &Place) -> bool {
    place.line().is_closed(&noop_waker())
}

#[tokio::test(start_paused = true)]
async fn a_peer_with_too_many_loses_its_own_oldest() {
    let (connections, now) = (all_good(), Instant::now());
    let other = connections.enter(node(NodeRole::Worker, 2), HERE, now);
    let first = connections.enter(node(NodeRole::Worker, 1), HERE, now);
    let rest: Vec<_> = (1..PER_PEER_MAX)
        .map(|_| connections.enter(node(NodeRole::Worker, 1), HERE, now))
        .collect();
    assert!(!is_closed(&first));
    let newest = connections.enter(node(NodeRole::Worker, 1), HERE, now);
    assert!(is_closed(&first));
    assert!(!rest.iter().chain([&newest, &other]).any(is_closed));
    drop((first, rest, newest, other));
    assert_eq!(connections.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn strangers_push_out_strangers_only() {
    let (connections, now) = (all_good(), Instant::now());
    let worker = connections.enter(node(NodeRole::Worker, 1), HERE, now);
    let manager = connections.enter(node(NodeRole::Manager, 2), HERE, now);
    let strangers: Vec<_> = (0..2000u32)
        .map(|number| connections.enter(None, IpAddr::from(number.to_be_bytes()), now))
        .collect();
    assert!(!is_closed(&worker) && !is_closed(&manager));
    let open = strangers.iter().filter(|it| !is_closed(it)).count();
    assert_eq!(open, ANONYMOUS_MAX);
    let same: Vec<_> = (0..200)
        .map(|_| connections.enter(None, HERE, now))
        .collect();
    let open = same.iter().filter(|it| !is_closed(it)).count();
    assert_eq!(open, ANONYMOUS_PER_ADDRESS_MAX);
}

#[tokio::test(start_paused = true)]
async fn who_asks_nothing_is_closed_and_strangers_after_a_minute() {
    let (connections, now) = (all_good(), Instant::now());
    let clock = Timestamp::default();
    let mute = connections.enter(node(NodeRole::Worker, 1), HERE, now);
    let asking = connections.enter(node(NodeRole::Worker, 1), HERE, now);
    let stranger = connections.enter(None, HERE, now);
    let manager = connections.enter(node(NodeRole::Manager, 2), HERE, now);
    asking.line().has_asked();
    stranger.line().has_asked();
    connections.expire(now + FIRST_REQUEST_MAX, clock);
    assert!(is_closed(&mute));
    assert!(!is_closed(&asking) && !is_closed(&stranger) && !is_closed(&manager));
    connections.expire(now + ANONYMOUS_LIFE_MAX, clock);
    assert!(is_closed(&stranger));
    assert!(!is_closed(&asking) && !is_closed(&manager));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_mind_closes_and_a_known_refusal_does_not() {
    let mood = Arc::new(AtomicU8::new(0));
    let registry: Registry = {
        let mood = Arc::clone(&mood);
        Arc::new(move |_| match mood.load(Ordering::Relaxed) {
            0 => Verdict::Good,
            1 => Verdict::Demoted,
            _ => Verdict::Removed,
        })
    };
    let connections = Connections::new(registry);
    let now = Instant::now();
    let before = connections.enter(node(NodeRole::Manager, 1), HERE, now);
    let stranger = connections.enter(None, HERE, now);
    connections.recheck();
    assert!(!is_closed(&before));
    mood.store(1, Ordering::Relaxed);
    connections.recheck();
    assert!(is_closed(&before) && !is_closed(&stranger));
    // It comes back as a worker to fetch a worker's certificate, and is let do so.
    let after = connections.enter(node(NodeRole::Manager, 1), HERE, now);
    connections.recheck();
    assert!(!is_closed(&after));
    mood.store(2, Ordering::Relaxed);
    connections.recheck();
    assert!(is_closed(&after));
}
