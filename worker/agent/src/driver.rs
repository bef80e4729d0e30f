//! Drives one task: steps it, reports what came of it, and follows what is wanted of it.

use std::sync::Arc;
use std::time::Duration;

use executor::{Action, Controller, Outcome, RETRY_DELAY, action, step};
use tokio::sync::{OwnedSemaphorePermit, watch};
use types::{Task, TaskState, TaskStatus, Timestamp};

use crate::files::Record;
use crate::tasks::Shared;

/// From the moment a task is to end until it is asked to. Managers tell all nodes at that moment,
/// and a node has changed its tables a few milliseconds after it heard (100 ms at most is promised).
const DRAIN_TIME: Duration = Duration::from_millis(250);

/// What the managers want of a task.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The task as last assigned; its status counts only when it is new here.
    pub(crate) task: Arc<Task>,
    /// It is no longer assigned: stop it and forget it.
    pub(crate) is_withdrawn: bool,
}

impl Wanted {
    /// Takes over a newer assignment of the task; false when it says nothing new.
    pub(crate) fn merge(&mut self, mut task: Task) -> bool {
        // What the managers gave up must not go on (an orphan whose node came back).
        if task.status.state.is_terminal() {
            task.desired_state = task.desired_state.advance(TaskState::Shutdown);
        }
        task.desired_state = self.task.desired_state.advance(task.desired_state);
        task.status = self.task.status.clone();
        task.meta = self.task.meta;
        let is_new = task != *self.task;
        if is_new {
            self.task = Arc::new(task);
        }
        is_new
    }
}

