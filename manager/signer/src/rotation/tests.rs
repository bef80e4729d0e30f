//! A rotation goes in batches, waits for whom it must, and ends with one root.

use ca::RootCa;
use store::{Propose as _, Store, testing::LocalProposer};
use types::id::RandomIds;
use types::node::{NodeCertificate, NodeDescription, NodeStatus, TlsInfo};
use types::{ClusterId, ClusterSpec, Meta, NodeRole, NodeSpec};

use super::*;

struct World {
    store: Store,
    proposer: LocalProposer,
    old: RootCa,
    new: RootCa,
    rotator: RootRotator,
    now: Timestamp,
}

fn pem(root: &RootCa) -> String {
    String::from_utf8(root.bundle().pem().to_vec()).unwrap()
}

fn tls_of(root: &RootCa) -> TlsInfo {
    let issuer = Issuer::of_root(&pem(root)).unwrap();
    TlsInfo {
        trust_root_digest: root.bundle().digest_text(),
        cert_issuer_subject: issuer.subject,
        cert_issuer_public_key: issuer.public_key,
    }
}

fn token(root: &RootCa) -> String {
    let token = JoinToken::generate(root.bundle()).unwrap();
    token.reveal().to_string()
}

impl World {
    async fn new(nodes: usize, skip_unreachable: bool) -> Self {
        let now = Timestamp::now();
        let (old, new) = (
            RootCa::generate(now).unwrap(),
            RootCa::generate(now).unwrap(),
        );
        let store = Store::new();
        let proposer = LocalProposer::new(store.clone());
        let cluster = Cluster {
            root_ca: RootCaState {
                cert_pem: pem(&old),
                key_pem: old.key_pem().to_string(),
                worker_token: token(&old),
                manager_token: token(&old),
                rotation: Some(RootRotation {
                    cert_pem: pem(&new),
                    key_pem: new.key_pem().to_string(),
                    cross_signed_pem: old.cross_sign(&pem(&new), now).unwrap(),
                    skip_unreachable,
                    started_at: now,
                }),
                lineage: vec![],
            },
            ..proto::objects::Cluster {
                id: ClusterId::from_number(7).to_string(),
                spec: Some((&ClusterSpec::default()).into()),
                root_ca: Some((&RootCaState::default()).into()),
                ..proto::objects::Cluster::default()
            }
            .try_into()
            .unwrap()
        };
        let mut world = Self {
            store,
            proposer,
            old,
            new,
            rotator: RootRotator::default(),
            now,
        };
        world.write(vec![Action::Create(cluster.into())]).await;
        for number in 0..nodes {
            let node = Node {
                id: NodeId::from_number(number as u128 + 1),
                meta: Meta::default(),
                spec: NodeSpec::default(),
                role: NodeRole::Worker,
                description: Some(NodeDescription {
                    tls: Some(tls_of(&world.old)),
                    ..NodeDescription::default()
                }),
                status: NodeStatus {
                    state: NodeState::Ready,
                    ..NodeStatus::default()
                },
                manager_status: None,
                network_index: 0,
                certificate: NodeCertificate::default(),
            };
            world.write(vec![Action::Create(node.into())]).await;
        }
        world
    }

    async fn write(&mut self, actions: Vec<Action>) {
        self.proposer.propose(actions).await.unwrap();
    }

    /// One plan, carried out. The number of nodes told.
    async fn step(&mut self) -> usize {
        let state = self.store.state();
        let plan = self.rotator.plan(&mut PlanContext {
            state: &state,
            now: self.now,
            ids: &mut RandomIds,
        });
        let mut told = 0;
        for actions in plan.transactions {
            told += actions
                .iter()
                .filter(|it| matches!(it, Action::Update(Object::Node(_))))
                .count();
            self.write(actions).await;
        }
        told
    }

    /// Up to `count` nodes that were told renew, and say so.
    async fn renew(&mut self, count: usize) {
        let state = self.store.state();
        let told = state.nodes().filter(|node| node.certificate.renew_now);
        let told: Vec<_> = told.take(count).map(|node| Node::clone(node)).collect();
        for mut node in told {
            node.certificate.renew_now = false;
            node.description.as_mut().unwrap().tls = Some(tls_of(&self.new));
            self.write(vec![Action::Update(node.into())]).await;
        }
    }

    async fn set_state(&mut self, number: u128, state: NodeState) {
        let mut node = Node::clone(
            self.store
                .state()
                .node(NodeId::from_number(number))
                .unwrap(),
        );
        node.status.state = state;
        self.write(vec![Action::Update(node.into())]).await;
    }

    fn root(&self) -> RootCaState {
        self.store.state().cluster().unwrap().root_ca.clone()
    }
}

#[tokio::test]
async fn nodes_are_told_thirty_at_a_time_and_the_last_one_ends_it() {
    let mut world = World::new(70, false).await;
    let before = world.root();
    assert_eq!(world.step().await, BATCH_MAX);
    assert_eq!(world.step().await, 0, "planning comes to rest");
    world.renew(10).await;
    assert_eq!(world.step().await, 10);
    world.renew(70).await;
    assert_eq!(world.step().await, 30);
    assert!(world.root().rotation.is_some());
    world.renew(70).await;
    assert_eq!(world.step().await, 0);
    let after = world.root();
    assert_eq!(after.rotation, None);
    assert_eq!(after.cert_pem, pem(&world.new));
    assert_eq!(after.bundle_pem(), pem(&world.new));
    assert_eq!(after.lineage.len(), 1);
    for (old, new) in [
        (before.worker_token, after.worker_token.clone()),
        (before.manager_token, after.manager_token.clone()),
    ] {
        assert_ne!(old[..60], new[..60], "the digest is the new root's");
        assert_eq!(old[60..], new[60..], "the secret stays");
    }
    // Who only trusts the former root finds the new one.
    let offered = RootBundle::from_pem(after.cert_pem.clone()).unwrap();
    let former = world.old.bundle().clone();
    former
        .follow(&after.lineage, offered.clone(), world.now)
        .unwrap();
    let stranger = RootCa::generate(world.now).unwrap();
    stranger
        .bundle()
        .follow(&after.lineage, offered, world.now)
        .unwrap_err();
}

#[tokio::test]
async fn a_node_that_does_nothing_makes_room_for_others_after_a_while() {
    let mut world = World::new(40, false).await;
    assert_eq!(world.step().await, BATCH_MAX);
    world.now = world.now.plus(RETRY);
    assert_eq!(world.step().await, 10);
}

#[tokio::test]
async fn nodes_that_are_down_are_waited_for_unless_they_are_to_be_skipped() {
    for (skip, state, ends) in [
        (false, NodeState::Down, false),
        (true, NodeState::Down, true),
        (true, NodeState::Disconnected, true),
        (true, NodeState::Unknown, false),
        (true, NodeState::Ready, false),
    ] {
        let mut world = World::new(3, skip).await;
        world.set_state(2, state).await;
        let told = world.step().await;
        assert_eq!(told, if state == NodeState::Ready { 3 } else { 2 });
        // All but the second, which is first again if it was told.
        let second = NodeId::from_number(2);
        let mut node = Node::clone(world.store.state().node(second).unwrap());
        node.certificate.renew_now = false;
        world.write(vec![Action::Update(node.into())]).await;
        world.renew(3).await;
        world.step().await;
        assert_eq!(world.root().rotation.is_none(), ends, "{skip} {state}");
    }
}
