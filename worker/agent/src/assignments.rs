//! Reads assignment sets and checks that each follows from the one before.

use proto::ConvertError;
use proto::dispatcher::{self as wire, assignment_change::Change, assignments::Kind};
use types::{Task, TaskId};

use crate::content;

/// What a set asks for.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Every task of the node is in `updates`; what is not has to go.
    pub(crate) is_complete: bool,
    /// New and changed tasks.
    pub(crate) updates: Vec<Task>,
    /// Tasks to stop and forget.
    pub(crate) removals: Vec<TaskId>,
    /// What is said of networks.
    pub(crate) networks: Vec<Change>,
    /// Content of secrets and configs.
    pub(crate) contents: content::Changes,
    /// Tasks this agent does not understand, and why.
    pub(crate) unreadable: Vec<(TaskId, ConvertError)>,
}

/// A set that does not follow from what was received so far: the session must be opened anew.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("got an assignment set that applies to {applies_to}, but have {have:?}")]
pub(crate) struct Mismatch {
    applies_to: u64,
    have: Option<u64>,
}

/// A session's place in the stream of sets.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    at: Option<u64>,
}

impl Cursor {
    /// Reads the next set.
    pub(crate) fn accept(&mut self, set: wire::Assignments) -> Result<Changes, Mismatch> {
        let is_complete = set.kind() == Kind::Complete;
        if !is_complete && self.at != Some(set.applies_to) {
            return Err(Mismatch {
                applies_to: set.applies_to,
                have: self.at,
            });
        }
        self.at = Some(set.results_in);
        let mut changes = Changes {
            is_complete,
            ..Changes::default()
        };
        for change in set.changes {
            match change.change {
                Some(Change::UpdateTask(task)) => changes.update(task),
                Some(Change::UpdateSecret(content)) => changes.contents.update_secret(content),
                Some(Change::RemoveSecret(key)) => changes.contents.remove_secret(key),
                Some(Change::UpdateConfig(content)) => changes.contents.update_config(content),
                Some(Change::RemoveConfig(key)) => changes.contents.remove_config(key),
                Some(Change::RemoveTask(id)) => match id.parse() {
                    Ok(id) => changes.removals.push(id),
                    Err(error) => {
                        tracing::error!(%error, "told to remove a task without a valid id")
                    }
                },
                Some(
                    change @ (Change::UpdateNetwork(_)
                    | Change::RemoveNetwork(_)
                    | Change::UpdateEndpoint(_)
                    | Change::RemoveEndpoint(_)
                    | Change::UpdateService(_)
                    | Change::RemoveService(_)
                    | Change::UpdatePeer(_)
                    | Change::RemovePeer(_)
                    | Change::NetworkSettings(_)),
                ) => changes.networks.push(change),
                // A kind of dependency that this release does not know.
                None => tracing::warn!("ignored an assignment of an unknown kind"),
            }
        }
        Ok(changes)
    }
}

impl Changes {
    fn update(&mut self, task: proto::objects::Task) {
        let id = task.id.parse();
        match (Task::try_from(task), id) {
            (Ok(task), _) => self.updates.push(task),
            (Err(error), Ok(id)) => self.unreadable.push((id, error)),
            (Err(error), Err(_)) => tracing::error!(%error, "got a task without a valid id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(kind: Kind, applies_to: u64, results_in: u64) -> wire::Assignments {
        wire::Assignments {
            kind: kind.into(),
            applies_to,
            results_in,
            changes: vec![],
        }
    }

    #[test]
    fn sets_must_follow_each_other() {
        let mut cursor = Cursor::default();
        assert!(
            cursor.accept(set(Kind::Incremental, 0, 1)).is_err(),
            "nothing to apply it to"
        );
        assert!(
            cursor
                .accept(set(Kind::Complete, 0, 5))
                .unwrap()
                .is_complete
        );
        assert!(
            !cursor
                .accept(set(Kind::Incremental, 5, 6))
                .unwrap()
                .is_complete
        );
        let error = cursor.accept(set(Kind::Incremental, 7, 8)).unwrap_err();
        assert_eq!(
            error,
            Mismatch {
                applies_to: 7,
                have: Some(6)
            }
        );
        assert!(
            cursor.accept(set(Kind::Incremental, 5, 6)).is_err(),
            "a repeated set"
        );
    }

    #[test]
    fn a_task_that_is_not_understood_keeps_its_name() {
        let mut message = set(Kind::Complete, 0, 1);
        let task = proto::objects::Task {
            id: TaskId::from_number(3).to_string(),
            service_id: "no id".to_owned(),
            ..Default::default()
        };
        let updates = [Change::UpdateTask(task), Change::RemoveTask("?".to_owned())];
        message.changes = updates
            .map(|c| wire::AssignmentChange { change: Some(c) })
            .into_iter()
            .collect();
        let changes = Cursor::default().accept(message).unwrap();
        assert_eq!(changes.unreadable[0].0, TaskId::from_number(3));
        assert!(changes.updates.is_empty() && changes.removals.is_empty());
    }
}
