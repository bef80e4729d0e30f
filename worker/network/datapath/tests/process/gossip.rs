//! Gossip between real processes, each in a namespace of its own, on one wire.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use crate::machine::{Machine, PATIENCE, cannot_run, new_namespace};
use datapath_client::{Datapath, GossipKey, GossipView, Liveness, Peer, PeerStates};
use rustix::process::{Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use types::NodeId;

/// A node's daemon, which runs in the node's namespace on a thread of its own.
struct Node {
    machine: Machine,
    handle: Datapath,
    peers: watch::Receiver<PeerStates>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Some nodes on one wire.
struct Wire {
    bridge: OwnedFd,
    namespaces: Vec<OwnedFd>,
    nodes: Vec<Node>,
}

fn id(node: usize) -> NodeId {
    NodeId::from_number(node as u128 + 1)
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 99, 0, u8::try_from(node).unwrap() + 1], 7946))
}

fn ip(namespace: &OwnedFd, arguments: &str) {
    let run = || {
        enter(namespace);
        Command::new("ip")
            .args(arguments.split_whitespace())
            .status()
    };
    let status = std::thread::scope(|scope| scope.spawn(run).join().unwrap());
    assert!(status.unwrap().success(), "ip {arguments}");
}

/// Moves the calling thread, and all that it starts, into a namespace.
fn enter(namespace: &OwnedFd) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

fn key(byte: u8) -> GossipKey {
    GossipKey(vec![byte; 16].into())
}

impl Node {
    fn start(namespace: &OwnedFd) -> Self {
        let machine = Machine::new();
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let (end, ended) = oneshot::channel();
        let options = datapath_client::Options {
            program: datapath_client::ProgramSource::Path(crate::machine::PROGRAM.into()),
            socket: machine.socket(),
        };
        let namespace = namespace.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            // Threads of this runtime, and the process they start, are in the namespace, too.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let (handle, service) = Datapath::new(options);
                sender.send(handle).unwrap();
                tokio::select! {
                    () = service.run(tokio_util::sync::CancellationToken::new()) => {}
                    _ = ended => {}
                }
            });
        });
        let handle = receiver.recv().unwrap();
        Self {
            machine,
            peers: handle.peers(),
            handle,
            end: Some(end),
            thread: Some(thread),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Wire {
    fn new(size: usize) -> Self {
        let bridge = new_namespace().unwrap();
        ip(&bridge, "link add wire type bridge");
        ip(&bridge, "link set wire up");
        let mut wire = Self {
            bridge,
            namespaces: Vec::new(),
            nodes: Vec::new(),
        };
        for node in 0..size {
            let namespace = new_namespace().unwrap();
            let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
            let port = format!("port{node}");
            let bridge = &wire.bridge;
            ip(
                bridge,
                &format!("link add {port} type veth peer name eth0 netns {path}"),
            );
            ip(bridge, &format!("link set {port} master wire up"));
            ip(
                &namespace,
                &format!("addr add {}/24 dev eth0", address(node).ip()),
            );
            ip(&namespace, "link set eth0 up");
            wire.nodes.push(Node::start(&namespace));
            wire.namespaces.push(namespace);
        }
        wire
    }

    fn view(&self, node: usize, keys: &[u8]) -> GossipView {
        let peers = (0..self.nodes.len()).filter(|peer| *peer != node);
        GossipView {
            node: id(node),
            listen: address(node),
            advertise: address(node),
            peers: peers
                .map(|peer| Peer {
                    node: id(peer),
                    address: address(peer),
                })
                .collect(),
            keys: keys.iter().copied().map(key).collect(),
        }
    }

    async fn set(&self, node: usize, keys: &[u8]) {
        let view = self.view(node, keys);
        self.nodes[node].handle.set_gossip(view).await.unwrap();
    }

    /// Waits until some nodes see another one like this; returns how long it took.
    async fn wait(&mut self, of: usize, by: &[usize], liveness: Liveness) -> Duration {
        let start = Instant::now();
        for by in by {
            let seen = |states: &PeerStates| states.get(&id(of)) == Some(&liveness);
            let wait = self.nodes[*by].peers.wait_for(seen);
            let waited = tokio::time::timeout(PATIENCE, wait).await;
            assert!(waited.is_ok(), "{of} is never {liveness:?} to {by}");
        }
        start.elapsed()
    }

    async fn wait_all_up(&mut self) {
        for of in 0..self.nodes.len() {
            let by: Vec<_> = (0..self.nodes.len()).filter(|by| *by != of).collect();
            self.wait(of, &by, Liveness::Up).await;
        }
    }
}

#[tokio::test]
async fn nodes_hear_of_deaths_and_returns() {
    if cannot_run() {
        return;
    }
    let mut wire = Wire::new(4);
    for node in 0..4 {
        wire.set(node, &[1]).await;
    }
    wire.wait_all_up().await;
    // The cable is pulled.
    ip(&wire.bridge, "link set port3 down");
    let took = wire.wait(3, &[0, 1, 2], Liveness::Down).await;
    println!("a pulled cable was known after {took:?}");
    wire.wait(0, &[3], Liveness::Down).await;
    ip(&wire.bridge, "link set port3 up");
    wire.wait_all_up().await;
    // The process is killed; its daemon starts another one.
    let pid = wire.nodes[2].machine.process().unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    wire.wait_all_up().await;
    // A stranger is not listened to, and whoever lost the keys is given up.
    wire.set(1, &[9]).await;
    wire.wait(1, &[0, 2, 3], Liveness::Down).await;
    wire.set(1, &[1]).await;
    wire.wait_all_up().await;
}

#[tokio::test]
async fn keys_are_replaced_while_all_stay_up() {
    if cannot_run() {
        return;
    }
    let mut wire = Wire::new(3);
    for node in 0..3 {
        wire.set(node, &[1]).await;
    }
    wire.wait_all_up().await;
    let watches: Vec<_> = wire.nodes.iter().map(|node| node.peers.clone()).collect();
    let mut watching = tokio::task::JoinSet::new();
    for mut watch in watches {
        watching.spawn(async move {
            let is_down = |states: &PeerStates| states.values().any(|one| *one == Liveness::Down);
            let _ = watch.wait_for(is_down).await;
        });
    }
    // Previous, primary, next: each node hears of it at its own time.
    for keys in [[1, 1, 2], [2, 1, 3], [3, 2, 4], [4, 3, 5]] {
        for node in 0..3 {
            wire.set(node, &keys).await;
            // Not awaited for anything: nodes are a step apart for a while.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    assert!(watching.try_join_next().is_none(), "somebody was given up");
    // The last keys are really used: who only has those of the beginning is a stranger.
    wire.set(0, &[1]).await;
    wire.wait(0, &[1, 2], Liveness::Down).await;
}

#[tokio::test]
async fn an_address_that_is_not_ours_is_refused() {
    if cannot_run() {
        return;
    }
    let wire = Wire::new(1);
    let mut view = wire.view(0, &[1]);
    view.listen = "10.98.0.1:7946".parse().unwrap();
    let error = wire.nodes[0]
        .handle
        .set_gossip(view.clone())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("10.98.0.1:7946"), "{error}");
    view.listen = address(0);
    view.keys = vec![GossipKey(vec![1; 3].into())];
    let error = wire.nodes[0].handle.set_gossip(view).await.unwrap_err();
    assert!(error.to_string().contains("3 bytes"), "{error}");
    wire.set(0, &[1]).await;
}
