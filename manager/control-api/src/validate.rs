//! What a spec may hold: pure checks that name the field, the value and what is allowed.
//!
//! Fields are called as in Docker's JSON, without the leading `TaskTemplate`. The words are those
//! Swarm's users know (S20), so that what they search for is found.

mod cluster;
mod container;
mod content;
mod endpoint;
mod health;
mod image;
mod mount;
mod network;
mod placement;
mod pools;
mod resources;
mod signal;
mod text;
mod update;

use std::fmt::Display;

use types::service::ServiceMode;
use types::{Labels, NodeSpec, ServiceSpec};

pub use cluster::cluster_spec;
pub use container::container_spec;
pub use content::{config, content_name, data_size, references, secret};
pub use endpoint::endpoint;
pub use health::healthcheck;
pub use image::image_reference;
pub use mount::mounts;
pub use network::{is_reserved_label, network_spec};
pub use placement::{placement, warnings};
pub use pools::cluster_network;
pub use resources::resources;
pub use signal::stop_signal;
use text::domain_name;
pub use text::{hostname, name, user};
pub use update::update_config;

/// Replicas a service may ask for at most: enough for any cluster this is made for, and few enough
/// that a slip of the finger cannot fill the managers' memory.
pub const REPLICAS_MAX: u64 = 100_000;

/// A field with a value it may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Path of the field, as in Docker's JSON.
    pub field: String,
    /// What is wrong with its value and what is allowed.
    pub problem: String,
}

impl Invalid {
    pub(crate) fn new(field: impl Display, problem: impl Display) -> Self {
        Self {
            field: field.to_string(),
            problem: problem.to_string(),
        }
    }
}

/// What a check says.
pub type Checked = Result<(), Invalid>;

/// Everything about a service that can be said without looking at the cluster.
///
/// # Errors
/// The first field that is wrong.
pub fn service_spec(spec: &ServiceSpec) -> Checked {
    name("Name", &spec.name)?;
    labels("Labels", &spec.labels)?;
    mode(spec.mode)?;
    container_spec(&spec.task.container)?;
    resources(&spec.task.resources)?;
    placement(&spec.task.placement, spec.mode)?;
    endpoint(spec)?;
    update_config("UpdateConfig", &spec.update_config)?;
    update_config("RollbackConfig", &spec.rollback_config)
}

/// A node's labels; role and availability have no wrong values.
///
/// # Errors
/// The first label that is wrong.
pub fn node_spec(spec: &NodeSpec) -> Checked {
    labels("Labels", &spec.labels)
}

pub(crate) fn labels(field: &str, labels: &Labels) -> Checked {
    for (key, value) in labels {
        if key.is_empty() {
            return Err(Invalid::new(
                field,
                format!("the label with value {value:?} has no name"),
            ));
        }
        text::no_nul(format!("{field}[{key:?}]"), key)?;
        text::no_nul(format!("{field}[{key:?}]"), value)?;
    }
    Ok(())
}

fn mode(mode: ServiceMode) -> Checked {
    match mode {
        ServiceMode::Replicated { replicas } if replicas > REPLICAS_MAX => Err(Invalid::new(
            "Mode.Replicated.Replicas",
            format!("{replicas} replicas are too many: a service may have at most {REPLICAS_MAX}"),
        )),
        ServiceMode::Replicated { .. } | ServiceMode::Global {} => Ok(()),
    }
}

#[cfg(test)]
mod tests;
