//! Reading tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use types::{NodeId, ServiceId, Task};

use crate::{ControlApi, Error, key};

impl ControlApi {
    /// Tasks of these services that are on these nodes; no services or no nodes means any.
    ///
    /// # Errors
    /// When a key names nothing or several.
    pub fn list_tasks(
        &self,
        services: &[String],
        nodes: &[String],
    ) -> Result<Vec<Arc<Task>>, Error> {
        let state = self.state();
        let services = services
            .iter()
            .map(|name| key::service(&state, name).map(|service| service.id))
            .collect::<Result<BTreeSet<ServiceId>, _>>()?;
        let nodes = nodes
            .iter()
            .map(|name| key::node(&state, name, self.status.self_id()).map(|node| node.id))
            .collect::<Result<BTreeSet<NodeId>, _>>()?;
        let on_nodes = |task: &&Arc<Task>| {
            nodes.is_empty() || task.node_id.is_some_and(|node| nodes.contains(&node))
        };
        let mut tasks = vec![];
        if !services.is_empty() {
            for id in services {
                tasks.extend(state.tasks_of_service(id).filter(on_nodes).cloned());
            }
        } else if !nodes.is_empty() {
            for id in nodes {
                tasks.extend(state.tasks_on_node(id).cloned());
            }
        } else {
            tasks.extend(state.tasks().cloned());
        }
        Ok(tasks)
    }

    /// The task called `key`.
    ///
    /// # Errors
    /// When nothing or several are called so.
    pub fn get_task(&self, key: &str) -> Result<Arc<Task>, Error> {
        key::task(&self.state(), key).cloned()
    }
}
