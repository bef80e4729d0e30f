//! The cluster's message.

use std::time::Duration;

use types::cluster::RootCaState;
use types::{Cluster, ClusterSpec, Timestamp};

use super::{ConvertError, nanos, parse, required};
use crate::objects;

impl From<&Cluster> for objects::Cluster {
    fn from(cluster: &Cluster) -> Self {
        let revoked = cluster
            .revoked
            .iter()
            .map(|(id, until)| (id.to_string(), until.0));
        Self {
            id: cluster.id.to_string(),
            meta: Some((&cluster.meta).into()),
            spec: Some((&cluster.spec).into()),
            root_ca: Some((&cluster.root_ca).into()),
            revoked: revoked.collect(),
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
            spec: required("spec", message.spec)?.into(),
            root_ca: required("root_ca", message.root_ca)?.into(),
            revoked,
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
        }
    }
}

impl From<objects::ClusterSpec> for ClusterSpec {
    fn from(message: objects::ClusterSpec) -> Self {
        Self {
            labels: message.labels.into_iter().collect(),
            task_history_limit: message.task_history_limit,
            heartbeat_period: Duration::from_nanos(message.heartbeat_period),
            disconnect_grace: Duration::from_nanos(message.disconnect_grace),
            snapshot_interval: message.snapshot_interval,
            node_cert_expiry: Duration::from_nanos(message.node_cert_expiry),
        }
    }
}

impl From<&RootCaState> for objects::RootCaState {
    fn from(root: &RootCaState) -> Self {
        Self {
            cert_pem: root.cert_pem.clone(),
            key_pem: root.key_pem.clone(),
            worker_token: root.worker_token.clone(),
            manager_token: root.manager_token.clone(),
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
        }
    }
}
