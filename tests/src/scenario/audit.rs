//! Rules every single commit must keep, whatever the scenario.

use store::{Action, Change, Object, State, TRANSACTION_ACTIONS_MAX};
use types::task_state::Owner;
use types::{NodeId, Task, TaskState};

/// Checks that hold at all times.
#[derive(Debug)]
pub struct Audit;

impl Audit {
    /// A planner only proposes what is its to decide.
    ///
    /// # Panics
    /// When it does not.
    pub fn check_plan(planner: &str, actions: &[Action], state: &State) {
        assert!(
            !actions.is_empty() && actions.len() <= TRANSACTION_ACTIONS_MAX,
            "{planner}"
        );
        for action in actions {
            let allowed = match action {
                Action::Create(Object::Task(task)) => {
                    planner == "orchestrator" && task.status.state.owner() == Owner::Orchestrator
                }
                Action::TaskDesired { .. } | Action::Update(Object::Service(_)) => {
                    planner == "orchestrator"
                }
                Action::TaskAssign { status, .. } => {
                    planner == "scheduler" && status.state.owner() == Owner::Scheduler
                }
                Action::TaskStatus { task, status } => {
                    let stored = state.task(*task).map(|task| task.status.state);
                    may_report(planner, stored, status.state)
                }
                Action::Remove {
                    id: store::ObjectId::Task(_),
                    ..
                } => planner == "reaper",
                Action::TaskAllocate { status, .. } => {
                    planner == "allocator" && status.state.owner() == Owner::Allocator
                }
                Action::ServiceEndpoint { .. } | Action::Update(Object::Network(_)) => {
                    planner == "allocator"
                }
                Action::Update(Object::Cluster(_)) => planner == "gossip keys",
                Action::Create(_)
                | Action::Update(_)
                | Action::Remove { .. }
                | Action::TaskConnect { .. }
                | Action::TaskDisconnect { .. }
                | Action::NodeStatus { .. } => false,
            };
            assert!(allowed, "{planner} must not do {action:?}");
        }
    }

    /// States only grow, a placed task stays where it is, and only what is over is deleted.
    ///
    /// # Panics
    /// When that is not so.
    pub fn check_change(change: &Change, state: &State) {
        match (&change.old, &change.new) {
            (Some(Object::Task(old)), Some(Object::Task(new))) => {
                assert!(
                    new.status.state >= old.status.state,
                    "backwards: {old:?} → {new:?}"
                );
                assert!(
                    new.desired_state >= old.desired_state,
                    "backwards: {old:?} → {new:?}"
                );
                assert!(
                    old.node_id.is_none() || new.node_id == old.node_id,
                    "moved: {new:?}"
                );
            }
            (Some(Object::Task(old)), None) => {
                let lost = old.node_id.is_some_and(|node| state.node(node).is_none());
                let stands = old.status.state;
                let over = stands.is_terminal() || stands < TaskState::Assigned;
                assert!(over || lost, "deleted while it ran: {old:?}");
            }
            (_, _) => {}
        }
    }

    /// Nodes whose tasks reserve more than the node has.
    #[must_use]
    pub fn overcommitted(state: &State) -> Vec<NodeId> {
        let exceeds = |node: &types::Node| {
            let has = node
                .description
                .as_ref()
                .map(|d| d.resources)
                .unwrap_or_default();
            let holders = state
                .tasks_on_node(node.id)
                .filter(|task| task.holds_resources());
            let (cpus, memory) =
                holders.fold((0, 0), |(cpus, memory), task: &std::sync::Arc<Task>| {
                    let asked = task.spec.resources.reservations;
                    (cpus + asked.nano_cpus, memory + asked.memory_bytes)
                });
            cpus > has.nano_cpus || memory > has.memory_bytes
        };
        state
            .nodes()
            .filter(|node| exceeds(node))
            .map(|node| node.id)
            .collect()
    }
}

fn may_report(planner: &str, stored: Option<TaskState>, state: TaskState) -> bool {
    match planner {
        "allocator" => state.owner() == Owner::Allocator,
        // Its explanation, and the end of tasks that never had a node.
        "scheduler" => {
            stored == Some(TaskState::Pending)
                && matches!(state, TaskState::Pending | TaskState::Shutdown)
        }
        "enforcer" => state == TaskState::Rejected,
        _ => false,
    }
}
