//! What the corpus begins with: one good input of each kind, and an empty request for every RPC.

use ca::{JoinToken, PrivateKey, RootCa, UnlockKey};
use proto::{control, dispatcher, objects};
use types::{ClusterSpec, NodeSpec, ServiceSpec, Timestamp, Version};

type Seed = (&'static str, String, Vec<u8>);

fn seed(target: &'static str, name: &str, data: impl Into<Vec<u8>>) -> Seed {
    (target, name.to_owned(), data.into())
}

fn request(path: &str, message: &impl prost::Message) -> Vec<u8> {
    [path.as_bytes(), &[0], &message.encode_to_vec()].concat()
}

/// Every one. Keys in it are made for it, and open nothing.
pub(crate) fn all() -> Vec<Seed> {
    let root = RootCa::generate(Timestamp::from_secs(1_800_000_000)).unwrap();
    let key = PrivateKey::generate().unwrap();
    let csr = key.csr_pem().unwrap();
    let der = pem::parse(&csr).unwrap().into_contents();
    let token = JoinToken::generate(root.bundle()).unwrap();
    let transaction = store::Transaction {
        now: Timestamp::from_secs(1),
        actions: vec![],
    };
    let outcome = store::codec::encode_outcome(Version { index: 7 }, &Ok(()));
    let snapshot = store::codec::encode_snapshot(&store::Store::new().state());
    let unlock = UnlockKey::generate().unwrap();
    let mut seeds = vec![
        seed("join_token", "good", token.reveal().as_bytes()),
        seed("join_token", "cut", &token.reveal().as_bytes()[..60]),
        seed("unlock_key", "good", unlock.reveal().as_bytes()),
        seed("key_file", "plain", key.to_pem().as_bytes()),
        seed("csr", "pem", csr.as_bytes()),
        seed("csr", "der", der),
        seed("root_bundle", "one", root.bundle().pem()),
        seed(
            "transaction",
            "empty",
            store::codec::encode_transaction(&transaction),
        ),
        seed("transaction", "outcome", outcome),
        seed("snapshot", "empty", snapshot),
        seed("sealed_record", "short", &b"nonce"[..]),
        seed("sealed_record", "parts", vec![0, 2, 1, 2, 3, 0, 1]),
    ];
    for path in proto::RPCS {
        let name = path.trim_start_matches("/swarm.").replace('/', ".");
        seeds.push(seed("rpc_request", &name, [path.as_bytes(), &[0]].concat()));
    }
    seeds.extend(requests());
    seeds
}

/// Requests with something in them.
fn requests() -> Vec<Seed> {
    let create = control::CreateServiceRequest {
        spec: Some((&ServiceSpec::default()).into()),
    };
    let node = control::UpdateNodeRequest {
        id: "1".repeat(25),
        version: 3,
        spec: Some((&NodeSpec::default()).into()),
    };
    let init = proto::daemon::InitRequest {
        spec: Some((&ClusterSpec::default()).into()),
        ..Default::default()
    };
    let register = dispatcher::Register {
        description: Some(objects::NodeDescription {
            hostname: "n1".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let register = dispatcher::AgentMessage {
        message: Some(dispatcher::agent_message::Message::Register(register)),
    };
    let control = "/swarm.control.v1.Control";
    vec![
        seed(
            "rpc_request",
            "full-create-service",
            request(&format!("{control}/CreateService"), &create),
        ),
        seed(
            "rpc_request",
            "full-update-node",
            request(&format!("{control}/UpdateNode"), &node),
        ),
        seed(
            "rpc_request",
            "full-init",
            request("/swarm.daemon.v1.Daemon/Init", &init),
        ),
        seed(
            "rpc_request",
            "full-register",
            request("/swarm.dispatcher.v1.Dispatcher/Session", &register),
        ),
    ]
}
