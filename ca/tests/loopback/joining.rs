//! How a node without anything becomes one with an identity, and who cannot get in between.

use std::sync::Arc;

use ca::tls::{Refusal, bootstrap_channel, pinned_channel, refusal};
use ca::{Identity, JoinToken, NODE_VALIDITY_DEFAULT, PrivateKey, RootBundle, Subject};
use types::{NodeId, NodeRole, Timestamp};

use crate::echo::{ANYONE, Answer, NODES, ask};
use crate::fixture::{Cluster, Running, chain, dial, tls};

/// What a manager does for joining nodes: give the bundle out, and sign for the right token.
fn signer(cluster: &Arc<Cluster>, worker_token: JoinToken) -> Answer {
    let cluster = Arc::clone(cluster);
    Arc::new(move |text| {
        if text == "bundle" {
            return Some(String::from_utf8(cluster.roots().pem().to_vec()).unwrap());
        }
        let (token, csr) = text.split_once('\n')?;
        if token.parse() != Ok(worker_token.clone()) {
            return Some("a valid join token is necessary to join".to_owned());
        }
        let node_id = NodeId::from_number(77);
        let subject = Subject {
            cluster_id: cluster.id,
            role: NodeRole::Worker,
            node_id,
        };
        let now = Timestamp::now();
        Some(
            cluster
                .root
                .issue(csr, &subject, NODE_VALIDITY_DEFAULT, now)
                .unwrap(),
        )
    })
}

#[tokio::test]
async fn a_token_is_all_a_node_needs() {
    let cluster = Arc::new(Cluster::new(1));
    let token = JoinToken::generate(&cluster.roots()).unwrap();
    let answer = signer(&cluster, token.clone());
    let server = Running::with(cluster.manager(1), "127.0.0.1:0", answer, None).await;
    let addr = server.addr.to_string();

    let token: JoinToken = token.reveal().parse().unwrap();
    let stranger = bootstrap_channel(&addr).await.unwrap();
    let bundle = ask(&stranger, ANYONE, "bundle").await.unwrap();
    assert!(token.matches_bundle(bundle.as_bytes()));
    let roots = RootBundle::from_pem(bundle).unwrap();
    let pinned = pinned_channel(&addr, &roots).await.unwrap();
    let key = PrivateKey::generate().unwrap();
    let csr = key.csr_pem().unwrap();
    let request = format!("{}\n{csr}", *token.reveal());
    let chain = ask(&pinned, ANYONE, &request).await.unwrap();
    let identity = Identity::new(key, &chain, roots.clone()).unwrap();
    assert_eq!(identity.role(), NodeRole::Worker);
    let channel = dial(&tls(identity), server.addr).await.unwrap();
    let expected = format!("worker {}", NodeId::from_number(77));
    assert_eq!(ask(&channel, NODES, "").await.unwrap(), expected);

    // Right root, wrong secret.
    let wrong = JoinToken::generate(&roots).unwrap();
    let answer = ask(&pinned, ANYONE, &format!("{}\n{csr}", *wrong.reveal()))
        .await
        .unwrap();
    assert!(answer.contains("valid join token"), "{answer}");
}

#[tokio::test]
async fn somebody_in_between_is_noticed_before_the_secret_is_sent() {
    let (ours, theirs) = (Arc::new(Cluster::new(1)), Arc::new(Cluster::new(1)));
    let token = JoinToken::generate(&ours.roots()).unwrap();
    let answer = signer(&theirs, JoinToken::generate(&theirs.roots()).unwrap());
    let impostor = Running::with(theirs.manager(1), "127.0.0.1:0", answer, None).await;
    let addr = impostor.addr.to_string();
    let bundle = ask(&bootstrap_channel(&addr).await.unwrap(), ANYONE, "bundle")
        .await
        .unwrap();
    assert!(!token.matches_bundle(bundle.as_bytes()));

    // Handing out the real bundle does not help them: they have no certificate under it.
    let error = pinned_channel(&addr, &ours.roots()).await.unwrap_err();
    assert!(
        matches!(refusal(&error), Some(Refusal::TheirCertificate(_))),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn the_first_contact_asks_for_proof_of_the_key() {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    // A server that shows a manager's certificate, copied off the wire, without having its key.
    let cluster = Cluster::new(1);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(cluster.manager(1).chain_pem().as_bytes())
        .map(Result::unwrap)
        .collect();
    let own_key = PrivateKey::generate().unwrap().to_pem();
    let own_key = rustls::pki_types::PrivateKeyDer::from_pem_slice(own_key.as_bytes()).unwrap();
    let signing = rustls::crypto::ring::sign::any_ecdsa_type(&own_key).unwrap();
    let stolen = rustls::sign::CertifiedKey::new(chain, signing);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(stolen)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.map(drop)
    });
    let error = bootstrap_channel(&addr).await.unwrap_err();
    assert!(
        matches!(refusal(&error), Some(Refusal::TheirCertificate(_))),
        "{}",
        crate::fixture::chain(&error)
    );
}
