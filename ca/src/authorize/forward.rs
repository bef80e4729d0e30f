//! Passing a request on: a manager that is not the leader tells the leader who asked.

use std::net::SocketAddr;

use http::HeaderValue;
use tonic::metadata::{MetadataMap, MetadataValue};
use types::access::ClientRole;
use types::{NodeRole, Timestamp};

use super::{Denial, Origin, Peer};
use crate::unix::UnixPeer;
use crate::{ClientIdentity, PeerIdentity};

/// The metadata key that carries the first caller. Only managers may set it.
pub const FORWARD_KEY: &str = "swarm-forwarded-for";

/// Writes who made a request into the metadata of the request that passes it on.
///
/// Do this for every request that is passed on, anonymous ones too: without it the leader takes
/// the forwarding manager for the caller.
pub fn forward(origin: &Origin, metadata: &mut MetadataMap) {
    let value = MetadataValue::try_from(encode(origin))
        .expect("ids, numbers and addresses are visible ASCII");
    metadata.insert(FORWARD_KEY, value);
}

/// Believes a forwarded identity if a manager brought it; the decision has checked that one first.
pub(super) fn restore(via: &Origin, header: &HeaderValue) -> Result<Origin, Denial> {
    let forwarder = match &via.peer {
        Peer::Node(node) if node.role == NodeRole::Manager => node,
        Peer::Node(_) | Peer::Client(_) | Peer::Anonymous | Peer::Local(_) => {
            return Err(Denial::ForwardedBy {
                caller: via.peer.caller(),
            });
        }
    };
    let text = header.to_str().map_err(|_| Denial::ForwardedMalformed)?;
    let (peer, remote_addr) = decode(text).ok_or(Denial::ForwardedMalformed)?;
    Ok(Origin {
        peer,
        remote_addr,
        forwarded_by: Some(forwarder.node_id),
    })
}

fn encode(origin: &Origin) -> String {
    let peer = match &origin.peer {
        Peer::Anonymous => "anonymous".to_owned(),
        Peer::Node(node) => format!(
            "node/{}/{}/{}/{}/{}",
            node.cluster_id, node.role, node.node_id, node.cert_not_before.0, node.cert_not_after.0
        ),
        Peer::Client(client) => format!(
            "client/{}/{}/{}/{}",
            client.cluster_id, client.role, client.client_id, client.cert_not_after.0
        ),
        Peer::Local(local) => {
            let is_allowed = u8::from(local.is_allowed);
            format!(
                "local/{}/{}/{}/{is_allowed}",
                local.uid, local.gid, local.pid
            )
        }
    };
    match origin.remote_addr {
        Some(addr) => format!("{peer} {addr}"),
        None => peer,
    }
}

fn decode(text: &str) -> Option<(Peer, Option<SocketAddr>)> {
    let (peer, addr) = match text.split_once(' ') {
        Some((peer, addr)) => (peer, Some(addr.parse().ok()?)),
        None => (text, None),
    };
    let parts: Vec<_> = peer.split('/').collect();
    let peer = match parts[..] {
        ["anonymous"] => Peer::Anonymous,
        ["client", cluster_id, role, client_id, not_after] => Peer::Client(ClientIdentity {
            client_id: client_id.parse().ok()?,
            role: [ClientRole::Reader, ClientRole::Operator]
                .into_iter()
                .find(|known| known.to_string() == role)?,
            cluster_id: cluster_id.parse().ok()?,
            cert_not_after: Timestamp(not_after.parse().ok()?),
        }),
        ["node", cluster_id, role, node_id, not_before, not_after] => Peer::Node(PeerIdentity {
            node_id: node_id.parse().ok()?,
            role: [NodeRole::Worker, NodeRole::Manager]
                .into_iter()
                .find(|known| known.to_string() == role)?,
            cluster_id: cluster_id.parse().ok()?,
            cert_not_before: Timestamp(not_before.parse().ok()?),
            cert_not_after: Timestamp(not_after.parse().ok()?),
        }),
        ["local", uid, gid, pid, is_allowed] => Peer::Local(UnixPeer {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            pid: pid.parse().ok()?,
            is_allowed: is_allowed.parse::<u8>().ok()? == 1,
        }),
        _ => return None,
    };
    Some((peer, addr))
}

#[cfg(test)]
mod tests;
