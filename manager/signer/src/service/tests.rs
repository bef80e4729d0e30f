//! Joining in each role, renewing, and what is refused.

use ca::{JoinToken, PrivateKey, RootCa};
use store::testing::LocalProposer;
use types::cluster::RootCaState;
use types::node::ManagerStatus;
use types::{Cluster, ClusterId, ClusterSpec, Meta, Node};

use super::*;

const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Fixture {
    signer: Signer,
    worker_token: String,
    manager_token: String,
}

async fn fixture() -> Fixture {
    let root = RootCa::generate(Timestamp::now()).unwrap();
    let token = || {
        JoinToken::generate(root.bundle())
            .unwrap()
            .reveal()
            .to_string()
    };
    let (worker_token, manager_token) = (token(), token());
    let cluster = Cluster {
        id: ClusterId::from_number(7),
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        root_ca: RootCaState {
            cert_pem: String::from_utf8(root.bundle().pem().to_vec()).unwrap(),
            key_pem: root.key_pem().to_string(),
            worker_token: worker_token.clone(),
            manager_token: manager_token.clone(),
            ..RootCaState::default()
        },
        lock: types::cluster::ClusterLock::default(),
        revoked: std::collections::BTreeMap::new(),
        gossip_keys: vec![],
        content_key: types::Payload::default(),
        gossip_keys_at: types::Timestamp::default(),
        access: types::access::Access::default(),
    };
    let store = Store::new();
    let proposer = LocalProposer::new(store.clone());
    proposer
        .propose(vec![Action::Create(cluster.into())])
        .await
        .unwrap();
    let signer = Signer::new(Options {
        store,
        proposer: Arc::new(proposer),
        tls: Tls::new(None).unwrap(),
        validity_min: ca::NODE_VALIDITY_MIN,
    });
    Fixture {
        signer,
        worker_token,
        manager_token,
    }
}

fn request(token: &str) -> IssueNodeCertificateRequest {
    IssueNodeCertificateRequest {
        csr_pem: PrivateKey::generate().unwrap().csr_pem().unwrap(),
        token: token.to_owned(),
        availability: proto::objects::Availability::Pause.into(),
    }
}

fn peer(issued: &Issued) -> ca::PeerIdentity {
    ca::PeerIdentity {
        node_id: issued.subject.node_id,
        role: issued.subject.role,
        cluster_id: issued.subject.cluster_id,
        cert_not_before: Timestamp::default(),
        cert_not_after: Timestamp(u64::MAX),
    }
}

#[tokio::test]
async fn the_token_decides_the_role() {
    let f = fixture().await;
    for (token, role) in [
        (&f.worker_token, NodeRole::Worker),
        (&f.manager_token, NodeRole::Manager),
    ] {
        let issued = f.signer.join(&request(token), FROM).await.unwrap();
        let state = f.signer.store.state();
        let node = state
            .node(issued.subject.node_id)
            .expect("the node is stored");
        assert_eq!((node.role, node.spec.role), (role, role));
        assert_eq!(node.spec.availability, Availability::Pause);
    }
}

#[tokio::test]
async fn wrong_tokens_are_refused_in_words() {
    let f = fixture().await;
    let wrong_secret = format!("{}{}", &f.worker_token[..60], "0".repeat(25));
    for token in ["nonsense", &f.worker_token[..80], &wrong_secret] {
        let refused = f.signer.join(&request(token), FROM).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{token}");
        assert!(refused.message().contains("valid join token"), "{refused}");
    }
    assert_eq!(f.signer.store.state().nodes().count(), 0);
}

#[tokio::test]
async fn a_request_that_is_none_joins_nobody() {
    let f = fixture().await;
    let request = IssueNodeCertificateRequest {
        csr_pem: "x".into(),
        ..request(&f.worker_token)
    };
    let refused = f.signer.join(&request, FROM).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert_eq!(f.signer.store.state().nodes().count(), 0);
}

