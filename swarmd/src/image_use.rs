//! Which images this node's tasks need, so that those are not removed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use image::ImageStore;
use prost::Message as _;
use proto::dispatcher::TaskRecord;
use types::Task;

use crate::images::InUse;

/// The images that tasks which have not ended are made from, by the agent's records.
pub(crate) fn by_tasks(records: PathBuf, images: ImageStore) -> InUse {
    Arc::new(move || {
        let names = names_in_use(&records);
        names
            .iter()
            .filter_map(|name| images.resolve(name).ok())
            .collect()
    })
}

/// Images as the tasks name them. A record that is being replaced is read as it was or will be.
fn names_in_use(records: &PathBuf) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(records) else {
        return BTreeSet::new();
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let record = TaskRecord::decode(std::fs::read(entry.ok()?.path()).ok()?.as_slice()).ok()?;
        let task = Task::try_from(record.task?).ok()?;
        (!task.status.state.is_terminal()).then(|| task.spec.container.image.clone())
    };
    entries.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use types::{Meta, ServiceId, TaskId, TaskSpec, TaskState, TaskStatus, Version};

    use super::*;

    fn task(number: u128, image: &str, state: TaskState) -> Task {
        let mut spec = TaskSpec::default();
        spec.container.image = image.to_owned();
        Task {
            id: TaskId::from_number(number),
            meta: Meta::default(),
            service_id: ServiceId::from_number(1),
            service_name: "web".to_owned(),
            slot: 1,
            node_id: None,
            spec: Arc::new(spec),
            spec_version: Version::default(),
            status: TaskStatus {
                state,
                ..TaskStatus::default()
            },
            desired_state: TaskState::Running,
            attachments: vec![],
            host_ports: vec![],
        }
    }

    #[test]
    fn only_tasks_that_have_not_ended_need_their_images() {
        let dir = tempfile::tempdir().unwrap();
        let records = dir.path().join("tasks");
        assert!(names_in_use(&records).is_empty(), "no agent has run yet");
        std::fs::create_dir(&records).unwrap();
        for task in [
            task(1, "web:1", TaskState::Running),
            task(2, "web:2", TaskState::Preparing),
            task(3, "old:1", TaskState::Failed),
        ] {
            let record = TaskRecord {
                task: Some((&task).into()),
                withdrawn: false,
            };
            std::fs::write(records.join(task.id.as_str()), record.encode_to_vec()).unwrap();
        }
        std::fs::write(records.join("torn"), b"\xff\xff").unwrap();
        let expected: BTreeSet<String> = ["web:1", "web:2"].map(str::to_owned).into();
        assert_eq!(names_in_use(&records), expected);
    }
}