/// One task and everything needed to drive it.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    controller: Arc<dyn Controller>,
    wanted: watch::Receiver<Wanted>,
    observed: watch::Sender<TaskStatus>,
    task: Task,
    is_withdrawn: bool,
    /// The machine's attention, held from preparing until the task runs or has to wait.
    turn: Option<OwnedSemaphorePermit>,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        controller: Arc<dyn Controller>,
        mut wanted: watch::Receiver<Wanted>,
        observed: watch::Sender<TaskStatus>,
    ) -> Self {
        let (task, is_withdrawn) = {
            let wanted = wanted.borrow_and_update();
            (Task::clone(&wanted.task), wanted.is_withdrawn)
        };
        let mut driver = Self {
            shared,
            controller,
            wanted,
            observed,
            task,
            is_withdrawn,
            turn: None,
        };
        driver.want_end_if_withdrawn();
        driver
    }

    /// Drives the task until it is withdrawn and gone. May be dropped at any time: a later driver
    /// goes on from the record and from what the controller finds.
    pub(crate) async fn run(mut self) {
        loop {
            if self.is_withdrawn && self.task.status.state.is_terminal() {
                self.remove().await;
                return;
            }
            let outcome = tokio::select! {
                biased;
                () = interrupted(self.wanted.clone(), &self.task) => None,
                outcome = step_in_turn(
                    &self.shared,
                    &self.task,
                    &*self.controller,
                    &mut self.turn,
                ) => Some(outcome),
            };
            match outcome {
                None => self.follow().await,
                Some(Outcome::Moved {
                    state,
                    message,
                    err,
                }) => {
                    self.moved(state, message, err).await;
                }
                Some(Outcome::Retry { err }) => {
                    self.turn = None;
                    self.trouble(err);
                    let pause = tokio::time::timeout(RETRY_DELAY, self.wanted.changed());
                    if let Ok(Ok(())) = pause.await {
                        self.follow().await;
                    }
                }
                Some(Outcome::Rest) => {
                    // An error means that the agent is gone, and with it this driver's cause.
                    if self.wanted.changed().await.is_err() {
                        return;
                    }
                    self.follow().await;
                }
            }
        }
    }

    /// Takes over what is wanted now.
    ///
    /// A task that is to end goes on serving for a moment: as long as it takes until every node
    /// has heard that no new connection may go to it.
    async fn follow(&mut self) {
        let served = is_reached(&self.task);
        let wanted = self.wanted.borrow_and_update().clone();
        self.is_withdrawn |= wanted.is_withdrawn;
        let status = std::mem::take(&mut self.task.status);
        self.task = Task {
            status,
            ..Task::clone(&wanted.task)
        };
        self.want_end_if_withdrawn();
        if let Err(error) = self.controller.update(Arc::new(self.task.clone())).await {
            tracing::warn!(task = %self.task.id, %error, "a change of the task was not taken over");
        }
        self.save().await;
        if served && !is_reached(&self.task) {
            tokio::time::sleep(DRAIN_TIME).await;
        }
    }

    fn want_end_if_withdrawn(&mut self) {
        if self.is_withdrawn {
            self.task.desired_state = self.task.desired_state.advance(TaskState::Shutdown);
        }
    }

    async fn moved(&mut self, state: TaskState, message: &str, err: String) {
        debug_assert!(state > self.task.status.state, "states only grow");
        if err.is_empty() {
            tracing::debug!(task = %self.task.id, %state, "task moved");
        } else {
            tracing::info!(task = %self.task.id, %state, err, "task moved");
        }
        self.report(state, message.to_owned(), err);
        // Between these a restarted agent finds out by itself how far the task has come.
        if state == TaskState::Running || state.is_terminal() {
            self.save().await;
        }
    }

    /// Tells of a passing error without a change of state (S2.06).
    fn trouble(&mut self, err: String) {
        if self.task.status.err != err {
            tracing::warn!(task = %self.task.id, err, "a step failed and is tried again");
            let status = self.task.status.clone();
            self.report(status.state, status.message, err);
        }
    }

    fn report(&mut self, state: TaskState, message: String, err: String) {
        self.task.status = TaskStatus {
            state,
            timestamp: Timestamp::now(),
            message,
            err,
            container_status: self
                .controller
                .status()
                .or_else(|| self.task.status.container_status.clone()),
            applied_at: Timestamp::default(),
        };
        self.shared
            .outbox
            .put(self.task.id, self.task.status.clone());
        self.observed.send_replace(self.task.status.clone());
    }

    async fn save(&self) {
        let record = Record {
            task: self.task.clone(),
            is_withdrawn: self.is_withdrawn,
        };
        self.shared.files.save(record).await;
    }

    /// Removes everything of the task, however often that takes.
    async fn remove(&mut self) {
        // Waiting for a turn while holding one could go on for ever.
        self.turn = None;
        loop {
            let result = {
                let _turn = self.shared.busy.acquire().await;
                self.controller.remove().await
            };
            match result {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(task = %self.task.id, %error, "the task's remains were not removed");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
        self.shared.files.remove(self.task.id).await;
        self.shared.forget(self.task.id);
    }
}

/// Whether others send connections to the task over a network.
fn is_reached(task: &Task) -> bool {
    let mut places = task.attachments.iter();
    task.status.state == TaskState::Running
        && task.is_runnable()
        && places.any(|place| !place.addresses.is_empty())
}

/// Does a step; one that makes work for the machine waits for its turn, and the turn lasts until
/// the task runs: the first of many tasks are not held up by the preparing of the last.
async fn step_in_turn(
    shared: &Shared,
    task: &Task,
    controller: &dyn Controller,
    turn: &mut Option<OwnedSemaphorePermit>,
) -> Outcome {
    match action(task.status.state, task.desired_state) {
        Action::Prepare | Action::Start => {
            if turn.is_none() {
                // The semaphore is never closed, so there is always a permit in the end.
                *turn = shared.busy.clone().acquire_owned().await.ok();
            }
        }
        Action::BeginPrepare | Action::BeginStart => {}
        Action::Rest | Action::Accept | Action::Wait | Action::Shutdown => *turn = None,
    }
    step(task, controller).await
}

/// Waits until something is wanted for which the current step has to be broken off.
async fn interrupted(mut wanted: watch::Receiver<Wanted>, task: &Task) {
    let is_enough = |wanted: &Wanted| match action(task.status.state, task.desired_state) {
        Action::Wait => true,
        Action::Prepare | Action::Start => {
            wanted.is_withdrawn || wanted.task.desired_state >= TaskState::Shutdown
        }
        // Those are over in an instant, or must not be broken off.
        Action::Rest
        | Action::Accept
        | Action::BeginPrepare
        | Action::BeginStart
        | Action::Shutdown => false,
    };
    loop {
        if wanted.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if is_enough(&wanted.borrow()) {
            return;
        }
    }
}