#[tokio::test]
async fn renewal_follows_the_wanted_role() {
    let f = fixture().await;
    let issued = f
        .signer
        .join(&request(&f.worker_token), FROM)
        .await
        .unwrap();
    let change = |edit: fn(&mut Node)| {
        let state = f.signer.store.state();
        let mut node = Node::clone(state.node(issued.subject.node_id).unwrap());
        edit(&mut node);
        f.signer.proposer.propose(vec![Action::Update(node.into())])
    };
    let renewed = f
        .signer
        .renew(&peer(&issued), None, &request("").csr_pem)
        .await
        .unwrap();
    assert_eq!(renewed.subject.role, NodeRole::Worker);

    change(|node| node.spec.role = NodeRole::Manager)
        .await
        .unwrap();
    let promoted = f
        .signer
        .renew(&peer(&issued), None, &request("").csr_pem)
        .await
        .unwrap();
    assert_eq!(promoted.subject.role, NodeRole::Manager);

    change(|node| {
        node.spec.role = NodeRole::Worker;
        node.manager_status = Some(ManagerStatus::default());
    })
    .await
    .unwrap();
    let refused = f
        .signer
        .renew(&peer(&promoted), None, &request("").csr_pem)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);

    change(|node| node.manager_status = None).await.unwrap();
    let demoted = f
        .signer
        .renew(&peer(&promoted), None, &request("").csr_pem)
        .await
        .unwrap();
    assert_eq!(demoted.subject.role, NodeRole::Worker);
    let state = f.signer.store.state();
    assert_eq!(
        state.node(issued.subject.node_id).unwrap().role,
        NodeRole::Worker
    );
}

#[tokio::test]
async fn a_removed_node_gets_nothing() {
    let f = fixture().await;
    let issued = f
        .signer
        .join(&request(&f.worker_token), FROM)
        .await
        .unwrap();
    let id = store::ObjectId::Node(issued.subject.node_id);
    f.signer
        .proposer
        .propose(vec![Action::Remove { id, version: None }])
        .await
        .unwrap();
    let refused = f
        .signer
        .renew(&peer(&issued), None, &request("").csr_pem)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
}

/// Makes a token that was revoked, expired or used up, and one that works.
async fn with_token(f: &Fixture, expires_at: Option<Timestamp>, uses_max: Option<u64>) -> String {
    let state = f.signer.store.state();
    let mut cluster = Cluster::clone(state.cluster().unwrap());
    let bundle = ca::RootBundle::from_pem(cluster.root_ca.cert_pem.clone()).unwrap();
    let token = JoinToken::generate(&bundle).unwrap().reveal().to_string();
    let named = types::access::NamedToken {
        role: NodeRole::Worker,
        token: token.clone(),
        created_at: Timestamp::default(),
        expires_at,
        uses_max,
        uses: 0,
    };
    cluster.access.join_tokens.insert("batch".to_owned(), named);
    let action = Action::Update(cluster.into());
    f.signer.proposer.propose(vec![action]).await.unwrap();
    token
}

#[tokio::test]
async fn a_named_token_lets_in_as_many_as_it_says_even_all_at_once() {
    let f = fixture().await;
    let token = with_token(&f, None, Some(3)).await;
    let mut joins = tokio::task::JoinSet::new();
    for number in 0..8u8 {
        let (signer, request) = (f.signer.clone(), request(&token));
        joins.spawn(async move { signer.join(&request, [10, 0, 0, number].into()).await });
    }
    let joined = joins.join_all().await;
    let refused: Vec<_> = joined.iter().filter_map(|it| it.as_ref().err()).collect();
    assert_eq!(joined.len() - refused.len(), 3);
    for status in refused {
        assert!(
            status.message().contains("this one, batch, is used up"),
            "{status}"
        );
    }
    assert_eq!(f.signer.store.state().nodes().count(), 3);
}

