//! Packing groups of actions that belong together into as few transactions as allowed.

use store::{Action, Object, TRANSACTION_ACTIONS_MAX, TRANSACTION_BYTES_MAX};

/// Bytes counted for an action that carries no spec.
const ACTION_BYTES: usize = 256;

/// Packs the groups in order. Each stays whole unless it alone exceeds a transaction.
pub(crate) fn pack(groups: Vec<Vec<Action>>) -> Vec<Vec<Action>> {
    let mut sizes = Sizes::default();
    let mut transactions = Vec::new();
    let mut open: Vec<Action> = Vec::new();
    let mut open_bytes = 0;
    for group in groups {
        let bytes: usize = group.iter().map(|action| sizes.of(action)).sum();
        let full = open.len() + group.len() > TRANSACTION_ACTIONS_MAX
            || open_bytes + bytes > TRANSACTION_BYTES_MAX;
        if full && !open.is_empty() {
            transactions.push(std::mem::take(&mut open));
            open_bytes = 0;
        }
        open.extend(group);
        open_bytes += bytes;
        while open.len() > TRANSACTION_ACTIONS_MAX {
            let rest = open.split_off(TRANSACTION_ACTIONS_MAX);
            transactions.push(std::mem::replace(&mut open, rest));
        }
    }
    if !open.is_empty() {
        transactions.push(open);
    }
    transactions
}

/// Estimates of encoded sizes, remembering the last spec seen: neighbours mostly share theirs.
#[derive(Default)]
struct Sizes {
    last_spec: Option<(*const types::TaskSpec, usize)>,
}

impl Sizes {
    fn of(&mut self, action: &Action) -> usize {
        let Action::Create(Object::Task(task)) = action else {
            return ACTION_BYTES;
        };
        let spec = std::sync::Arc::as_ptr(&task.spec);
        let bytes = match self.last_spec {
            Some((last, bytes)) if last == spec => bytes,
            // The debug text holds every field in full with its name, so it is never shorter
            // than the encoded spec, whatever fields a spec will have.
            Some(_) | None => format!("{:?}", task.spec).len(),
        };
        self.last_spec = Some((spec, bytes));
        bytes + ACTION_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use types::{Meta, ServiceId, Task, TaskId, TaskSpec, TaskState, TaskStatus, Version};

    use super::*;

    fn desire(number: u128) -> Action {
        Action::TaskDesired {
            task: TaskId::from_number(number),
            desired: TaskState::Shutdown,
        }
    }

    #[test]
    fn groups_stay_whole_and_transactions_within_bounds() {
        let groups: Vec<_> = (0..150).map(|n| vec![desire(n), desire(n)]).collect();
        let transactions = pack(groups);
        assert_eq!(
            transactions.iter().map(Vec::len).collect::<Vec<_>>(),
            [200, 100]
        );

        let groups = vec![vec![desire(1); 150], vec![desire(2); 100]];
        assert_eq!(
            pack(groups).iter().map(Vec::len).collect::<Vec<_>>(),
            [150, 100]
        );
        assert_eq!(
            pack(vec![vec![desire(1); 450]]).iter().map(Vec::len).max(),
            Some(200)
        );
        assert!(pack(vec![]).is_empty());
    }

    #[test]
    fn large_specs_make_small_transactions() {
        let mut spec = TaskSpec::default();
        spec.container.env = vec![format!("A={}", "x".repeat(100_000))];
        let spec = Arc::new(spec);
        let create = |number| {
            Action::Create(Object::from(Task {
                id: TaskId::from_number(number),
                meta: Meta::default(),
                service_id: ServiceId::from_number(1),
                service_name: "web".into(),
                slot: 1,
                node_id: None,
                spec: spec.clone(),
                spec_version: Version { index: 1 },
                status: TaskStatus::default(),
                desired_state: TaskState::Running,
                attachments: vec![],
                host_ports: vec![],
            }))
        };
        let transactions = pack((0..30).map(|n| vec![create(n)]).collect());
        assert_eq!(transactions.iter().map(Vec::len).sum::<usize>(), 30);
        assert!(
            transactions.iter().all(|t| t.len() <= 15),
            "15 × 100 kB fit into 1.5 MiB"
        );
        assert_eq!(transactions.len(), 2);
    }
}
