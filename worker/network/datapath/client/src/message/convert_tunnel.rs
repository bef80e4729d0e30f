//! Conversions between messages about encrypted networks and what they mean.

use super::convert::{Malformed, address, address_bytes, addresses, bytes, port};
use super::{Station, Tunnel, TunnelNetwork, TunnelPeer, TunnelStatus};

impl From<&tunnel::Desired> for Tunnel {
    fn from(desired: &tunnel::Desired) -> Self {
        Self {
            index: desired.index,
            keys: desired
                .keys
                .iter()
                .map(|key| key.to_bytes().to_vec())
                .collect(),
            peers: desired.peers.iter().map(TunnelPeer::from).collect(),
            networks: desired.networks.iter().map(TunnelNetwork::from).collect(),
        }
    }
}

impl From<&tunnel::PeerNode> for TunnelPeer {
    fn from(peer: &tunnel::PeerNode) -> Self {
        Self {
            index: peer.index,
            address: address_bytes(&peer.address),
            port: u32::from(peer.port),
            keys: peer.keys.iter().map(|key| key.0.to_vec()).collect(),
        }
    }
}

impl From<&tunnel::EncryptedNetwork> for TunnelNetwork {
    fn from(network: &tunnel::EncryptedNetwork) -> Self {
        let station = |station: &tunnel::Station| Station {
            mac: station.mac.to_vec(),
            addresses: station.addresses.iter().map(address_bytes).collect(),
            peer: station.peer.unwrap_or_default(),
        };
        Self {
            vni: network.vni,
            device: network.device.clone(),
            mtu: network.mtu,
            stations: network.stations.iter().map(station).collect(),
        }
    }
}

impl Tunnel {
    /// What the message means.
    ///
    /// # Errors
    /// Naming the field that means nothing.
    pub fn parse(&self) -> Result<tunnel::Desired, Malformed> {
        let key = |text: &Vec<u8>| -> Result<_, Malformed> {
            // The text of a private key is told to nobody.
            let key = <[u8; 32]>::try_from(text.as_slice());
            let key = key.map_err(|_| Malformed::secret("private key", text.len(), 32))?;
            Ok(tunnel::PrivateKey::from_bytes(&key))
        };
        Ok(tunnel::Desired {
            index: self.index,
            keys: self.keys.iter().map(key).collect::<Result<_, _>>()?,
            peers: self
                .peers
                .iter()
                .map(TunnelPeer::parse)
                .collect::<Result<_, _>>()?,
            networks: self
                .networks
                .iter()
                .map(TunnelNetwork::parse)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl TunnelPeer {
    fn parse(&self) -> Result<tunnel::PeerNode, Malformed> {
        let key = |text: &Vec<u8>| Ok(tunnel::PublicKey(bytes("public key", text)?));
        Ok(tunnel::PeerNode {
            index: self.index,
            address: address("address of a peer", &self.address)?,
            port: port("port of a peer", self.port)?,
            keys: self.keys.iter().map(key).collect::<Result<_, _>>()?,
        })
    }
}

impl TunnelNetwork {
    fn parse(&self) -> Result<tunnel::EncryptedNetwork, Malformed> {
        let station = |station: &Station| {
            Ok(tunnel::Station {
                mac: bytes("MAC address", &station.mac)?,
                addresses: addresses("address of a station", &station.addresses)?,
                peer: (station.peer != 0).then_some(station.peer),
            })
        };
        Ok(tunnel::EncryptedNetwork {
            vni: self.vni,
            device: self.device.clone(),
            mtu: self.mtu,
            stations: self
                .stations
                .iter()
                .map(station)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<&TunnelStatus> for crate::TunnelStatus {
    fn from(status: &TunnelStatus) -> Self {
        Self {
            vnis: status.vnis.clone(),
            ready: status.ready.clone(),
            unready: status.unready.clone(),
            sealed: status.sealed,
            opened: status.opened,
            unknown: status.unknown,
            spoofed: status.spoofed,
            failed: status.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired() -> tunnel::Desired {
        tunnel::Desired {
            index: 3,
            keys: vec![
                tunnel::PrivateKey::generate(),
                tunnel::PrivateKey::generate(),
            ],
            peers: vec![tunnel::PeerNode {
                index: 4,
                address: "fd00::4".parse().unwrap(),
                port: tunnel::PORT,
                keys: vec![tunnel::PrivateKey::generate().public()],
            }],
            networks: vec![tunnel::EncryptedNetwork {
                vni: 4097,
                device: "sw-t4097".to_owned(),
                mtu: 1390,
                stations: [None, Some(4)]
                    .map(|peer| tunnel::Station {
                        mac: [2, 0x42, 10, 0, 0, 5],
                        addresses: vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
                        peer,
                    })
                    .to_vec(),
            }],
        }
    }

    #[test]
    fn what_was_said_is_what_is_heard() {
        let desired = desired();
        assert_eq!(Tunnel::from(&desired).parse().unwrap(), desired);
    }

    #[test]
    fn keys_and_addresses_of_odd_length_are_refused_and_private_ones_never_shown() {
        let good = Tunnel::from(&desired());
        let mut short = good.clone();
        short.keys[1] = vec![77; 31];
        let error = short.parse().unwrap_err().to_string();
        assert!(
            error.contains("private key") && !error.contains("77"),
            "{error}"
        );
        assert!(!format!("{short:?}").contains("77, 77"));
        let mut odd = good.clone();
        odd.peers[0].address = vec![1; 5];
        assert!(
            odd.parse()
                .unwrap_err()
                .to_string()
                .contains("address of a peer")
        );
        let mut odd = good;
        odd.networks[0].stations[0].mac = vec![1; 7];
        assert!(odd.parse().unwrap_err().to_string().contains("MAC address"));
    }
}