#[tokio::test]
async fn a_token_that_expired_or_was_revoked_lets_nobody_in() {
    let f = fixture().await;
    let token = with_token(&f, Some(Timestamp::from_secs(1)), None).await;
    let refused = f.signer.join(&request(&token), FROM).await.unwrap_err();
    assert!(refused.message().contains("is expired"), "{refused}");
    let token = with_token(&f, None, None).await;
    f.signer.join(&request(&token), FROM).await.unwrap();
    let state = f.signer.store.state();
    let mut cluster = Cluster::clone(state.cluster().unwrap());
    cluster.access.join_tokens.clear();
    let action = Action::Update(cluster.into());
    f.signer.proposer.propose(vec![action]).await.unwrap();
    let refused = f.signer.join(&request(&token), FROM).await.unwrap_err();
    assert!(refused.message().contains("no longer"), "{refused}");
}

#[tokio::test]
async fn a_manager_certificate_is_dated_after_its_nodes_demotion() {
    let f = fixture().await;
    let joined = f.signer.join(&request(&f.manager_token), FROM).await;
    let joined = joined.unwrap();
    let state = f.signer.store.state();
    let mut cluster = Cluster::clone(state.cluster().unwrap());
    // By another manager's clock, which is ahead.
    let demoted_at = Timestamp::now().plus(std::time::Duration::from_secs(30));
    let demoted = &mut cluster.access.demoted;
    demoted.insert(joined.subject.node_id, demoted_at);
    let action = Action::Update(cluster.into());
    f.signer.proposer.propose(vec![action]).await.unwrap();
    let key = PrivateKey::generate().unwrap();
    let request = IssueNodeCertificateRequest {
        csr_pem: key.csr_pem().unwrap(),
        ..request("")
    };
    let again = f
        .signer
        .renew(&peer(&joined), None, &request.csr_pem)
        .await
        .unwrap();
    let roots = ca::RootBundle::from_pem(again.bundle_pem).unwrap();
    let identity = ca::Identity::new(key, &again.chain_pem, roots).unwrap();
    assert!(identity.not_before().plus(ca::BACKDATE) > demoted_at);
}

#[tokio::test]
async fn a_node_comes_back_by_the_keys_it_is_known_by_and_no_other() {
    let f = fixture().await;
    let (first, second) = (
        PrivateKey::generate().unwrap(),
        PrivateKey::generate().unwrap(),
    );
    let mut joining = request(&f.worker_token);
    joining.csr_pem = first.csr_pem().unwrap();
    let joined = f.signer.join(&joining, FROM).await.unwrap();
    let id = joined.subject.node_id;
    let csr = |key: &PrivateKey| key.csr_pem().unwrap();
    let known = ca::csr_key_digest(&csr(&first)).unwrap();

    let back = f.signer.reissue(id, &csr(&first)).await.unwrap();
    assert_eq!(back.subject, joined.subject);
    assert_eq!(ca::chain_key_digest(&back.chain_pem).unwrap(), known);
    let stranger = csr(&PrivateKey::generate().unwrap());
    let refused = f.signer.reissue(id, &stranger).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("another key"), "{refused}");

    // The answer to a renewal may be lost: until the next one, both keys are known.
    let renew = async |old, new: &PrivateKey| {
        let peer = peer(&joined);
        f.signer.renew(&peer, Some(old), &csr(new)).await.unwrap();
    };
    renew(known, &second).await;
    f.signer.reissue(id, &csr(&first)).await.unwrap();
    f.signer.reissue(id, &csr(&second)).await.unwrap();
    let third = PrivateKey::generate().unwrap();
    renew(ca::csr_key_digest(&csr(&second)).unwrap(), &third).await;
    let refused = f.signer.reissue(id, &csr(&first)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);

    let node = f.signer.store.state().node(id).unwrap().clone();
    let remove = Action::Remove {
        id: store::ObjectId::Node(id),
        version: Some(node.meta.version),
    };
    f.signer.proposer.propose(vec![remove]).await.unwrap();
    let refused = f.signer.reissue(id, &csr(&third)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
}
