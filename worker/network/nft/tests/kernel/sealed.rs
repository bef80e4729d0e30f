//! Sealed networks: their VXLAN packets pass by the tunnel or not at all.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::Result;
use swarm_nft::sealed::{Seal, Sealed};

use crate::lab::{Namespace, Network, is_possible};

/// A VXLAN packet of this network: flags, identifier, and something inside.
fn packet(network: u32) -> Vec<u8> {
    let mut bytes = vec![8, 0, 0, 0];
    bytes.extend_from_slice(&(network << 8).to_be_bytes());
    bytes.extend_from_slice(b"inside");
    bytes
}

/// Whether a packet of this network gets from one to the other; `None` tells that the sender was
/// refused.
fn passes(from: &Namespace, to: &str, receiver: &UdpSocket, network: u32) -> Result<bool> {
    let any = if to.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let sender = from.inside(|| Ok(UdpSocket::bind(any)?))?;
    if sender.send_to(&packet(network), to).is_err() {
        return Ok(false);
    }
    let mut buffer = [0; 64];
    match receiver.recv(&mut buffer) {
        Ok(read) => {
            assert_eq!(buffer[..read], packet(network)[..], "another packet came");
            Ok(true)
        }
        Err(_) => Ok(false),
    }
}

#[test]
fn packets_of_sealed_networks_pass_only_by_the_tunnel() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let network = Network::new()?;
    let (here, there) = (network.attach("here", 1)?, network.attach("there", 2)?);
    // A second link, that stands for a tunnel.
    let name = &there.name;
    here.ip(&format!(
        "link add wg0 type veth peer name wg0 netns {name}"
    ))?;
    for (end, number) in [(&here, 1), (&there, 2)] {
        end.ip("link set wg0 up")?;
        end.ip(&format!("addr add 10.99.0.{number}/24 dev wg0"))?;
    }
    let receiver = there.inside(|| Ok(UdpSocket::bind("[::]:4789")?))?;
    receiver.set_read_timeout(Some(Duration::from_millis(200)))?;
    let sealed = Sealed {
        networks: BTreeSet::from([4097, 70_000]),
        port: 4789,
        tunnels: vec!["wg0".to_owned()],
    };
    // At the sender, then at the receiver alone: each is enough.
    for end in [&here, &there] {
        let mut seal = Seal::open(end.fd())?;
        for to in ["10.77.0.2:4789", "[fd77::2]:4789"] {
            assert!(passes(&here, to, &receiver, 4097)?, "not sealed yet");
        }
        seal.replace(&sealed)?;
        for to in ["10.77.0.2:4789", "[fd77::2]:4789"] {
            assert!(!passes(&here, to, &receiver, 4097)?, "{to}");
            assert!(!passes(&here, to, &receiver, 70_000)?, "{to}");
            assert!(passes(&here, to, &receiver, 4096)?, "another network");
        }
        assert!(
            passes(&here, "10.99.0.2:4789", &receiver, 4097)?,
            "by the tunnel"
        );
        assert!(seal.verify()?.is_empty());
        // A new process takes over what stands, without a gap.
        let mut successor = Seal::open(end.fd())?;
        assert_eq!(successor.replace(&sealed)?.changes, 0);
        let fewer = Sealed {
            networks: BTreeSet::from([70_000]),
            ..sealed.clone()
        };
        successor.replace(&fewer)?;
        assert!(passes(&here, "10.77.0.2:4789", &receiver, 4097)?);
        assert!(!passes(&here, "10.77.0.2:4789", &receiver, 70_000)?);
        successor.clear()?;
        assert!(passes(&here, "10.77.0.2:4789", &receiver, 70_000)?);
    }
    Ok(())
}
