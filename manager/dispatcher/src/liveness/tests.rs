//! Tables over sessions, heartbeats and grace.

use super::*;

const PERIOD: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_millis(1500);

fn node(number: u128) -> NodeId {
    NodeId::from_number(number)
}

fn secs(start: Instant, secs: f64) -> Instant {
    start + Duration::from_secs_f64(secs)
}

/// Who expires at a moment, and why.
fn expired(liveness: &mut Liveness<&'static str>, at: Instant) -> Vec<(NodeId, Reason)> {
    liveness
        .expire(at)
        .into_iter()
        .map(|e| (e.node, e.reason))
        .collect()
}

#[test]
fn a_node_expires_three_periods_after_its_last_heartbeat() {
    let start = Instant::now();
    let mut liveness = Liveness::new();
    let registered = liveness.register(node(1), "a", start, PERIOD).unwrap();
    assert!(liveness.heartbeat(node(1), registered.key, secs(start, 1.0), PERIOD));
    assert_eq!(liveness.next_expiry(), Some(secs(start, 4.0)));
    assert!(liveness.expire(secs(start, 3.9)).is_empty());
    let due = liveness.expire(secs(start, 4.0));
    assert_eq!(
        (due[0].reason, due[0].session),
        (Reason::Heartbeat, Some("a"))
    );
    assert!(!liveness.heartbeat(node(1), registered.key, secs(start, 4.1), PERIOD));
    assert_eq!(
        expired(&mut liveness, secs(start, 5.0)).len(),
        1,
        "due until it is settled"
    );
    liveness.settled(node(1));
    assert_eq!(liveness.next_expiry(), None);
}

#[test]
fn a_broken_session_may_be_resumed_within_its_grace() {
    let start = Instant::now();
    let mut liveness = Liveness::new();
    let first = liveness.register(node(1), "a", start, PERIOD).unwrap();
    assert!(!first.is_resumed);
    liveness.broken(node(1), first.key, start, GRACE);
    let second = liveness
        .register(node(1), "b", secs(start, 1.4), PERIOD)
        .unwrap();
    assert!(second.is_resumed && second.superseded.is_none());
    // The end of the old session says nothing about the new one.
    liveness.broken(node(1), first.key, secs(start, 1.4), GRACE);
    liveness.goodbye(node(1), first.key, secs(start, 1.4), false);
    assert!(liveness.expire(secs(start, 4.0)).is_empty());
    liveness.broken(node(1), second.key, secs(start, 2.0), GRACE);
    assert_eq!(
        expired(&mut liveness, secs(start, 3.5)),
        [(node(1), Reason::Broken)]
    );
    let third = liveness
        .register(node(1), "c", secs(start, 3.6), PERIOD)
        .unwrap();
    assert!(!third.is_resumed, "it was down in between");
}

#[test]
fn a_lost_node_expires_at_once_and_once() {
    let start = Instant::now();
    let mut liveness = Liveness::new();
    let registered = liveness.register(node(1), "a", start, PERIOD).unwrap();
    liveness.lose(node(1), secs(start, 0.5));
    liveness.lose(node(2), secs(start, 0.5));
    let due = liveness.expire(secs(start, 0.5));
    assert_eq!((due[0].reason, due[0].session), (Reason::Lost, Some("a")));
    assert_eq!(due.len(), 1, "nothing is known of the other");
    liveness.lose(node(1), secs(start, 0.6));
    assert!(liveness.expire(secs(start, 0.6)).is_empty());
    assert!(!liveness.heartbeat(node(1), registered.key, secs(start, 0.7), PERIOD));
    let again = liveness
        .register(node(1), "b", secs(start, 1.0), PERIOD)
        .unwrap();
    assert!(!again.is_resumed, "it was down in between");
}

#[test]
fn a_long_grace_does_not_outlast_the_heartbeats() {
    let start = Instant::now();
    let mut liveness = Liveness::new();
    let session = liveness.register(node(1), "a", start, PERIOD).unwrap();
    liveness.broken(
        node(1),
        session.key,
        secs(start, 1.0),
        Duration::from_secs(60),
    );
    assert_eq!(
        expired(&mut liveness, secs(start, 3.0)),
        [(node(1), Reason::Heartbeat)]
    );
}

#[test]
fn a_goodbye_gives_time_to_replace_the_daemon() {
    let start = Instant::now();
    let mut liveness = Liveness::new();
    let session = liveness.register(node(1), "a", start, PERIOD).unwrap();
    liveness.goodbye(node(1), session.key, start, false);
    // The stream ends right after the goodbye.
    liveness.broken(node(1), session.key, start, GRACE);
    assert!(liveness.expire(secs(start, 14.9)).is_empty());
    assert_eq!(
        expired(&mut liveness, secs(start, 15.0)),
        [(node(1), Reason::Goodbye)]
    );
}

#[test]
fn a_node_that_leaves_for_good_is_not_waited_for() {
    let start = Instant::now();
    let mut liveness = Liveness::new();
    let session = liveness.register(node(1), "a", start, PERIOD).unwrap();
    liveness.goodbye(node(1), session.key, start, true);
    assert_eq!(expired(&mut liveness, start), [(node(1), Reason::Left)]);
}

#[test]
fn a_newer_session_ends_the_older_and_there_is_a_limit() {
    let start = Instant::now();
    let mut liveness = Liveness::new();
    liveness.register(node(1), "a", start, PERIOD).unwrap();
    let second = liveness.register(node(1), "b", start, PERIOD).unwrap();
    assert_eq!(second.superseded, Some("a"));
    assert_eq!(liveness.session(node(1)), Some(&"b"));
    liveness.register(node(1), "c", start, PERIOD).unwrap();
    assert_eq!(
        liveness
            .register(node(1), "d", secs(start, 7.9), PERIOD)
            .unwrap_err(),
        TooMany
    );
    assert_eq!(
        liveness.session(node(1)),
        Some(&"c"),
        "the refused one changes nothing"
    );
    liveness.register(node(2), "x", start, PERIOD).unwrap();
    liveness
        .register(node(1), "e", secs(start, 8.0), PERIOD)
        .unwrap();
}

#[test]
fn nodes_of_the_former_leader_have_to_register() {
    let start = Instant::now();
    let mut liveness = Liveness::new();
    for number in 1..=2 {
        liveness.expect(node(number), secs(start, 6.0));
    }
    let come = liveness
        .register(node(1), "a", secs(start, 5.0), PERIOD)
        .unwrap();
    assert!(
        !come.is_resumed,
        "the store says unknown: ready has to be noted"
    );
    liveness.expect(node(1), secs(start, 5.5));
    assert_eq!(
        expired(&mut liveness, secs(start, 6.0)),
        [(node(2), Reason::Unregistered)]
    );
    assert_eq!(liveness.remove(node(1)), Some("a"));
    assert!(
        liveness
            .expire(secs(start, 60.0))
            .iter()
            .all(|e| e.node != node(1))
    );
}

#[test]
fn a_pause_of_the_manager_is_nobodys_fault() {
    let start = Instant::now();
    let mut liveness = Liveness::new();
    liveness.register(node(1), "a", start, PERIOD).unwrap();
    liveness.postpone(Duration::from_secs(7));
    assert!(liveness.expire(secs(start, 9.9)).is_empty());
    assert_eq!(
        expired(&mut liveness, secs(start, 10.0)),
        [(node(1), Reason::Heartbeat)]
    );
}
