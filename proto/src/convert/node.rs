//! A node's messages.

use types::node::{
    Availability, KeyDigest, ManagerStatus, NodeCertificate, NodeDescription, NodeNetwork,
    NodeState, NodeStatus, TlsInfo,
};
use types::task::{Platform, Resources};
use types::{Node, NodeRole, NodeSpec};

use super::reach::wireguard_keys;
use super::{ConvertError, enums, known, parse, required};
use crate::objects;

enums!(
    NodeRole,
    objects::NodeRole,
    Worker = Worker,
    Manager = Manager
);
enums!(
    Availability,
    objects::Availability,
    Active = Active,
    Pause = Pause,
    Drain = Drain
);
enums!(
    NodeState,
    objects::NodeState,
    Unknown = Unknown,
    Down = Down,
    Ready = Ready,
    Disconnected = Disconnected,
);

impl From<&Node> for objects::Node {
    fn from(node: &Node) -> Self {
        Self {
            id: node.id.to_string(),
            meta: Some((&node.meta).into()),
            spec: Some((&node.spec).into()),
            role: objects::NodeRole::from(node.role).into(),
            description: node.description.as_ref().map(Into::into),
            status: Some((&node.status).into()),
            manager_status: node.manager_status.as_ref().map(Into::into),
            network_index: node.network_index,
            certificate: Some((&node.certificate).into()),
        }
    }
}

impl TryFrom<objects::Node> for Node {
    type Error = ConvertError;
    fn try_from(message: objects::Node) -> Result<Self, ConvertError> {
        Ok(Self {
            id: parse("id", &message.id)?,
            meta: message.meta.unwrap_or_default().into(),
            spec: required("spec", message.spec)?.try_into()?,
            role: known::<objects::NodeRole>("role", message.role)?.into(),
            description: message.description.map(TryInto::try_into).transpose()?,
            status: message.status.unwrap_or_default().try_into()?,
            manager_status: message.manager_status.map(Into::into),
            network_index: message.network_index,
            certificate: message.certificate.unwrap_or_default().try_into()?,
        })
    }
}

impl From<&NodeCertificate> for objects::NodeCertificate {
    fn from(certificate: &NodeCertificate) -> Self {
        let keys = certificate.keys.iter().map(|key| key.0.to_vec());
        Self {
            keys: keys.collect(),
            renew_now: certificate.renew_now,
        }
    }
}

impl TryFrom<objects::NodeCertificate> for NodeCertificate {
    type Error = ConvertError;
    fn try_from(message: objects::NodeCertificate) -> Result<Self, ConvertError> {
        let digest = |bytes: Vec<u8>| {
            let wrong = |_| ConvertError::new("certificate.keys", "is not a SHA-256 digest");
            bytes.try_into().map(KeyDigest).map_err(wrong)
        };
        Ok(Self {
            keys: message
                .keys
                .into_iter()
                .map(digest)
                .collect::<Result<_, _>>()?,
            renew_now: message.renew_now,
        })
    }
}

impl From<&TlsInfo> for objects::TlsInfo {
    fn from(tls: &TlsInfo) -> Self {
        Self {
            trust_root_digest: tls.trust_root_digest.clone(),
            cert_issuer_subject: tls.cert_issuer_subject.clone(),
            cert_issuer_public_key: tls.cert_issuer_public_key.clone(),
        }
    }
}

impl From<objects::TlsInfo> for TlsInfo {
    fn from(message: objects::TlsInfo) -> Self {
        Self {
            trust_root_digest: message.trust_root_digest,
            cert_issuer_subject: message.cert_issuer_subject,
            cert_issuer_public_key: message.cert_issuer_public_key,
        }
    }
}

impl From<&NodeSpec> for objects::NodeSpec {
    fn from(spec: &NodeSpec) -> Self {
        Self {
            labels: spec.labels.clone().into_iter().collect(),
            role: objects::NodeRole::from(spec.role).into(),
            availability: objects::Availability::from(spec.availability).into(),
        }
    }
}

