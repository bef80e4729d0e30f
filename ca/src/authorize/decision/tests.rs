//! The table of decisions.

use types::access::ClientRole;

use super::*;
use crate::unix::UnixPeer;

const NOW: Timestamp = Timestamp(1_000_000);

const RULES: &[super::super::Rule] = &[
    ("/t/Anyone", &[Caller::Anyone]),
    ("/t/Worker", &[Caller::Worker]),
    ("/t/Manager", &[Caller::Manager]),
    ("/t/Local", &[Caller::Local]),
    ("/t/Nodes", &[Caller::Worker, Caller::Manager]),
    (
        "/t/Look",
        &[Caller::Local, Caller::Reader, Caller::Operator],
    ),
    ("/t/Change", &[Caller::Local, Caller::Operator]),
    ("/t/Nobody", &[]),
];

const OURS: u128 = 1;
const THEIRS: u128 = 2;

fn node(role: NodeRole, cluster: u128, number: u128) -> PeerIdentity {
    PeerIdentity {
        node_id: NodeId::from_number(number),
        role,
        cluster_id: ClusterId::from_number(cluster),
        cert_not_before: Timestamp::default(),
        cert_not_after: Timestamp(NOW.0 + 1),
    }
}

fn worker() -> Peer {
    Peer::Node(node(NodeRole::Worker, OURS, 10))
}

fn manager() -> Peer {
    Peer::Node(node(NodeRole::Manager, OURS, 20))
}

fn local(is_allowed: bool) -> Peer {
    Peer::Local(UnixPeer {
        uid: 1000,
        gid: 100,
        pid: 7,
        is_allowed,
    })
}

fn client(role: ClientRole, cluster: u128, number: u128) -> Peer {
    Peer::Client(ClientIdentity {
        client_id: ClientId::from_number(number),
        role,
        cluster_id: ClusterId::from_number(cluster),
        cert_not_after: Timestamp(NOW.0 + 1),
    })
}

fn reader() -> Peer {
    client(ClientRole::Reader, OURS, 30)
}

fn operator() -> Peer {
    client(ClientRole::Operator, OURS, 31)
}

/// Node and client 66 are removed, node 77 was a manager once.
fn registry(peer: &Certified) -> Verdict {
    match peer {
        Certified::Node(node) if node.node_id == NodeId::from_number(66) => Verdict::Removed,
        Certified::Node(node) if node.node_id == NodeId::from_number(77) => Verdict::Demoted,
        Certified::Client(it) if it.client_id == ClientId::from_number(66) => Verdict::Removed,
        Certified::Node(_) | Certified::Client(_) => Verdict::Good,
    }
}

/// Asks with node 66 removed.
fn ask(path: &str, peer: Peer, forwarded: Option<&str>) -> Result<Origin, Denial> {
    let rules = RULES.iter().copied().collect();
    let question = Question {
        path,
        rules: &rules,
        own_cluster: Some(ClusterId::from_number(OURS)),
        now: NOW,
        registry: &registry,
    };
    let header = forwarded.map(|text| HeaderValue::from_str(text).unwrap());
    question.decide(
        Origin {
            peer,
            remote_addr: None,
            forwarded_by: None,
        },
        header.as_ref(),
    )
}

#[test]
fn each_caller_reaches_what_the_rules_name_and_nothing_else() {
    // Letters: without certificate, worker, manager, local, reader, operator.
    let table = [
        ("/t/Anyone", "nwmlro"),
        ("/t/Worker", "w"),
        ("/t/Manager", "m"),
        ("/t/Local", "l"),
        ("/t/Nodes", "wm"),
        ("/t/Look", "lro"),
        ("/t/Change", "lo"),
        ("/t/Nobody", ""),
        ("/t/NoRule", ""),
        ("/t/Anyone/", ""),
        ("/t/anyone", ""),
        ("", ""),
    ];
    for (path, expected) in table {
        for (letter, peer) in [
            ('n', Peer::Anonymous),
            ('w', worker()),
            ('m', manager()),
            ('l', local(true)),
            ('r', reader()),
            ('o', operator()),
        ] {
            let found = ask(path, peer, None);
            let expected = expected.contains(letter);
            assert_eq!(found.is_ok(), expected, "{path} {peer:?}");
            if !expected {
                let caller = peer.caller();
                assert_eq!(
                    found,
                    Err(Denial::NotAllowed {
                        path: path.to_owned(),
                        caller
                    })
                );
            }
        }
    }
}

#[test]
fn a_certificate_that_is_not_good_is_refused_even_where_none_is_needed() {
    let node_id = NodeId::from_number;
    let mut expired = node(NodeRole::Manager, OURS, 20);
    expired.cert_not_after = NOW;
    let cases = [
        (
            node(NodeRole::Manager, THEIRS, 20),
            Denial::OtherCluster {
                node_id: node_id(20),
            },
        ),
        (
            node(NodeRole::Worker, OURS, 66),
            Denial::Removed {
                node_id: node_id(66),
            },
        ),
        (
            expired,
            Denial::Expired {
                node_id: node_id(20),
            },
        ),
    ];
    for path in ["/t/Anyone", "/t/Manager"] {
        for (peer, expected) in &cases {
            assert_eq!(
                ask(path, Peer::Node(*peer), None),
                Err(expected.clone()),
                "{path}"
            );
        }
    }
    assert_eq!(
        ask("/t/Anyone", local(false), None),
        Err(Denial::LocalUser { uid: 1000, pid: 7 })
    );
}

