//! What tasks hold: the node-independent resources a task needs before it is scheduled.
//!
//! So far a task needs none, so every NEW task becomes PENDING at once. Addresses, ports and
//! networks will be given here, in the same transaction that moves the task on.

use std::collections::BTreeSet;

use store::{Action, Change, Object, Plan, PlanContext, Planner, State};
use types::{Task, TaskId, TaskState, TaskStatus, Timestamp};

/// Moves NEW tasks to PENDING.
#[derive(Debug, Default)]
pub struct Allocator {
    dirty: BTreeSet<TaskId>,
}

impl Planner for Allocator {
    fn name(&self) -> &'static str {
        "allocator"
    }

    fn observe(&mut self, change: &Change) {
        if let Some(Object::Task(task)) = &change.new
            && is_new(task)
        {
            self.dirty.insert(task.id);
        }
    }

    fn resync(&mut self, state: &State) {
        self.dirty = state
            .tasks()
            .filter(|task| is_new(task))
            .map(|task| task.id)
            .collect();
    }

    fn plan(&mut self, context: &mut PlanContext<'_>) -> Plan {
        let state = context.state;
        self.dirty
            .retain(|id| state.task(*id).is_some_and(|task| is_new(task)));
        let actions = self.dirty.iter().map(|id| Action::TaskStatus {
            task: *id,
            status: allocated(context.now),
        });
        let mut plan = Plan::default();
        plan.add_independent(actions.collect());
        plan
    }
}

fn is_new(task: &Task) -> bool {
    task.status.state == TaskState::New
}

fn allocated(now: Timestamp) -> TaskStatus {
    TaskStatus {
        state: TaskState::Pending,
        timestamp: now,
        message: "pending task scheduling".to_owned(),
        ..TaskStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::Transaction;
    use types::id::RandomIds;
    use types::{Meta, ServiceId, TaskSpec, Version};

    use super::*;

    fn task(number: u128, state: TaskState) -> Task {
        Task {
            id: TaskId::from_number(number),
            meta: Meta::default(),
            service_id: ServiceId::from_number(1),
            service_name: "web".into(),
            slot: 1,
            node_id: None,
            spec: Arc::new(TaskSpec::default()),
            spec_version: Version { index: 1 },
            status: TaskStatus {
                state,
                ..TaskStatus::default()
            },
            desired_state: TaskState::Running,
            attachments: vec![],
            host_ports: vec![],
        }
    }

    fn plan(allocator: &mut Allocator, state: &State) -> Plan {
        let now = Timestamp::from_secs(1);
        allocator.plan(&mut PlanContext {
            state,
            now,
            ids: &mut RandomIds,
        })
    }

    #[test]
    fn new_tasks_become_pending_once_and_others_are_left_alone() {
        let mut state = State::default();
        let mut allocator = Allocator::default();
        let apply = |allocator: &mut Allocator, state: &mut State, index, actions| {
            let now = Timestamp::from_secs(1);
            let transaction = Transaction { now, actions };
            for change in state.apply(Version { index }, &transaction).unwrap() {
                allocator.observe(&change);
            }
        };
        let tasks = [
            (1, TaskState::New),
            (2, TaskState::Pending),
            (3, TaskState::Running),
        ];
        let create = tasks.map(|(number, state)| Action::Create(task(number, state).into()));
        apply(&mut allocator, &mut state, 1, create.to_vec());

        let first = plan(&mut allocator, &state);
        let [transaction] = first.transactions.as_slice() else {
            panic!("one transaction expected: {first:?}");
        };
        assert!(matches!(transaction.as_slice(),
            [Action::TaskStatus { task, status }]
            if *task == TaskId::from_number(1) && status.state == TaskState::Pending));
        assert_eq!(
            plan(&mut allocator, &state),
            first,
            "until committed it stays due"
        );

        apply(&mut allocator, &mut state, 2, transaction.clone());
        assert_eq!(plan(&mut allocator, &state), Plan::default());
        allocator.resync(&state);
        assert_eq!(plan(&mut allocator, &state), Plan::default());
    }
}