impl TryFrom<objects::NodeSpec> for NodeSpec {
    type Error = ConvertError;
    fn try_from(message: objects::NodeSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            labels: message.labels.into_iter().collect(),
            role: known::<objects::NodeRole>("role", message.role)?.into(),
            availability: known::<objects::Availability>("availability", message.availability)?
                .into(),
        })
    }
}

impl From<&NodeDescription> for objects::NodeDescription {
    fn from(told: &NodeDescription) -> Self {
        Self {
            hostname: told.hostname.clone(),
            platform: Some((&told.platform).into()),
            resources: Some((&told.resources).into()),
            engine_version: told.engine_version.clone(),
            engine_labels: told.engine_labels.clone().into_iter().collect(),
            network: Some((&told.network).into()),
            tls: told.tls.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<objects::NodeDescription> for NodeDescription {
    type Error = ConvertError;
    fn try_from(message: objects::NodeDescription) -> Result<Self, ConvertError> {
        Ok(Self {
            hostname: message.hostname,
            platform: message.platform.unwrap_or_default().into(),
            resources: message.resources.unwrap_or_default().into(),
            engine_version: message.engine_version,
            engine_labels: message.engine_labels.into_iter().collect(),
            network: message.network.unwrap_or_default().try_into()?,
            tls: message.tls.map(Into::into),
        })
    }
}

impl From<&NodeNetwork> for objects::NodeNetwork {
    fn from(network: &NodeNetwork) -> Self {
        let keys = network.wireguard_keys.iter();
        Self {
            data_path: network.data_path.iter().map(ToString::to_string).collect(),
            wireguard_keys: keys.map(|key| key.to_vec()).collect(),
        }
    }
}

impl TryFrom<objects::NodeNetwork> for NodeNetwork {
    type Error = ConvertError;
    fn try_from(message: objects::NodeNetwork) -> Result<Self, ConvertError> {
        let data_path = message.data_path.iter();
        Ok(Self {
            data_path: data_path
                .map(|address| parse("data_path", address))
                .collect::<Result<_, _>>()?,
            wireguard_keys: wireguard_keys(message.wireguard_keys)?,
        })
    }
}

impl From<&NodeStatus> for objects::NodeStatus {
    fn from(status: &NodeStatus) -> Self {
        Self {
            state: objects::NodeState::from(status.state).into(),
            message: status.message.clone(),
            addr: status.addr.map(|addr| addr.to_string()).unwrap_or_default(),
        }
    }
}

impl TryFrom<objects::NodeStatus> for NodeStatus {
    type Error = ConvertError;
    fn try_from(message: objects::NodeStatus) -> Result<Self, ConvertError> {
        let addr = match message.addr.as_str() {
            "" => None,
            text => Some(parse("addr", text)?),
        };
        Ok(Self {
            state: known::<objects::NodeState>("state", message.state)?.into(),
            message: message.message,
            addr,
        })
    }
}

impl From<&ManagerStatus> for objects::ManagerStatus {
    fn from(status: &ManagerStatus) -> Self {
        Self {
            raft_id: status.raft_id,
            addr: status.addr.clone(),
        }
    }
}

impl From<objects::ManagerStatus> for ManagerStatus {
    fn from(message: objects::ManagerStatus) -> Self {
        Self {
            raft_id: message.raft_id,
            addr: message.addr,
        }
    }
}

impl From<&Platform> for objects::Platform {
    fn from(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
        }
    }
}

impl From<objects::Platform> for Platform {
    fn from(message: objects::Platform) -> Self {
        Self {
            architecture: message.architecture,
            os: message.os,
        }
    }
}

impl From<&Resources> for objects::Resources {
    fn from(resources: &Resources) -> Self {
        Self {
            nano_cpus: resources.nano_cpus,
            memory_bytes: resources.memory_bytes,
        }
    }
}

impl From<objects::Resources> for Resources {
    fn from(message: objects::Resources) -> Self {
        Self {
            nano_cpus: message.nano_cpus,
            memory_bytes: message.memory_bytes,
        }
    }
}
