//! The cluster's message.

use std::time::Duration;

use types::cluster::{
    ClusterLock, ClusterNetworkSpec, ExternalCa, RootCaState, RootRotation, SubnetPool,
};
use types::{Cluster, ClusterSpec, Payload, Timestamp};

use super::{ConvertError, nanos, parse, required};
use crate::objects;

impl From<&Cluster> for objects::Cluster {
    fn from(cluster: &Cluster) -> Self {
        let revoked = cluster
            .revoked
            .iter()
            .map(|(id, until)| (id.to_string(), until.0));
        let gossip_keys = cluster.gossip_keys.iter();
        Self {
            id: cluster.id.to_string(),
            meta: Some((&cluster.meta).into()),
            spec: Some((&cluster.spec).into()),
            root_ca: Some((&cluster.root_ca).into()),
            revoked: revoked.collect(),
            gossip_keys: gossip_keys.map(|key| key.bytes().to_vec()).collect(),
            gossip_keys_at: cluster.gossip_keys_at.0,
            access: Some((&cluster.access).into()),
            lock: Some((&cluster.lock).into()),
            content_key: cluster.content_key.bytes().to_vec(),
        }
    }
}

impl TryFrom<objects::Cluster> for Cluster {
    type Error = ConvertError;
    fn try_from(message: objects::Cluster) -> Result<Self, ConvertError> {
        let revoked = message
            .revoked
            .iter()
            .map(|(id, until)| Ok((parse("revoked", id)?, Timestamp(*until))))
            .collect::<Result<_, ConvertError>>()?;
        Ok(Self {
            id: parse("id", &message.id)?,
            meta: message.meta.unwrap_or_default().into(),
            spec: required("spec", message.spec)?.try_into()?,
            root_ca: required("root_ca", message.root_ca)?.into(),
            revoked,
            gossip_keys: message.gossip_keys.into_iter().map(Payload::new).collect(),
            gossip_keys_at: Timestamp(message.gossip_keys_at),
            access: message.access.unwrap_or_default().try_into()?,
            lock: message.lock.unwrap_or_default().into(),
            content_key: Payload::new(message.content_key),
        })
    }
}

