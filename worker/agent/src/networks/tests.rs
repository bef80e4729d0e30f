//! How records of networks are taken over, passed on and kept.

use std::collections::BTreeSet;
use std::sync::Mutex;

use types::reach::{NetworkSettings, Peer};
use types::{Meta, Network, NetworkId, NodeId, Payload};

use super::*;

/// An executor that notes what it is told.
#[derive(Default)]
struct Listener {
    told: Mutex<Vec<Reach>>,
}

#[async_trait::async_trait]
impl Executor for Listener {
    async fn describe(&self) -> Result<types::node::NodeDescription, executor::Error> {
        Ok(types::node::NodeDescription::default())
    }

    fn set_node(&self, _node: Arc<types::Node>) {}

    fn set_reach(&self, reach: Arc<Reach>) {
        self.told.lock().unwrap().push((*reach).clone());
    }

    fn controller(&self, _task: Arc<types::Task>) -> Arc<dyn executor::Controller> {
        unreachable!("no task is driven here")
    }

    async fn retain(&self, _known: &BTreeSet<types::TaskId>) -> Result<(), executor::Error> {
        Ok(())
    }
}

fn network(number: u128) -> Network {
    Network {
        id: NetworkId::from_number(number),
        meta: Meta::default(),
        spec: types::network::NetworkSpec::default(),
        subnets: vec![],
    }
}

fn peer(number: u128) -> Peer {
    Peer {
        node: NodeId::from_number(number),
        index: 7,
        data_path: vec!["192.0.2.7".parse().unwrap()],
        wireguard_keys: vec![],
        alive: true,
    }
}

fn settings(keys: Vec<Payload>) -> NetworkSettings {
    NetworkSettings {
        index: 3,
        data_path_port: 4789,
        gossip_keys: keys,
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_taken_over_kept_and_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let listener = Arc::new(Listener::default());
    let mut networks = Networks::open(dir.path(), listener.clone());
    assert!(
        listener.told.lock().unwrap().is_empty(),
        "nothing is known yet"
    );
    let key = Payload::new(b"hunter2".to_vec());
    let first = vec![
        Change::UpdateNetwork((&network(1)).into()),
        Change::UpdateNetwork((&network(2)).into()),
        Change::UpdatePeer((&peer(5)).into()),
        Change::NetworkSettings((&settings(vec![key])).into()),
    ];
    networks.apply(first, true);
    networks.apply(
        vec![Change::RemoveNetwork(network(2).id.to_string())],
        false,
    );
    // One that cannot be read does not keep the others away.
    let broken = proto::objects::Network {
        id: "no id".to_owned(),
        ..Default::default()
    };
    let more = vec![
        Change::UpdateNetwork(broken),
        Change::UpdateNetwork((&network(3)).into()),
    ];
    networks.apply(more, false);
    networks.apply(vec![], false);
    let last = listener.told.lock().unwrap().last().cloned().unwrap();
    let ids: Vec<_> = last.networks.keys().copied().collect();
    assert_eq!(ids, [network(1).id, network(3).id]);
    assert_eq!(last.settings.as_ref().unwrap().gossip_keys.len(), 1);
    assert_eq!(listener.told.lock().unwrap().len(), 3);

    networks.unsaved().await;
    networks.save();
    let bytes = std::fs::read(dir.path().join(FILE)).unwrap();
    assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
    let again = Arc::new(Listener::default());
    let mut networks = Networks::open(dir.path(), again.clone());
    let kept = Reach {
        settings: Some(settings(vec![])),
        ..last
    };
    assert_eq!(*again.told.lock().unwrap(), [kept]);
    // A complete set without any is the end of them.
    networks.apply(vec![], true);
    assert_eq!(
        *again.told.lock().unwrap().last().unwrap(),
        Reach::default()
    );
}

#[tokio::test]
async fn a_broken_file_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), b"\xff\xff\xff").unwrap();
    let listener = Arc::new(Listener::default());
    drop(Networks::open(dir.path(), listener.clone()));
    assert!(listener.told.lock().unwrap().is_empty());
}