#[test]
fn a_demoted_manager_is_a_worker_whatever_its_certificate_says() {
    let demoted = Peer::Node(node(NodeRole::Manager, OURS, 77));
    let origin = ask("/t/Nodes", demoted, None).unwrap();
    assert_eq!(origin.peer.caller(), Caller::Worker);
    let denial = ask("/t/Manager", demoted, None).unwrap_err();
    assert_eq!(denial.to_string(), "a worker may not call /t/Manager");
    // Nor may it speak for others.
    let denial = ask("/t/Anyone", demoted, Some("anonymous")).unwrap_err();
    let caller = Caller::Worker;
    assert_eq!(denial, Denial::ForwardedBy { caller });
}

#[test]
fn a_client_is_refused_when_revoked_or_of_another_cluster() {
    let client_id = ClientId::from_number;
    for path in ["/t/Anyone", "/t/Look"] {
        let revoked = client(ClientRole::Operator, OURS, 66);
        let foreign = client(ClientRole::Operator, THEIRS, 31);
        let client_66 = client_id(66);
        assert_eq!(
            ask(path, revoked, None),
            Err(Denial::ClientRemoved {
                client_id: client_66
            })
        );
        let client_id = client_id(31);
        assert_eq!(
            ask(path, foreign, None),
            Err(Denial::ClientOfOtherCluster { client_id })
        );
    }
    let mut expired = client(ClientRole::Reader, OURS, 30);
    if let Peer::Client(client) = &mut expired {
        client.cert_not_after = NOW;
    }
    let client_id = client_id(30);
    assert_eq!(
        ask("/t/Look", expired, None),
        Err(Denial::ClientExpired { client_id })
    );
}

#[test]
fn a_node_of_no_cluster_has_no_peers() {
    let rules = RULES.iter().copied().collect();
    let question = Question {
        path: "/t/Local",
        rules: &rules,
        own_cluster: None,
        now: NOW,
        registry: &registry,
    };
    let direct = |peer| Origin {
        peer,
        remote_addr: None,
        forwarded_by: None,
    };
    assert!(question.decide(direct(local(true)), None).is_ok());
    assert!(matches!(
        question.decide(direct(manager()), None),
        Err(Denial::OtherCluster { .. })
    ));
}

#[test]
fn a_forwarded_request_is_judged_by_its_first_caller() {
    let cluster = ClusterId::from_number(OURS);
    let words = |role: &str, cluster: ClusterId, number: u128, not_after: u64| {
        format!(
            "node/{cluster}/{role}/{}/0/{not_after}",
            NodeId::from_number(number)
        )
    };
    let later = NOW.0 + 1;
    let worker_words = words("worker", cluster, 10, later);
    let origin = ask("/t/Worker", manager(), Some(&worker_words)).unwrap();
    assert_eq!(origin.peer, worker());
    assert_eq!(origin.forwarded_by, Some(NodeId::from_number(20)));
    // The manager's own rights do not come along, whoever it speaks for.
    for text in [worker_words.as_str(), "anonymous", "local/0/0/1/1"] {
        assert!(
            matches!(
                ask("/t/Manager", manager(), Some(text)),
                Err(Denial::NotAllowed { .. })
            ),
            "{text}"
        );
    }
    assert!(ask("/t/Anyone", manager(), Some("anonymous")).is_ok());
    assert!(ask("/t/Local", manager(), Some("local/0/0/1/1")).is_ok());
    let refused = [
        (
            words("worker", ClusterId::from_number(THEIRS), 10, later),
            "belongs to another cluster",
        ),
        (words("worker", cluster, 66, later), "has been removed"),
        (words("worker", cluster, 10, NOW.0), "has expired"),
        (
            "local/1000/100/7/0".to_owned(),
            "may not use the local socket",
        ),
        ("nonsense".to_owned(), "is malformed"),
    ];
    for (text, expected) in refused {
        let denial = ask("/t/Anyone", manager(), Some(&text)).unwrap_err();
        assert!(denial.to_string().contains(expected), "{text}: {denial}");
    }
}

#[test]
fn a_bad_forwarder_is_refused_whoever_it_speaks_for() {
    let removed = Peer::Node(node(NodeRole::Manager, OURS, 66));
    let foreign = Peer::Node(node(NodeRole::Manager, THEIRS, 20));
    for (peer, expected) in [
        (removed, "has been removed"),
        (foreign, "belongs to another cluster"),
        (worker(), "may not pass on"),
        (local(true), "may not pass on"),
        (Peer::Anonymous, "may not pass on"),
    ] {
        let denial = ask("/t/Anyone", peer, Some("anonymous")).unwrap_err();
        assert!(denial.to_string().contains(expected), "{peer:?}: {denial}");
    }
}

#[test]
fn a_refusal_names_the_rpc_and_the_callers_role() {
    let status = Status::from(ask("/t/Manager", worker(), None).unwrap_err());
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    assert_eq!(status.message(), "a worker may not call /t/Manager");
}
