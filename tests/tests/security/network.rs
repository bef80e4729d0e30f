//! A hostile network: other roots, replayed tokens, older protocols, no encryption at all.

use std::process::{Command, Stdio};
use std::time::Duration;

use ca::tls::{DialOptions, ExpectRole, Refusal, refusal};
use ca::{Identity, JoinToken, PrivateKey, RootCa, Subject, Tls};
use proto::control::{CreateJoinTokenRequest, RemoveJoinTokenRequest, RotateJoinTokenRequest};
use proto::objects;
use swarm_tests::cluster::{Cluster, Machine, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use types::{ClusterId, NodeId, NodeRole, Timestamp};

use crate::caller::{call, roots, try_join};

/// A certificate that says exactly what the real one says, signed by somebody else.
fn forged(cluster_id: ClusterId, node_id: NodeId, root: &RootCa) -> (PrivateKey, String) {
    let key = PrivateKey::generate().unwrap();
    let subject = Subject {
        cluster_id,
        role: NodeRole::Manager,
        node_id,
    };
    let day = Duration::from_secs(86_400);
    let csr = key.csr_pem().unwrap();
    let chain = root.issue(&csr, &subject, day, Timestamp::now()).unwrap();
    (key, chain)
}

fn names(machine: &Machine) -> (ClusterId, NodeId) {
    let view = machine.daemon().unwrap().view();
    let member = view.borrow().member.clone().unwrap();
    (member.cluster_id, member.node_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_with_the_right_names_and_the_wrong_root_gets_nothing() {
    let cluster = Cluster::new().managers(1).start().await.unwrap();
    let machine = &cluster.machines[0];
    let (cluster_id, node_id) = names(machine);
    let root = RootCa::generate(Timestamp::now()).unwrap();
    let (key, chain) = forged(cluster_id, node_id, &root);
    // It trusts the right roots, so that the manager alone has to notice.
    let both = [roots(machine).await.pem(), root.bundle().pem()].concat();
    let both = ca::RootBundle::from_pem(both).unwrap();
    let tls = Tls::new(Some(Identity::new(key, &chain, both).unwrap())).unwrap();
    let addr = machine.advertise_addr().unwrap();
    let options = DialOptions::default();
    let channel = tls.connect(&addr, ExpectRole::Manager, &options).await;
    let refused = match channel {
        Err(error) => refusal(&error),
        Ok(channel) => {
            let path = "/swarm.ca.v1.Ca/GetRootCertificate";
            let answer = call(&channel, path, &[]).await;
            refusal(&answer.expect_err("even the public root is not given"))
        }
    };
    // The alert that says why is lost when the connection's end comes first.
    assert!(
        refused
            .as_ref()
            .is_none_or(|why| *why == Refusal::OurCertificate),
        "{refused:?}"
    );
    cluster.shutdown().await;
}

/// Somebody in between shows the right names under his own root. The joining machine compares the
/// root with its token, and sends neither token nor anything else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_joins_through_somebody_in_between_keeps_its_token() {
    let mut cluster = Cluster::new().managers(1).start().await.unwrap();
    let token = cluster.token(NodeRole::Worker).await.unwrap();
    let (cluster_id, node_id) = names(&cluster.machines[0]);
    let other = Cluster::new().managers(1).start().await.unwrap();
    let impostor = other.machines[0].advertise_addr().unwrap();
    assert_ne!(names(&other.machines[0]), (cluster_id, node_id));
    let index = cluster.add_machine("victim").await.unwrap();
    let refused = cluster.machines[index].join(&token, &impostor).await;
    let text = format!("{:#}", refused.unwrap_err());
    assert!(text.contains("root"), "{text}");
    let nodes = other.machines[0].nodes().await.unwrap();
    assert_eq!(nodes.len(), 1, "the impostor got no node");
    other.shutdown().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_were_taken_back_or_used_up_are_worth_nothing() {
    let cluster = Cluster::new().managers(1).start().await.unwrap();
    let machine = &cluster.machines[0];
    let mut control = machine.control().await.unwrap();
    let refused = async |token: &str, words: &str| {
        let status = try_join(machine, token).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(words), "{status}");
    };
    // Rotated.
    let permanent = cluster.token(NodeRole::Worker).await.unwrap();
    try_join(machine, &permanent).await.unwrap();
    let role = objects::NodeRole::Worker.into();
    let rotate = RotateJoinTokenRequest { role };
    control.rotate_join_token(rotate).await.unwrap();
    refused(&permanent, "no longer").await;
    // Used up, expired, revoked.
    let mut create = async |name: &str, expires_in: Option<u64>, uses_max: Option<u64>| {
        let request = CreateJoinTokenRequest {
            name: name.to_owned(),
            role,
            expires_in,
            uses_max,
        };
        let made = control.create_join_token(request).await.unwrap();
        made.into_inner().token.unwrap().token
    };
    let once = create("once", None, Some(1)).await;
    let brief = create("brief", Some(1_000_000_000), None).await;
    let revoked = create("revoked", None, None).await;
    try_join(machine, &once).await.unwrap();
    refused(&once, "used up").await;
    eventually("the end of the token", async || {
        match try_join(machine, &brief).await {
            Ok(_) => anyhow::bail!("it still lets nodes in"),
            Err(status) => {
                anyhow::ensure!(status.message().contains("expired"), "{status}");
                Ok(())
            }
        }
    })
    .await
    .unwrap();
    try_join(machine, &revoked).await.unwrap();
    let name = "revoked".to_owned();
    let remove = RemoveJoinTokenRequest { name };
    control.remove_join_token(remove).await.unwrap();
    refused(&revoked, "no longer").await;
    // A token of another cluster, for this one's root.
    let foreign = JoinToken::generate(&roots(machine).await).unwrap();
    refused(&foreign.reveal(), "no longer").await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_without_encryption() {
    let cluster = Cluster::new().managers(1).start().await.unwrap();
    let addr = cluster.machines[0].advertise_addr().unwrap();
    for words in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
        b"GET /info HTTP/1.1\r\nHost: swarm\r\n\r\n",
        b"SSH-2.0-x\r\n",
    ] {
        let mut stream = TcpStream::connect(&addr).await.unwrap();
        stream.write_all(words).await.unwrap();
        let mut heard = vec![];
        // An end or a reset: either way what was heard before is all there is.
        let _ = stream.read_to_end(&mut heard).await;
        // At most a TLS alert: record type 21.
        assert!(heard.is_empty() || heard[0] == 21, "{heard:?}");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_protocols_and_weaker_ciphers_are_not_spoken() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: openssl is not installed");
        return;
    }
    let cluster = Cluster::new().managers(1).start().await.unwrap();
    let addr = cluster.machines[0].advertise_addr().unwrap();
    let connect = async |arguments: &'static [&'static str]| {
        let addr = addr.clone();
        let asking = tokio::task::spawn_blocking(move || {
            Command::new("openssl")
                .args(["s_client", "-connect", &addr])
                .args(arguments)
                .stdin(Stdio::null())
                .output()
        });
        let output = asking.await.unwrap().unwrap();
        let words = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&words).into_owned()
    };
    let words = connect(&["-tls1_3", "-alpn", "h2"]).await;
    assert!(words.contains("Cipher is TLS_"), "{words}");
    assert!(words.contains("ALPN protocol: h2"), "{words}");
    for arguments in [
        &["-tls1_2", "-alpn", "h2"][..],
        &["-tls1_1", "-alpn", "h2"],
        &["-tls1", "-alpn", "h2"],
        // Offering both is answered with the newer one, or not at all: no downgrade.
        &[
            "-tls1_3",
            "-alpn",
            "h2",
            "-ciphersuites",
            "TLS_AES_128_CCM_8_SHA256",
        ],
        &["-tls1_3", "-alpn", "http/1.1"],
    ] {
        let words = connect(arguments).await;
        let shown = words.contains("BEGIN CERTIFICATE");
        let refused = words.contains("no peer certificate available");
        assert!(refused && !shown, "{arguments:?}: {words}");
    }
    cluster.shutdown().await;
}
