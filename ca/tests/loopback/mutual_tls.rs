//! Both ends show who they are, and neither believes a stranger.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use ca::authorize::Verdict;
use ca::tls::{
    Connections, DialOptions, Error, ExpectRole, HANDSHAKES_MAX, Refusal, bootstrap_channel,
    pinned_channel, refusal,
};
use ca::{Certified, PeerIdentity, Tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use types::{NodeId, NodeRole};

use crate::echo::{ANYONE, MANAGERS, NODES, ask};
use crate::fixture::{Cluster, PATIENCE, Running, admission, both, chain, dial, tls};

fn is_their_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(refusal(error), Some(Refusal::TheirCertificate(_)))
}

#[tokio::test]
async fn the_callers_identity_reaches_the_handler() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    for (identity, expected) in [
        (cluster.worker(2), "worker"),
        (cluster.manager(3), "manager"),
    ] {
        let node_id = identity.node_id();
        let channel = dial(&tls(identity), server.addr).await.unwrap();
        assert_eq!(
            ask(&channel, NODES, "").await.unwrap(),
            format!("{expected} {node_id}")
        );
    }
}

#[tokio::test]
async fn without_a_certificate_only_open_rpcs_answer() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    let channel = pinned_channel(&server.addr.to_string(), &cluster.roots())
        .await
        .unwrap();
    assert_eq!(ask(&channel, ANYONE, "").await.unwrap(), "anonymous");
    for path in [NODES, MANAGERS] {
        let status = ask(&channel, path, "").await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
}

#[tokio::test]
async fn a_server_with_foreign_roots_is_refused() {
    let (ours, theirs) = (Cluster::new(1), Cluster::new(1));
    let server = Running::start(theirs.manager(1)).await;
    let error = dial(&tls(ours.worker(2)), server.addr).await.unwrap_err();
    assert!(is_their_certificate(&error), "{}", chain(&error));
    let error = pinned_channel(&server.addr.to_string(), &ours.roots())
        .await
        .unwrap_err();
    assert!(is_their_certificate(&error), "{}", chain(&error));
}

#[tokio::test]
async fn a_client_with_foreign_roots_is_refused() {
    let (ours, theirs) = (Cluster::new(1), Cluster::new(1));
    let server = Running::start(ours.manager(1)).await;
    // It trusts us, so that only the server has a reason to say no.
    let trusting = theirs.manager(2).with_roots(both(&ours, &theirs)).unwrap();
    let error = first_rpc_error(&tls(trusting), &server).await;
    assert_eq!(
        refusal(&*error),
        Some(Refusal::OurCertificate),
        "{}",
        chain(&*error)
    );
}

/// Under TLS 1.3 a refused client learns it while connecting or with the first RPC.
async fn first_rpc_error(tls: &Tls, server: &Running) -> Box<dyn std::error::Error> {
    match dial(tls, server.addr).await {
        Err(error) => error.into(),
        Ok(channel) => ask(&channel, ANYONE, "").await.unwrap_err().into(),
    }
}

#[tokio::test]
async fn expired_certificates_are_refused_both_ways() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    for role in [NodeRole::Worker, NodeRole::Manager] {
        let error = first_rpc_error(&tls(cluster.expired(role, 2)), &server).await;
        assert_eq!(
            refusal(&*error),
            Some(Refusal::OurCertificate),
            "{}",
            chain(&*error)
        );
    }
    let server = Running::start(cluster.expired(NodeRole::Manager, 1)).await;
    let error = dial(&tls(cluster.worker(2)), server.addr)
        .await
        .unwrap_err();
    assert!(is_their_certificate(&error), "{}", chain(&error));
    assert!(chain(&error).contains("xpired"), "{}", chain(&error));
}

#[tokio::test]
async fn a_worker_cannot_pose_as_a_manager() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.worker(1)).await;
    let error = dial(&tls(cluster.worker(2)), server.addr)
        .await
        .unwrap_err();
    assert!(is_their_certificate(&error), "{}", chain(&error));
    assert!(chain(&error).contains("swarm-manager"), "{}", chain(&error));
    let pinned = pinned_channel(&server.addr.to_string(), &cluster.roots()).await;
    assert!(is_their_certificate(&pinned.unwrap_err()));
}

