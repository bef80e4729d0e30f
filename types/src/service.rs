//! Services: what the user declares.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::network::{Endpoint, EndpointSpec};
use crate::update::{UpdateConfig, UpdateStatus};
use crate::{Labels, Meta, ServiceId, TaskSpec, Version};

/// A declared service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: ServiceId,
    /// Version and times.
    #[serde(flatten)]
    pub meta: Meta,
    /// What the user asked last.
    pub spec: ServiceSpec,
    /// Version of the spec: tasks made from it carry the same number.
    pub spec_version: Version,
    /// What the user asked before that, for rollback.
    pub previous_spec: Option<ServiceSpec>,
    /// How far the last update has come; none when no task had to change.
    pub update_status: Option<UpdateStatus>,
    /// What the allocator gave it.
    pub endpoint: Endpoint,
}

/// What the user asks of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceSpec {
    /// Unique name, a DNS label.
    pub name: String,
    /// Labels of the service.
    pub labels: Labels,
    /// What each task runs; shared with the tasks.
    #[serde(rename = "TaskTemplate")]
    pub task: Arc<TaskSpec>,
    /// How many tasks there are.
    pub mode: ServiceMode,
    /// Pace of updates.
    pub update_config: UpdateConfig,
    /// Pace of rollbacks.
    pub rollback_config: UpdateConfig,
    /// How clients reach it.
    #[serde(rename = "EndpointSpec")]
    pub endpoint: EndpointSpec,
}

/// How many tasks a service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceMode {
    /// As many as told.
    Replicated {
        /// Number of slots.
        #[serde(rename = "Replicas")]
        replicas: u64,
    },
    /// One on every node that fits.
    Global {},
}

impl Default for ServiceMode {
    fn default() -> Self {
        Self::Replicated { replicas: 1 }
    }
}
