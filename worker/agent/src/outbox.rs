//! Statuses on their way to the managers: the latest of each task, kept until it is stored.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use types::{TaskId, TaskStatus};

/// Reports in one batch at most (S8.24).
pub(crate) const BATCH_REPORTS_MAX: usize = 1024;

/// Shared by the drivers, which put, and the session, which sends.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    wake: Notify,
}

impl Outbox {
    /// A task's latest status. Whatever was waiting of it is superseded.
    pub(crate) fn put(&self, task: TaskId, status: TaskStatus) {
        self.with(|queue| queue.pending.insert(task, status));
        self.wake.notify_one();
    }

    /// Nothing of this task needs to be told any more.
    pub(crate) fn forget(&self, task: TaskId) {
        self.with(|queue| queue.pending.remove(&task));
    }

    /// The next batch, once there is one and the one before was acknowledged. Cancel-safe.
    pub(crate) async fn next(&self) -> Batch {
        loop {
            if let Some(batch) = self.with(Queue::take) {
                return batch;
            }
            self.wake.notified().await;
        }
    }

    /// The managers stored this batch.
    pub(crate) fn acknowledge(&self, sequence: u64) {
        self.with(|queue| queue.acknowledge(sequence));
        self.wake.notify_one();
    }

    /// The session ended: what was not acknowledged has to be sent again.
    pub(crate) fn resend(&self) {
        self.with(Queue::resend);
        self.wake.notify_one();
    }

    fn with<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        act(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Statuses sent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// What the acknowledgement will name.
    pub(crate) sequence: u64,
    /// One status per task.
    pub(crate) reports: Vec<(TaskId, TaskStatus)>,
}

#[derive(Debug, Default)]
struct Queue {
    sequence: u64,
    pending: BTreeMap<TaskId, TaskStatus>,
    in_flight: Option<Batch>,
}

impl Queue {
    /// One batch travels at a time: meanwhile newer statuses replace older ones in `pending`, so a
    /// slow manager gets fewer reports instead of later ones.
    fn take(&mut self) -> Option<Batch> {
        if self.in_flight.is_some() || self.pending.is_empty() {
            return None;
        }
        self.sequence += 1;
        let mut reports = Vec::new();
        while reports.len() < BATCH_REPORTS_MAX
            && let Some(report) = self.pending.pop_first()
        {
            reports.push(report);
        }
        let batch = Batch {
            sequence: self.sequence,
            reports,
        };
        self.in_flight = Some(batch.clone());
        Some(batch)
    }

    fn acknowledge(&mut self, sequence: u64) {
        if self
            .in_flight
            .as_ref()
            .is_some_and(|batch| batch.sequence == sequence)
        {
            self.in_flight = None;
        }
    }

    fn resend(&mut self) {
        for (task, status) in self
            .in_flight
            .take()
            .into_iter()
            .flat_map(|batch| batch.reports)
        {
            self.pending.entry(task).or_insert(status);
        }
    }
}

#[cfg(test)]
mod tests {
    use types::TaskState;

    use super::*;

    fn status(state: TaskState) -> TaskStatus {
        TaskStatus {
            state,
            ..TaskStatus::default()
        }
    }

    fn task(number: u128) -> TaskId {
        TaskId::from_number(number)
    }

    #[test]
    fn statuses_coalesce_while_a_batch_is_under_way() {
        let mut queue = Queue::default();
        assert_eq!(queue.take(), None);
        queue.pending.insert(task(1), status(TaskState::Accepted));
        let first = queue.take().unwrap();
        queue.pending.insert(task(1), status(TaskState::Preparing));
        queue.pending.insert(task(1), status(TaskState::Running));
        queue.pending.insert(task(2), status(TaskState::Running));
        assert_eq!(queue.take(), None, "one batch at a time");
        queue.acknowledge(first.sequence + 7);
        assert_eq!(queue.take(), None, "only its own acknowledgement counts");
        queue.acknowledge(first.sequence);
        let second = queue.take().unwrap();
        assert_eq!(
            second.reports,
            [
                (task(1), status(TaskState::Running)),
                (task(2), status(TaskState::Running))
            ]
        );
        assert!(second.sequence > first.sequence);
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_unless_newer_is_known() {
        let mut queue = Queue::default();
        queue.pending.insert(task(1), status(TaskState::Starting));
        queue.pending.insert(task(2), status(TaskState::Starting));
        queue.take().unwrap();
        queue.pending.insert(task(2), status(TaskState::Running));
        queue.resend();
        assert_eq!(
            queue.take().unwrap().reports,
            [
                (task(1), status(TaskState::Starting)),
                (task(2), status(TaskState::Running))
            ]
        );
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut queue = Queue::default();
        for number in 0..=BATCH_REPORTS_MAX {
            queue
                .pending
                .insert(task(number as u128), status(TaskState::Running));
        }
        let batch = queue.take().unwrap();
        assert_eq!(batch.reports.len(), BATCH_REPORTS_MAX);
        queue.acknowledge(batch.sequence);
        assert_eq!(queue.take().unwrap().reports.len(), 1);
    }

    #[tokio::test]
    async fn a_waiting_session_is_woken_by_a_status() {
        let outbox = Outbox::default();
        let (batch, ()) = tokio::join!(outbox.next(), async {
            tokio::task::yield_now().await;
            outbox.put(task(1), status(TaskState::Running));
        });
        assert_eq!(batch.reports.len(), 1);
    }
}