#[tokio::test]
async fn a_certificate_of_the_same_root_for_another_cluster_is_refused() {
    let ours = Cluster::new(1);
    let same_root = Cluster {
        id: types::ClusterId::from_number(2),
        root: reread(&ours),
    };
    let server = Running::start(ours.manager(1)).await;
    let error = dial(&tls(same_root.manager(2)), server.addr)
        .await
        .unwrap_err();
    assert!(
        chain(&error).contains("not the manager that was dialled"),
        "{}",
        chain(&error)
    );
    // A client that does not look still gets nothing out of the server.
    let channel = lenient_channel(&same_root, &server).await;
    let status = ask(&channel, ANYONE, "").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("another cluster"), "{status}");
}

fn reread(cluster: &Cluster) -> ca::RootCa {
    let roots = cluster.roots();
    let pem = std::str::from_utf8(roots.pem()).unwrap();
    ca::RootCa::from_pem(pem, &cluster.root.key_pem()).unwrap()
}

/// Shows a certificate but does not look at the cluster id of the other end.
async fn lenient_channel(cluster: &Cluster, server: &Running) -> tonic::transport::Channel {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    let identity = cluster.manager(2);
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(identity.roots().pem()).unwrap())
        .unwrap();
    let chain = CertificateDer::pem_slice_iter(identity.chain_pem().as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key().to_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let addr = server.addr;
    let dial = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(addr).await?;
            let name = ServerName::try_from("swarm-manager").unwrap();
            connector
                .connect(name, stream)
                .await
                .map(hyper_util::rt::TokioIo::new)
        }
    });
    tonic::transport::Endpoint::from_static("http://server")
        .connect_with_connector(dial)
        .await
        .unwrap()
}

#[tokio::test]
async fn one_manager_cannot_pose_as_another() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    let client = tls(cluster.manager(2));
    let addr = server.addr.to_string();
    let options = DialOptions::default();
    let meant = ExpectRole::ManagerNode(NodeId::from_number(1));
    client.connect(&addr, meant, &options).await.unwrap();
    let other = ExpectRole::ManagerNode(NodeId::from_number(7));
    let error = client.connect(&addr, other, &options).await.unwrap_err();
    assert!(
        chain(&error).contains("that was dialled"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn without_an_identity_nobody_gets_through() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    let nobody = Tls::new(None).unwrap();
    assert!(matches!(
        dial(&nobody, server.addr).await,
        Err(Error::NoIdentity)
    ));
    server.tls.clear();
    let error = dial(&tls(cluster.worker(2)), server.addr)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Unreachable { .. }),
        "{}",
        chain(&error)
    );
    server.tls.swap(cluster.manager(1)).unwrap();
    dial(&tls(cluster.worker(2)), server.addr).await.unwrap();
}

#[tokio::test]
async fn what_is_not_an_address_is_refused_at_once() {
    let cluster = Cluster::new(1);
    let client = tls(cluster.worker(1));
    for addr in ["", "a b", "http://x:1", ":", "10.0.0.1:99999"] {
        let channel = client
            .connect(addr, ExpectRole::Manager, &DialOptions::default())
            .await;
        assert!(channel.is_err(), "{addr:?}");
        assert!(bootstrap_channel(addr).await.is_err(), "{addr:?}");
    }
}

/// A TLS 1.2 `ClientHello`, written by hand: rustls is built here without TLS 1.2.
fn client_hello_tls12() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]); // random
    body.push(0); // no session
    body.extend([0, 4, 0xc0, 0x2b, 0xc0, 0x2f]); // ECDHE with AES-128-GCM
    body.extend([1, 0]); // no compression
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // groups: P-256
        0, 11, 0, 2, 1, 0, // point format: uncompressed
        0, 13, 0, 4, 0, 2, 4, 3, // signatures: ECDSA P-256 SHA-256
    ];
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let len = u16::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1];
    record.extend((len + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend(len.to_be_bytes());
    record.extend(body);
    record
}

#[tokio::test]
async fn tls_1_2_is_answered_with_protocol_version() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(&client_hello_tls12()).await.unwrap();
    let mut reply = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut reply))
        .await
        .unwrap()
        .unwrap();
    // An alert record (21), fatal (2), protocol_version (70).
    assert_eq!((reply[0], &reply[5..]), (21, &[2, 70][..]), "{reply:?}");
}

