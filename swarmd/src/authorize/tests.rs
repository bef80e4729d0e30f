//! The table is complete, as strict as it says, and what the documentation shows.

use std::collections::BTreeSet;

use ca::{ClientIdentity, PeerIdentity};
use store::testing::LocalProposer;
use store::{Action, Propose as _};
use types::access::{Access, Client, ClientRole};
use types::{ClientId, Cluster, ClusterId, ClusterSpec, NodeId, Timestamp};

use super::*;

/// Where the table is shown, between these two lines.
const DOC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/design/security.md");
const BEGIN: &str =
    "<!-- rpc table: written by `SWARM_WRITE_DOCS=1 cargo test -p swarmd authorize` -->\n";
const END: &str = "<!-- end of the rpc table -->\n";

#[test]
fn every_rpc_has_one_rule_and_every_rule_an_rpc() {
    let rules: BTreeSet<&str> = RULES.iter().map(|(path, _)| *path).collect();
    let rpcs: BTreeSet<&str> = proto::RPCS.iter().copied().collect();
    assert_eq!(rules, rpcs);
    assert_eq!(RULES.len(), rules.len(), "two rules for one RPC");
}

#[test]
fn only_issuing_identity_is_open_to_strangers() {
    for (path, callers) in RULES {
        let open = callers.contains(&Caller::Anyone);
        assert_eq!(open, path.starts_with("/swarm.ca.v1.Ca/"), "{path}");
    }
}

#[test]
fn nothing_of_users_is_reachable_by_workers_and_nothing_of_nodes_by_users() {
    let users = [Caller::Local, Caller::Operator, Caller::Reader];
    for (path, callers) in RULES.iter().filter(|(_, callers)| *callers != ANYONE) {
        let is_users = users.iter().any(|user| callers.contains(user));
        assert!(!is_users || !callers.contains(&Caller::Worker), "{path}");
        let method = path.strip_prefix("/swarm.control.v1.Control/");
        let is_forwarded = matches!(method, Some("ServiceLogs" | "VerifyNetworks"));
        let is_managers = callers.contains(&Caller::Manager);
        assert!(!is_users || !is_managers || is_forwarded, "{path}");
    }
}

#[test]
fn who_may_change_may_look_and_the_machines_own_user_may_do_both() {
    for (path, callers) in RULES {
        let may = |caller| callers.contains(&caller);
        assert!(!may(Caller::Reader) || may(Caller::Operator), "{path}");
        assert!(!may(Caller::Operator) || may(Caller::Local), "{path}");
        let words = ["Get", "List", "Watch", "Inspect", "ServiceLogs"];
        let method = path.rsplit('/').next().unwrap_or(path);
        let looks = words.iter().any(|word| method.starts_with(word));
        let is_ca = path.starts_with("/swarm.ca.");
        assert!(!may(Caller::Reader) || looks || is_ca, "{path} is no look");
    }
}

#[test]
fn the_documentation_shows_this_table() {
    let text = std::fs::read_to_string(DOC).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the table's beginning");
    let (shown, after) = rest.split_once(END).expect("the table's end");
    let table = rendered();
    if std::env::var_os("SWARM_WRITE_DOCS").is_some() {
        std::fs::write(DOC, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert!(
        shown == table,
        "docs/design/security.md shows another table than the code has: run \
         `SWARM_WRITE_DOCS=1 cargo test -p swarmd authorize` and commit the change"
    );
}

fn node(role: NodeRole, number: u128, issued_at: u64) -> Certified {
    let begin = Timestamp::from_secs(issued_at).0 - Timestamp::default().plus(BACKDATE).0;
    Certified::Node(PeerIdentity {
        node_id: NodeId::from_number(number),
        role,
        cluster_id: ClusterId::from_number(1),
        cert_not_before: Timestamp(begin),
        cert_not_after: Timestamp(u64::MAX),
    })
}

fn client(role: ClientRole, number: u128) -> Certified {
    Certified::Client(ClientIdentity {
        client_id: ClientId::from_number(number),
        role,
        cluster_id: ClusterId::from_number(1),
        cert_not_after: Timestamp(u64::MAX),
    })
}

async fn filled() -> Store {
    let store = Store::new();
    let known = Client {
        name: "ci".to_owned(),
        role: ClientRole::Reader,
        created_at: Timestamp::default(),
        expires_at: Timestamp::default(),
    };
    let message = proto::objects::Cluster {
        id: ClusterId::from_number(1).to_string(),
        spec: Some((&ClusterSpec::default()).into()),
        root_ca: Some(proto::objects::RootCaState::default()),
        ..Default::default()
    };
    let mut cluster = Cluster::try_from(message).unwrap();
    cluster.revoked = [(NodeId::from_number(66), Timestamp(u64::MAX))].into();
    cluster.access = Access {
        clients: [(ClientId::from_number(5), known)].into(),
        demoted: [(NodeId::from_number(77), Timestamp::from_secs(10_000))].into(),
        ..Access::default()
    };
    LocalProposer::new(store.clone())
        .propose(vec![Action::Create(cluster.into())])
        .await
        .unwrap();
    store
}

#[tokio::test]
async fn the_clusters_word_counts_more_than_the_certificate() {
    let store = filled().await;
    for (peer, expected) in [
        (node(NodeRole::Worker, 1, 20_000), Verdict::Good),
        (node(NodeRole::Manager, 1, 20_000), Verdict::Good),
        (node(NodeRole::Worker, 66, 20_000), Verdict::Removed),
        (node(NodeRole::Manager, 66, 20_000), Verdict::Removed),
        (node(NodeRole::Manager, 77, 9_999), Verdict::Demoted),
        (node(NodeRole::Manager, 77, 10_000), Verdict::Demoted),
        (node(NodeRole::Manager, 77, 10_001), Verdict::Good),
        (node(NodeRole::Worker, 77, 9_999), Verdict::Good),
        (client(ClientRole::Reader, 5), Verdict::Good),
        (client(ClientRole::Operator, 5), Verdict::Removed),
        (client(ClientRole::Reader, 6), Verdict::Removed),
    ] {
        assert_eq!(verdict(&store.state(), &peer), expected, "{peer:?}");
    }
}

#[test]
fn without_a_cluster_nodes_count_by_their_certificate_and_clients_do_not() {
    let state = Store::new().state();
    let manager = node(NodeRole::Manager, 1, 20_000);
    assert_eq!(verdict(&state, &manager), Verdict::Good);
    let client = client(ClientRole::Operator, 5);
    assert_eq!(verdict(&state, &client), Verdict::Removed);
}
