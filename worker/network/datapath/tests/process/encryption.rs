//! Encrypted networks go on whichever of the two processes is replaced, and end when told to.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use crate::machine::{Daemon, Machine, PROGRAM, cannot_run, new_namespace, wait_until};
use datapath::namespace::within;
use datapath_client::TunnelStatus;
use rustix::process::{Signal, kill_process, test_kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use tunnel::{Desired, EncryptedNetwork, PeerNode, PrivateKey, Station, Tunnel};

const DEVICE: &str = "sw-t4097";

/// Two nodes and a cable between them.
struct Cable {
    here: OwnedFd,
    there: OwnedFd,
}

fn ip(namespace: &OwnedFd, words: &str) -> bool {
    let run = || Command::new("ip").args(words.split(' ')).output();
    within(namespace, run).unwrap().status.success()
}

impl Cable {
    fn new() -> Self {
        let (here, there) = (new_namespace().unwrap(), new_namespace().unwrap());
        let other = format!("/proc/{}/fd/{}", std::process::id(), there.as_raw_fd());
        let link = format!("link add eth0 type veth peer name eth0 netns {other}");
        assert!(ip(&here, &link));
        for (namespace, number) in [(&here, 1), (&there, 2)] {
            assert!(ip(
                namespace,
                &format!("addr add 10.77.0.{number}/24 dev eth0")
            ));
            assert!(ip(namespace, "link set eth0 up"));
        }
        Self { here, there }
    }

    fn has_device(&self) -> bool {
        !self.device().is_empty()
    }

    /// The kernel's number of the device, and what more it tells first.
    fn device(&self) -> String {
        let run = || {
            Command::new("ip")
                .args(["-o", "link", "show", "dev", DEVICE])
                .output()
        };
        let output = within(&self.here, run).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split('<').next().unwrap_or_default().to_owned()
    }
}

/// Does something in a namespace, where whatever it starts is too.
fn run_in(namespace: &OwnedFd, work: impl AsyncFnOnce() + Send) {
    std::thread::scope(|scope| {
        let inside = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(work());
        };
        scope.spawn(inside).join().unwrap();
    });
}

/// What the node with this index carries for the network of both.
fn desired(index: u32, keys: &[PrivateKey; 2]) -> Desired {
    let other = 3 - index;
    let last = |index| u8::try_from(index).unwrap();
    let key = |index: u32| &keys[usize::from(last(index)) - 1];
    let station = |of: u32| Station {
        mac: [2, 0x42, 10, 0, 0, last(of)],
        addresses: vec![[10, 0, 0, last(of)].into()],
        peer: (of != index).then_some(of),
    };
    Desired {
        index,
        keys: vec![key(index).clone()],
        peers: vec![PeerNode {
            index: other,
            address: [10, 77, 0, last(other)].into(),
            port: tunnel::PORT,
            keys: vec![key(other).public()],
        }],
        networks: vec![EncryptedNetwork {
            vni: 4097,
            device: DEVICE.to_owned(),
            mtu: 1390,
            stations: vec![station(1), station(2)],
        }],
    }
}

async fn status(daemon: &Daemon) -> Option<TunnelStatus> {
    daemon.handle.status().await.ok()??.tunnel
}

/// The other node has answered.
async fn is_ready(daemon: &Daemon) -> bool {
    status(daemon)
        .await
        .is_some_and(|status| status.ready == [2])
}

#[test]
fn encrypted_networks_go_on_whichever_process_is_replaced() {
    if cannot_run() {
        return;
    }
    let cable = Cable::new();
    run_in(&cable.here, async || replace(&cable).await);
}

/// The other node's end.
fn start_other(cable: &Cable, keys: &[PrivateKey; 2]) -> Tunnel {
    let there = cable.there.try_clone().unwrap();
    let wanted = desired(2, keys);
    let start = move || {
        move_into_link_name_space(there.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let tunnel = Tunnel::start(tunnel::PORT).unwrap();
        assert!(tunnel.update(&wanted).is_empty());
        tunnel
    };
    std::thread::spawn(start).join().unwrap()
}

async fn replace(cable: &Cable) {
    let keys = [PrivateKey::generate(), PrivateKey::generate()];
    let other = start_other(cable, &keys);
    let machine = Machine::new();
    let daemon = machine.daemon();
    daemon
        .handle
        .set_tunnel(Arc::new(desired(1, &keys)))
        .await
        .unwrap();
    wait_until("a session", async || is_ready(&daemon).await).await;
    assert!(cable.has_device());
    assert_eq!(status(&daemon).await.unwrap().vnis, [4097]);
    let pid = machine.process().unwrap();
    daemon.stop().await;
    // The next daemon needs some time to know what is to be carried.
    let daemon = machine.daemon();
    daemon.handle.complete().await.unwrap();
    assert!(is_ready(&daemon).await && cable.has_device());
    daemon
        .handle
        .set_tunnel(Arc::new(desired(1, &keys)))
        .await
        .unwrap();
    assert!(is_ready(&daemon).await);
    assert_eq!(machine.process(), Some(pid));

    // Nothing is left of a process that is killed, and the next one begins anew.
    kill_process(pid, Signal::KILL).unwrap();
    wait_until("the next process", async || {
        machine.process().is_some_and(|now| now != pid) && is_ready(&daemon).await
    })
    .await;
    assert!(cable.has_device());
    daemon.stop().await;

    let (before, device) = (machine.process().unwrap(), cable.device());
    let program = machine.path("next");
    std::fs::copy(PROGRAM, &program).unwrap();
    let mut file = std::fs::File::options()
        .append(true)
        .open(&program)
        .unwrap();
    writeln!(file, "next release").unwrap();
    drop(file);
    let daemon = machine.daemon_with(&program);
    wait_until("the successor", async || {
        machine.process().is_some_and(|now| now != before) && is_ready(&daemon).await
    })
    .await;
    wait_until("the predecessor's end", async || {
        test_kill_process(before).is_err()
    })
    .await;
    assert_eq!(
        cable.device(),
        device,
        "the same one, still where it was put"
    );

    daemon
        .handle
        .set_tunnel(Arc::new(Desired::default()))
        .await
        .unwrap();
    assert_eq!(status(&daemon).await, None);
    assert!(!cable.has_device());
    drop(other);
}

#[test]
fn what_cannot_be_carried_is_told_and_the_rest_is_carried() {
    if cannot_run() {
        return;
    }
    let cable = Cable::new();
    run_in(&cable.here, async || {
        let keys = [PrivateKey::generate(), PrivateKey::generate()];
        let machine = Machine::new();
        let daemon = machine.daemon();
        let mut two = desired(1, &keys);
        let mut odd = two.networks[0].clone();
        (odd.vni, odd.device) = (4098, "a name of far too many bytes".to_owned());
        two.networks.push(odd);
        let set = |desired| daemon.handle.set_tunnel(Arc::new(desired));
        let error = set(two).await.unwrap_err();
        assert!(error.to_string().contains("far too many bytes"), "{error}");
        assert!(cable.has_device());
        // Somebody else has the port.
        set(Desired::default()).await.unwrap();
        let _taken = std::net::UdpSocket::bind(("0.0.0.0", tunnel::PORT)).unwrap();
        let error = set(desired(1, &keys)).await.unwrap_err();
        assert!(error.to_string().contains("UDP port 51820"), "{error}");
        assert!(!cable.has_device());
    });
}