impl From<&ClusterSpec> for objects::ClusterSpec {
    fn from(spec: &ClusterSpec) -> Self {
        Self {
            labels: spec.labels.clone().into_iter().collect(),
            task_history_limit: spec.task_history_limit,
            heartbeat_period: nanos(spec.heartbeat_period),
            disconnect_grace: nanos(spec.disconnect_grace),
            snapshot_interval: spec.snapshot_interval,
            node_cert_expiry: nanos(spec.node_cert_expiry),
            autolock_managers: spec.autolock_managers,
            network: Some((&spec.network).into()),
            external_cas: spec.external_cas.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<objects::ClusterSpec> for ClusterSpec {
    type Error = ConvertError;
    fn try_from(message: objects::ClusterSpec) -> Result<Self, ConvertError> {
        let network = message.network.map(TryInto::try_into).transpose()?;
        let external_cas = message.external_cas.into_iter().map(TryInto::try_into);
        Ok(Self {
            labels: message.labels.into_iter().collect(),
            task_history_limit: message.task_history_limit,
            heartbeat_period: Duration::from_nanos(message.heartbeat_period),
            disconnect_grace: Duration::from_nanos(message.disconnect_grace),
            snapshot_interval: message.snapshot_interval,
            node_cert_expiry: Duration::from_nanos(message.node_cert_expiry),
            autolock_managers: message.autolock_managers,
            network: network.unwrap_or_default(),
            external_cas: external_cas.collect::<Result<_, _>>()?,
        })
    }
}

impl From<&ClusterNetworkSpec> for objects::ClusterNetworkSpec {
    fn from(spec: &ClusterNetworkSpec) -> Self {
        let pools = spec.pools.iter();
        Self {
            pools: pools
                .map(|pool| objects::SubnetPool {
                    base: pool.base.to_string(),
                    size: pool.size.into(),
                })
                .collect(),
            data_path_port: spec.data_path_port.into(),
            encrypt_all: spec.encrypt_all,
        }
    }
}

impl From<&ExternalCa> for objects::ExternalCa {
    fn from(ca: &ExternalCa) -> Self {
        Self {
            protocol: ca.protocol.to_string(),
            url: ca.url.clone(),
            options: ca.options.clone().into_iter().collect(),
            ca_cert_pem: ca.ca_cert_pem.clone(),
        }
    }
}

impl TryFrom<objects::ExternalCa> for ExternalCa {
    type Error = ConvertError;
    fn try_from(message: objects::ExternalCa) -> Result<Self, ConvertError> {
        Ok(Self {
            protocol: parse("external_cas.protocol", &message.protocol)?,
            url: message.url,
            options: message.options.into_iter().collect(),
            ca_cert_pem: message.ca_cert_pem,
        })
    }
}

impl From<&RootRotation> for objects::RootRotation {
    fn from(rotation: &RootRotation) -> Self {
        Self {
            cert_pem: rotation.cert_pem.clone(),
            key_pem: rotation.key_pem.clone(),
            cross_signed_pem: rotation.cross_signed_pem.clone(),
            skip_unreachable: rotation.skip_unreachable,
            started_at: rotation.started_at.0,
        }
    }
}

impl From<objects::RootRotation> for RootRotation {
    fn from(message: objects::RootRotation) -> Self {
        Self {
            cert_pem: message.cert_pem,
            key_pem: message.key_pem,
            cross_signed_pem: message.cross_signed_pem,
            skip_unreachable: message.skip_unreachable,
            started_at: Timestamp(message.started_at),
        }
    }
}

impl TryFrom<objects::ClusterNetworkSpec> for ClusterNetworkSpec {
    type Error = ConvertError;
    fn try_from(message: objects::ClusterNetworkSpec) -> Result<Self, ConvertError> {
        let pools = message.pools.into_iter().map(|pool| {
            Ok(SubnetPool {
                base: parse("network.pools.base", &pool.base)?,
                size: u8::try_from(pool.size).map_err(|_| {
                    ConvertError::new("network.pools.size", format!("{} is above 128", pool.size))
                })?,
            })
        });
        Ok(Self {
            pools: pools.collect::<Result<_, ConvertError>>()?,
            data_path_port: u16::try_from(message.data_path_port).map_err(|_| {
                ConvertError::new("network.data_path_port", "is not a port, 0 to 65535 is")
            })?,
            encrypt_all: message.encrypt_all,
        })
    }
}

impl From<&RootCaState> for objects::RootCaState {
    fn from(root: &RootCaState) -> Self {
        Self {
            cert_pem: root.cert_pem.clone(),
            key_pem: root.key_pem.clone(),
            worker_token: root.worker_token.clone(),
            manager_token: root.manager_token.clone(),
            rotation: root.rotation.as_ref().map(Into::into),
            lineage: root.lineage.clone(),
        }
    }
}

impl From<objects::RootCaState> for RootCaState {
    fn from(message: objects::RootCaState) -> Self {
        Self {
            cert_pem: message.cert_pem,
            key_pem: message.key_pem,
            worker_token: message.worker_token,
            manager_token: message.manager_token,
            rotation: message.rotation.map(Into::into),
            lineage: message.lineage,
        }
    }
}

impl From<&ClusterLock> for objects::ClusterLock {
    fn from(lock: &ClusterLock) -> Self {
        Self {
            unlock_key: lock.unlock_key.clone(),
            key_version: lock.key_version,
            data_key_epoch: lock.data_key_epoch,
        }
    }
}

impl From<objects::ClusterLock> for ClusterLock {
    fn from(message: objects::ClusterLock) -> Self {
        Self {
            unlock_key: message.unlock_key,
            key_version: message.key_version,
            data_key_epoch: message.data_key_epoch,
        }
    }
}
