//! Messages of what a node must know of others to reach them.

use types::Payload;
use types::reach::{NetworkSettings, Peer, ServiceEndpoint, TaskEndpoint};

use super::network::all;
use super::{ConvertError, known, parse};
use crate::{dispatcher, objects};

impl From<&TaskEndpoint> for dispatcher::TaskEndpoint {
    fn from(endpoint: &TaskEndpoint) -> Self {
        Self {
            task_id: endpoint.task.to_string(),
            service_id: endpoint.service.to_string(),
            slot: endpoint.slot,
            node_id: endpoint.node.to_string(),
            name: endpoint.name.clone(),
            hostname: endpoint.hostname.clone(),
            attachments: endpoint.attachments.iter().map(Into::into).collect(),
            serving: endpoint.serving,
            weight: endpoint.weight.into(),
        }
    }
}

impl TryFrom<dispatcher::TaskEndpoint> for TaskEndpoint {
    type Error = ConvertError;
    fn try_from(message: dispatcher::TaskEndpoint) -> Result<Self, ConvertError> {
        Ok(Self {
            task: parse("task_id", &message.task_id)?,
            service: parse("service_id", &message.service_id)?,
            slot: message.slot,
            node: parse("node_id", &message.node_id)?,
            name: message.name,
            hostname: message.hostname,
            attachments: all(message.attachments)?,
            serving: message.serving,
            weight: u16::try_from(message.weight).map_err(|_| {
                ConvertError::new("weight", format!("{} is above 65535", message.weight))
            })?,
        })
    }
}

impl From<&ServiceEndpoint> for dispatcher::ServiceEndpoint {
    fn from(endpoint: &ServiceEndpoint) -> Self {
        let aliases = endpoint.aliases.iter();
        Self {
            service_id: endpoint.service.to_string(),
            name: endpoint.name.clone(),
            mode: objects::EndpointMode::from(endpoint.mode).into(),
            affinity: objects::Affinity::from(endpoint.affinity).into(),
            ports: endpoint.ports.iter().map(Into::into).collect(),
            virtual_ips: endpoint.virtual_ips.iter().map(Into::into).collect(),
            aliases: aliases
                .map(|(network, name)| dispatcher::NetworkAlias {
                    network_id: network.to_string(),
                    name: name.clone(),
                })
                .collect(),
        }
    }
}

impl TryFrom<dispatcher::ServiceEndpoint> for ServiceEndpoint {
    type Error = ConvertError;
    fn try_from(message: dispatcher::ServiceEndpoint) -> Result<Self, ConvertError> {
        let aliases = message.aliases.into_iter();
        Ok(Self {
            service: parse("service_id", &message.service_id)?,
            name: message.name,
            mode: known::<objects::EndpointMode>("mode", message.mode)?.into(),
            affinity: known::<objects::Affinity>("affinity", message.affinity)?.into(),
            ports: all(message.ports)?,
            virtual_ips: all(message.virtual_ips)?,
            aliases: aliases
                .map(|alias| Ok((parse("aliases.network_id", &alias.network_id)?, alias.name)))
                .collect::<Result<_, ConvertError>>()?,
        })
    }
}

impl From<&Peer> for dispatcher::Peer {
    fn from(peer: &Peer) -> Self {
        Self {
            node_id: peer.node.to_string(),
            index: peer.index,
            data_path: peer.data_path.iter().map(ToString::to_string).collect(),
            wireguard_keys: peer.wireguard_keys.iter().map(|key| key.to_vec()).collect(),
            alive: peer.alive,
        }
    }
}

impl TryFrom<dispatcher::Peer> for Peer {
    type Error = ConvertError;
    fn try_from(message: dispatcher::Peer) -> Result<Self, ConvertError> {
        let data_path = message.data_path.iter();
        Ok(Self {
            node: parse("node_id", &message.node_id)?,
            index: message.index,
            data_path: data_path
                .map(|address| parse("data_path", address))
                .collect::<Result<_, _>>()?,
            wireguard_keys: wireguard_keys(message.wireguard_keys)?,
            alive: message.alive,
        })
    }
}

/// Reads WireGuard public keys: 32 bytes each.
pub(super) fn wireguard_keys(keys: Vec<Vec<u8>>) -> Result<Vec<[u8; 32]>, ConvertError> {
    keys.into_iter()
        .map(|key| {
            let length = key.len();
            key.try_into().map_err(|_| {
                ConvertError::new("wireguard_keys", format!("{length} bytes, a key has 32"))
            })
        })
        .collect()
}

impl From<&NetworkSettings> for dispatcher::NetworkSettings {
    fn from(settings: &NetworkSettings) -> Self {
        let keys = settings.gossip_keys.iter();
        Self {
            index: settings.index,
            data_path_port: settings.data_path_port.into(),
            gossip_keys: keys.map(|key| key.bytes().to_vec()).collect(),
        }
    }
}

impl TryFrom<dispatcher::NetworkSettings> for NetworkSettings {
    type Error = ConvertError;
    fn try_from(message: dispatcher::NetworkSettings) -> Result<Self, ConvertError> {
        let port = u16::try_from(message.data_path_port)
            .map_err(|_| ConvertError::new("data_path_port", "is not a port, 0 to 65535 is"))?;
        Ok(Self {
            index: message.index,
            data_path_port: port,
            gossip_keys: message.gossip_keys.into_iter().map(Payload::new).collect(),
        })
    }
}
