//! Keys, tokens, certificates and signing requests.

use std::sync::OnceLock;
use std::time::Duration;

use ca::{ClientSubject, JoinToken, KeyFile, RootBundle, RootCa, Subject, UnlockKey};
use types::access::ClientRole;
use types::{ClientId, ClusterId, NodeId, NodeRole, Timestamp};

/// What is accepted must be the one way to write it: two texts for one token would be two tokens
/// for everything that compares texts.
pub(crate) fn join_token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match text.parse::<JoinToken>() {
        Ok(token) => assert_eq!(*token.reveal(), *text),
        Err(error) => drop(error.to_string()),
    }
}

pub(crate) fn unlock_key(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = text.parse::<UnlockKey>() {
        assert_eq!(*key.reveal(), text.trim());
    }
}

pub(crate) fn key_file(data: &[u8]) {
    let Ok(file) = KeyFile::parse(&String::from_utf8_lossy(data)) else {
        return;
    };
    let written = file.to_text();
    let again = KeyFile::parse(&written).expect("what was written is read");
    assert_eq!(*again.to_text(), *written);
    drop((file.raft_dek(), file.raft_dek_pending(), file.kek_version()));
}

fn root() -> &'static RootCa {
    static ROOT: OnceLock<RootCa> = OnceLock::new();
    ROOT.get_or_init(|| RootCa::generate(Timestamp::now()).expect("random numbers are there"))
}

/// As PEM, and as the DER that PEM would hold: a fuzzer finds little through base64.
pub(crate) fn csr(data: &[u8]) {
    let wrapped = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", data));
    for text in [&*String::from_utf8_lossy(data), &wrapped] {
        let (validity, now) = (Duration::from_secs(3600), Timestamp::now());
        let cluster_id = ClusterId::from_number(1);
        let node = Subject {
            cluster_id,
            role: NodeRole::Worker,
            node_id: NodeId::from_number(2),
        };
        let client = ClientSubject {
            cluster_id,
            role: ClientRole::Reader,
            client_id: ClientId::from_number(3),
        };
        let node = root().issue(text, &node, validity, now);
        let client = root().issue_client(text, &client, validity, now);
        assert_eq!(node.is_ok(), client.is_ok());
    }
}

pub(crate) fn root_bundle(data: &[u8]) {
    if let Ok(bundle) = RootBundle::from_pem(data) {
        assert_eq!(bundle.pem(), data);
        assert!(bundle.roots() >= 1);
    }
    let wrapped = pem::encode(&pem::Pem::new("CERTIFICATE", data));
    drop(RootBundle::from_pem(wrapped));
}
