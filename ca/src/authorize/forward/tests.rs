//! Forwarded identities survive, forged ones do not.

use types::{ClusterId, NodeId};

use super::*;
use crate::authorize::Caller;

fn node(role: NodeRole, number: u128) -> PeerIdentity {
    PeerIdentity {
        node_id: NodeId::from_number(number),
        role,
        cluster_id: ClusterId::from_number(1),
        cert_not_before: Timestamp::default(),
        cert_not_after: Timestamp::from_secs(1_800_000_000),
    }
}

fn local(is_allowed: bool) -> Peer {
    Peer::Local(UnixPeer {
        uid: 1000,
        gid: 100,
        pid: 4242,
        is_allowed,
    })
}

fn origin(peer: Peer) -> Origin {
    Origin {
        peer,
        remote_addr: None,
        forwarded_by: None,
    }
}

#[test]
fn every_caller_survives_being_passed_on() {
    let via = origin(Peer::Node(node(NodeRole::Manager, 7)));
    let callers = [
        Peer::Anonymous,
        Peer::Node(node(NodeRole::Worker, 8)),
        Peer::Node(node(NodeRole::Manager, 9)),
        local(true),
        local(false),
        Peer::Client(ClientIdentity {
            client_id: types::ClientId::from_number(5),
            role: ClientRole::Operator,
            cluster_id: ClusterId::from_number(1),
            cert_not_after: Timestamp(4),
        }),
    ];
    for peer in callers {
        for addr in [None, Some("192.0.2.1:4000"), Some("[2001:db8::1]:4000")] {
            let remote_addr = addr.map(|addr| addr.parse().unwrap());
            let mut metadata = MetadataMap::new();
            forward(
                &Origin {
                    peer,
                    remote_addr,
                    forwarded_by: None,
                },
                &mut metadata,
            );
            let headers = metadata.into_headers();
            let found = restore(&via, &headers[FORWARD_KEY]).unwrap();
            let forwarded_by = Some(NodeId::from_number(7));
            assert_eq!(
                found,
                Origin {
                    peer,
                    remote_addr,
                    forwarded_by
                }
            );
        }
    }
}

#[test]
fn passing_on_twice_keeps_the_first_caller_and_one_header() {
    let mut metadata = MetadataMap::new();
    forward(
        &origin(Peer::Node(node(NodeRole::Worker, 8))),
        &mut metadata,
    );
    forward(&origin(Peer::Anonymous), &mut metadata);
    assert_eq!(metadata.get_all(FORWARD_KEY).iter().count(), 1);
    assert_eq!(metadata.get(FORWARD_KEY).unwrap(), "anonymous");
}

#[test]
fn only_a_manager_may_pass_on() {
    let header = HeaderValue::from_static("anonymous");
    for (peer, caller) in [
        (Peer::Anonymous, Caller::Anyone),
        (Peer::Node(node(NodeRole::Worker, 8)), Caller::Worker),
        (local(true), Caller::Local),
    ] {
        assert_eq!(
            restore(&origin(peer), &header),
            Err(Denial::ForwardedBy { caller })
        );
    }
}

#[test]
fn malformed_words_are_refused() {
    let via = origin(Peer::Node(node(NodeRole::Manager, 7)));
    let id = NodeId::from_number(1);
    for text in [
        "",
        "root",
        "anonymous ",
        "anonymous nowhere",
        "anonymous/",
        "node",
        &format!("node/{id}/admin/{id}/1/1"),
        &format!("node/{id}/worker/{id}/1"),
        &format!("node/{id}/worker/{id}/1/soon"),
        &format!("node/short/worker/{id}/1/1"),
        &format!("client/{id}/admin/{id}/1"),
        &format!("client/{id}/reader/{id}"),
        "local/-1/0/0/1",
        "local/0/0/0",
        "local/0/0/0/yes",
    ] {
        let header = HeaderValue::from_str(text).unwrap();
        assert_eq!(
            restore(&via, &header),
            Err(Denial::ForwardedMalformed),
            "{text:?}"
        );
    }
    let header = HeaderValue::from_bytes(b"anonymous\xff").unwrap();
    assert_eq!(restore(&via, &header), Err(Denial::ForwardedMalformed));
}
