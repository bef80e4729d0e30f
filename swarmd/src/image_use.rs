//! Which images this node's tasks need, so that those are not removed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use image::{ImageId, ImageStore};
use prost::Message as _;
use proto::dispatcher::TaskRecord;
use types::Task;

use crate::images::InUse;

/// Tells whether a task that has not ended is made from an image, by the agent's records.
pub(crate) fn by_tasks(records: PathBuf, images: ImageStore) -> InUse {
    Arc::new(move |id: &ImageId| {
        let names = names_in_use(&records);
        names
            .iter()
            .any(|name| images.resolve(name).is_ok_and(|found| found == *id))
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
