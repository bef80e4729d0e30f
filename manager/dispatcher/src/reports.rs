//! Checks what an agent reports before it becomes part of a transaction.

use proto::dispatcher as wire;
use store::{Action, State};
use tonic::Status;
use types::task::ContainerStatus;
use types::task_state::Owner;
use types::{NodeId, TaskId, TaskStatus};

/// Reports one batch may hold; agents send at most 1024 (S8.24).
const REPORTS_MAX: usize = 4096;
/// Bytes kept of a text from a node; it goes into every manager's memory and log.
const TEXT_BYTES_MAX: usize = 2048;

/// What becomes of a batch.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// What stores it. What the store knows already, or knows better, is left out.
    pub(crate) actions: Vec<Action>,
    /// Reports on tasks of other nodes: dropped.
    pub(crate) foreign: u64,
}

/// Checks a batch of a node.
pub(crate) fn check(
    state: &State,
    node: NodeId,
    batch: Vec<wire::TaskReport>,
) -> Result<Checked, Status> {
    if batch.len() > REPORTS_MAX {
        return Err(Status::invalid_argument("too many reports in one batch"));
    }
    let mut actions = Vec::with_capacity(batch.len());
    let mut foreign = 0;
    for report in batch {
        let id: TaskId = report
            .task_id
            .parse()
            .map_err(|e| Status::invalid_argument(format!("a report of no task: {e}")))?;
        let status = TaskStatus::try_from(report.status.unwrap_or_default())
            .map_err(|e| Status::invalid_argument(format!("the report of task {id}: {e}")))?;
        // Deleted meanwhile: the node will hear of it (S2.01).
        let Some(task) = state.task(id) else { continue };
        if task.node_id != Some(node) {
            foreign += 1;
            continue;
        }
        if status.state.owner() != Owner::Agent {
            let why = format!("no node may report task {id} as {}", status.state);
            return Err(Status::invalid_argument(why));
        }
        let status = TaskStatus {
            message: bounded(status.message),
            err: bounded(status.err),
            container_status: status.container_status.map(|container| ContainerStatus {
                container_id: bounded(container.container_id),
                ports: of_number(container.ports, task.host_ports.len()),
                ..container
            }),
            applied_at: task.status.applied_at,
            ..status
        };
        if status.state >= task.status.state && status != task.status {
            actions.push(Action::TaskStatus { task: id, status });
        }
    }
    Ok(Checked { actions, foreign })
}

/// No more than were asked for.
fn of_number<T>(mut things: Vec<T>, count: usize) -> Vec<T> {
    things.truncate(count);
    things
}

fn bounded(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
    text
}
