//! What scenario scripts show of a world: tables of tasks, nodes and services.

use std::fmt::Write as _;

use store::State;
use types::service::ServiceMode;
use types::{Node, NodeId, Service, Task, TaskState};

use super::values::shorten_ids;

/// Tasks by service and slot, the newest of each slot first, older ones behind a `\_`.
#[must_use]
pub(super) fn tasks(state: &State, service: Option<&str>) -> String {
    let mut tasks: Vec<&Task> = state
        .tasks()
        .map(|task| &**task)
        .filter(|task| service.is_none_or(|name| task.service_name == name))
        .collect();
    let position = |task: &Task| (task.service_name.clone(), task.slot, fixed_node(task));
    tasks.sort_by_cached_key(|task| {
        (
            position(task),
            std::cmp::Reverse((task.meta.created_at, task.id)),
        )
    });
    let mut rows =
        vec![["NAME", "ID", "IMAGE", "NODE", "DESIRED", "STATE", "ERROR"].map(String::from)];
    let mut last = None;
    for task in tasks {
        let is_older = last.replace(position(task)) == Some(position(task));
        let name = display_name(state, task);
        rows.push([
            if is_older {
                format!("\\_ {name}")
            } else {
                name
            },
            shorten_ids(task.id.as_str()),
            task.spec.container.image.clone(),
            task.node_id
                .map_or_else(|| "-".to_owned(), |node| node_name(state, node)),
            task.desired_state.to_string(),
            task.status.state.to_string(),
            task.status.err.clone(),
        ]);
    }
    table(&rows)
}

/// The slot of a global service's task is its node.
fn fixed_node(task: &Task) -> Option<NodeId> {
    if task.slot == 0 { task.node_id } else { None }
}

/// `web.1`, or `agent.n1` for a global one.
pub(super) fn display_name(state: &State, task: &Task) -> String {
    match fixed_node(task) {
        Some(node) => format!("{}.{}", task.service_name, node_name(state, node)),
        None => format!("{}.{}", task.service_name, task.slot),
    }
}

/// `n1`; nodes that are gone keep only their id.
fn node_name(state: &State, node: NodeId) -> String {
    state.node(node).map_or_else(
        || format!("({})", shorten_ids(node.as_str())),
        |node| node.hostname(),
    )
}

/// Nodes with their running tasks per service.
#[must_use]
pub(super) fn nodes(state: &State) -> String {
    let mut rows = vec![["NODE", "STATE", "AVAILABILITY", "RUNNING"].map(String::from)];
    for node in state.nodes() {
        rows.push([
            node.hostname(),
            node.status.state.to_string(),
            node.spec.availability.to_string(),
            running_on(state, node),
        ]);
    }
    table(&rows)
}

fn running_on(state: &State, node: &Node) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for task in state.tasks_on_node(node.id) {
        if task.status.state == TaskState::Running {
            *counts.entry(&task.service_name).or_default() += 1;
        }
    }
    let parts: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{name}×{count}"))
        .collect();
    parts.join(" ")
}

/// Services with how many of their tasks run, and their update.
#[must_use]
pub(super) fn services(state: &State) -> String {
    let mut rows = vec![["SERVICE", "RUNNING", "IMAGE", "UPDATE", "MESSAGE"].map(String::from)];
    let mut services: Vec<_> = state.services().collect();
    services.sort_by_key(|service| &service.spec.name);
    for service in services {
        let update = service.update_status.as_ref();
        rows.push([
            service.spec.name.clone(),
            format!("{}/{}", running(state, service), wanted(state, service)),
            service.spec.task.container.image.clone(),
            update.map_or_else(|| "-".to_owned(), |update| format!("{:?}", update.state)),
            update.map_or_else(String::new, |update| shorten_ids(&update.message)),
        ]);
    }
    table(&rows)
}

fn running(state: &State, service: &Service) -> usize {
    let tasks = state.tasks_of_service(service.id);
    tasks
        .filter(|task| task.is_runnable() && task.status.state == TaskState::Running)
        .count()
}

fn wanted(state: &State, service: &Service) -> String {
    match service.spec.mode {
        ServiceMode::Replicated { replicas } => replicas.to_string(),
        ServiceMode::Global {} => {
            let tasks = state.tasks_of_service(service.id);
            tasks.filter(|task| task.is_runnable()).count().to_string()
        }
    }
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            write!(line, "{cell:<width$}  ").expect("writing to a string cannot fail");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
