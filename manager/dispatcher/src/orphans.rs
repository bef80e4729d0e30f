//! Gives up the tasks of nodes that stayed away too long (S8.11).

use std::collections::BTreeMap;
use std::time::Duration;

use store::{Action, State};
use types::node::NodeState;
use types::{NodeId, TaskState, TaskStatus, Timestamp};

/// How long a node may be down before its tasks are given up.
const ORPHANED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Since when nodes are down, as far as this leader can tell.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    down_since: BTreeMap<NodeId, Timestamp>,
}

impl Orphans {
    /// Tasks to give up now.
    pub(crate) fn plan(&mut self, state: &State, now: Timestamp) -> Vec<Action> {
        let is_down = |id: &NodeId| {
            state
                .node(*id)
                .is_some_and(|node| node.status.state == NodeState::Down)
        };
        self.down_since.retain(|id, _| is_down(id));
        let mut actions = vec![];
        for node in state.nodes().filter(|node| is_down(&node.id)) {
            // What a user changes on a node later must not start its time anew; a new leader may
            // see such a change as the beginning, which only makes it more patient.
            let since = *self
                .down_since
                .entry(node.id)
                .or_insert(node.meta.updated_at);
            if now.since(since) < ORPHANED_AFTER {
                continue;
            }
            let held = state
                .tasks_on_node(node.id)
                .filter(|task| task.holds_resources());
            actions.extend(held.map(|task| Action::TaskStatus {
                task: task.id,
                status: TaskStatus {
                    state: TaskState::Orphaned,
                    timestamp: now,
                    message: "orphaned".to_owned(),
                    err: "the node has been down for 24 hours".to_owned(),
                    ..task.status.clone()
                },
            }));
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use store::{Object, Transaction};
    use types::{TaskId, Version};

    use super::*;
    use crate::tests::fixture::{node, task};

    #[test]
    fn tasks_of_a_node_down_for_a_day_are_given_up() {
        let start = Timestamp::from_secs(1_000_000);
        let hours = |n: u64| start.plus(Duration::from_secs(n * 3600));
        let mut state = State::default();
        let apply = |state: &mut State, index, now, actions| {
            let version = Version { index };
            state.apply(version, &Transaction { now, actions }).unwrap();
        };
        let create = vec![
            Action::Create(Object::from(node(1, NodeState::Down))),
            Action::Create(Object::from(node(2, NodeState::Ready))),
            Action::Create(Object::from(task(1, 1, TaskState::Running))),
            Action::Create(Object::from(task(2, 1, TaskState::Failed))),
            Action::Create(Object::from(task(3, 2, TaskState::Running))),
        ];
        apply(&mut state, 1, start, create);
        let mut orphans = Orphans::default();
        assert!(orphans.plan(&state, hours(23)).is_empty());
        // A label set on the lost node does not give it another day.
        let mut labelled = types::Node::clone(state.node(NodeId::from_number(1)).unwrap());
        labelled.spec.labels.insert("a".to_owned(), "b".to_owned());
        apply(
            &mut state,
            2,
            hours(23),
            vec![Action::Update(labelled.into())],
        );
        let actions = orphans.plan(&state, hours(24));
        let [Action::TaskStatus { task, status }] = actions.as_slice() else {
            panic!("one task is given up, not {actions:?}");
        };
        assert_eq!(
            (*task, status.state),
            (TaskId::from_number(1), TaskState::Orphaned)
        );
        apply(&mut state, 3, hours(24), actions.clone());
        assert!(orphans.plan(&state, hours(25)).is_empty(), "once");
    }
}