#[tokio::test]
async fn a_refused_client_can_read_why_while_it_is_still_sending() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    // More than the server reads before it refuses: closing at once would reset the connection.
    let more = [client_hello_tls12(), vec![0; 100_000]].concat();
    stream.write_all(&more).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut reply = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut reply)).await;
    read.unwrap()
        .expect("the connection ends in order, not by a reset");
    assert_eq!(reply[5..], [2, 70], "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_gets_through_with_tls_1_3_only() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is not installed");
        return;
    }
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, cluster.roots().pem()).unwrap();
    let connect = |version: &'static str| {
        let (addr, roots) = (server.addr.to_string(), roots.clone());
        tokio::task::spawn_blocking(move || {
            let output = Command::new("openssl")
                .args(["s_client", version, "-alpn", "h2", "-verify_return_error"])
                .args([
                    "-verify_hostname",
                    "swarm-manager",
                    "-connect",
                    &addr,
                    "-CAfile",
                ])
                .arg(roots)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let words = [output.stdout, output.stderr].concat();
            (
                output.status.success(),
                String::from_utf8_lossy(&words).into_owned(),
            )
        })
    };
    let (is_good, words) = connect("-tls1_3").await.unwrap();
    assert!(
        is_good && words.contains("Verify return code: 0 (ok)"),
        "{words}"
    );
    let (is_good, words) = connect("-tls1_2").await.unwrap();
    assert!(!is_good && words.contains("protocol version"), "{words}");
}

#[tokio::test]
async fn silent_connections_do_not_hold_up_others() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES_MAX + 50 {
        silent.push(TcpStream::connect(server.addr).await.unwrap());
    }
    let begun = Instant::now();
    let channel = dial(&tls(cluster.worker(2)), server.addr).await.unwrap();
    ask(&channel, NODES, "").await.unwrap();
    let taken = begun.elapsed();
    assert!(taken < ca::tls::HANDSHAKE_TIMEOUT / 2, "{taken:?}");
    // More than the limit were opened, so the oldest have been closed already.
    let mut byte = [0];
    let closed = tokio::time::timeout(ca::tls::HANDSHAKE_TIMEOUT / 2, silent[0].read(&mut byte));
    assert!(
        !matches!(closed.await.unwrap(), Ok(1..)),
        "the oldest is still open"
    );
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_takes_too_long_is_cut_off() {
    use futures::StreamExt as _;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let incoming = ca::tls::incoming(
        listener,
        tls(Cluster::new(1).manager(1)),
        admission(Connections::new(Arc::new(|_| Verdict::Good))),
        stop.clone(),
    );
    let mut incoming = std::pin::pin!(incoming);
    let mut silent = TcpStream::connect(addr).await.unwrap();
    let begun = tokio::time::Instant::now();
    let mut byte = [0];
    tokio::select! {
        _ = incoming.next() => panic!("a silent connection came through"),
        read = silent.read(&mut byte) => assert_eq!(read.unwrap(), 0),
    }
    assert_eq!(
        begun.elapsed().as_secs(),
        ca::tls::HANDSHAKE_TIMEOUT.as_secs()
    );
    stop.cancel();
    assert!(incoming.next().await.is_none());
}

#[tokio::test]
async fn rubbish_on_the_port_leaves_the_server_alone() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    for rubbish in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 1000],
        &[22, 3, 1, 0xff, 0xff],
        b"\x16",
    ] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(rubbish).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut reply = Vec::new();
        // A reset is as good an answer as an alert.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut reply))
            .await
            .unwrap();
    }
    let channel = dial(&tls(cluster.worker(2)), server.addr).await.unwrap();
    ask(&channel, NODES, "").await.unwrap();
}

#[tokio::test]
async fn the_connection_knows_its_peer() {
    use futures::StreamExt as _;
    let cluster = Cluster::new(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let connections = Connections::new(Arc::new(|_| Verdict::Good));
    let server = ca::tls::incoming(
        listener,
        tls(cluster.manager(1)),
        admission(connections),
        CancellationToken::new(),
    );
    let mut server = std::pin::pin!(server);
    let identity = cluster.worker(2);
    let expected: PeerIdentity = identity.peer();
    let client = tls(identity);
    let options = DialOptions::default();
    let dialling = client.connect(&addr, ExpectRole::Manager, &options);
    let (channel, accepted) = tokio::join!(dialling, server.next());
    let _channel = channel.unwrap();
    let conn = accepted.unwrap().unwrap();
    assert_eq!(conn.info().peer, Some(Certified::Node(expected)));
    assert!(conn.info().remote_addr.ip().is_loopback());
}
