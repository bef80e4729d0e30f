//! Simulated workers: they obey desired states as an agent does, one state per step.

use std::collections::BTreeMap;
use std::time::Duration;

use store::{Action, State};
use types::{NodeId, Task, TaskId, TaskState, TaskStatus, Timestamp};

use super::values;

/// How a container behaves, read from the name of its image: `web:2+fail@3s+stop@1s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Behaviour {
    /// It cannot be prepared.
    is_rejected: bool,
    start: Duration,
    stop: Duration,
    fails_after: Option<Duration>,
    exits_after: Option<Duration>,
}

impl Behaviour {
    fn of(task: &Task) -> Self {
        let mut behaviour = Self::default();
        for part in task.spec.container.image.split('+').skip(1) {
            let (word, time) = part.split_once('@').unwrap_or((part, "0s"));
            let time = values::duration(time).expect("images of scenarios name times");
            match word {
                "reject" => behaviour.is_rejected = true,
                "start" => behaviour.start = time,
                "stop" => behaviour.stop = time,
                "fail" => behaviour.fails_after = Some(time),
                "exit" => behaviour.exits_after = Some(time),
                _ => panic!("images of scenarios know no behaviour {word:?}"),
            }
        }
        behaviour
    }
}

/// A task as its node knows it.
#[derive(Clone, Debug)]
struct Local {
    behaviour: Behaviour,
    desired: TaskState,
    state: TaskState,
    since: Timestamp,
    stopping_since: Option<Timestamp>,
    err: String,
}

/// One machine with its containers.
#[derive(Clone, Debug)]
struct Worker {
    is_reachable: bool,
    tasks: BTreeMap<TaskId, Local>,
}

/// All machines.
#[derive(Clone, Debug, Default)]
pub struct Workers {
    nodes: BTreeMap<NodeId, Worker>,
}

impl Workers {
    /// A new machine, in session.
    pub fn add(&mut self, node: NodeId) {
        self.nodes.insert(
            node,
            Worker {
                is_reachable: true,
                tasks: BTreeMap::new(),
            },
        );
    }

    /// The machine is gone for good.
    pub fn remove(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// Cuts a machine off or connects it again; its containers run on.
    pub fn set_reachable(&mut self, node: NodeId, is_reachable: bool) {
        if let Some(worker) = self.nodes.get_mut(&node) {
            worker.is_reachable = is_reachable;
        }
    }

    /// Ends a container from outside; false when it does not run.
    pub fn end(&mut self, task: TaskId, state: TaskState, err: &str, now: Timestamp) -> bool {
        let mut locals = self
            .nodes
            .values_mut()
            .filter_map(|worker| worker.tasks.get_mut(&task));
        let Some(local) = locals.find(|local| local.state == TaskState::Running) else {
            return false;
        };
        local.enter(state, now);
        err.clone_into(&mut local.err);
        true
    }

    /// Moves every task on by at most one state, and reports what changed.
    pub fn step(&mut self, state: &State, now: Timestamp) -> Vec<Action> {
        let mut reports = Vec::new();
        for (node, worker) in &mut self.nodes {
            if worker.is_reachable {
                worker.take_assignments(*node, state, now);
            }
            for local in worker.tasks.values_mut() {
                local.step(now);
            }
            if worker.is_reachable {
                worker.report(state, now, &mut reports);
            }
        }
        reports
    }

    /// When the next container does something by itself, after `now`.
    #[must_use]
    pub fn next_event(&self, now: Timestamp) -> Option<Timestamp> {
        let locals = self.nodes.values().flat_map(|worker| worker.tasks.values());
        locals.flat_map(Local::timers).filter(|at| *at > now).min()
    }

    /// Containers that run, wherever they are.
    #[must_use]
    pub fn running(&self) -> Vec<(NodeId, TaskId)> {
        let all = self.nodes.iter().flat_map(|(node, worker)| {
            worker
                .tasks
                .iter()
                .map(move |(task, local)| (*node, *task, local.state))
        });
        all.filter(|(_, _, state)| *state == TaskState::Running)
            .map(|(node, task, _)| (node, task))
            .collect()
    }
}

impl Worker {
    fn take_assignments(&mut self, node: NodeId, state: &State, now: Timestamp) {
        for task in state.tasks_on_node(node) {
            if task.status.state < TaskState::Assigned {
                continue;
            }
            if task.status.state.is_terminal() {
                // Over for the managers: whatever is left of it has to go.
                if let Some(local) = self.tasks.get_mut(&task.id) {
                    local.desired = TaskState::Remove;
                }
                continue;
            }
            let local = self.tasks.entry(task.id).or_insert_with(|| Local {
                behaviour: Behaviour::of(task),
                desired: task.desired_state,
                state: TaskState::Assigned,
                since: now,
                stopping_since: None,
                err: String::new(),
            });
            local.desired = local.desired.max(task.desired_state);
        }
        for (id, local) in &mut self.tasks {
            if state.task(*id).is_none() {
                local.desired = TaskState::Remove;
            }
        }
        self.tasks
            .retain(|id, local| state.task(*id).is_some() || !local.state.is_terminal());
    }

    fn report(&self, state: &State, now: Timestamp, reports: &mut Vec<Action>) {
        for (id, local) in &self.tasks {
            if state
                .task(*id)
                .is_some_and(|task| task.status.state < local.state)
            {
                reports.push(Action::TaskStatus {
                    task: *id,
                    status: TaskStatus {
                        state: local.state,
                        timestamp: now,
                        message: local.state.to_string(),
                        err: local.err.clone(),
                        ..TaskStatus::default()
                    },
                });
            }
        }
    }
}

impl Local {
    fn enter(&mut self, state: TaskState, now: Timestamp) {
        self.state = state;
        self.since = now;
    }

    fn fail(&mut self, state: TaskState, err: &str, now: Timestamp) {
        self.enter(state, now);
        err.clone_into(&mut self.err);
    }

    fn step(&mut self, now: Timestamp) {
        if self.state.is_terminal() {
            return;
        }
        if self.desired >= TaskState::Shutdown {
            let began = *self.stopping_since.get_or_insert(now);
            let has_container = self.state >= TaskState::Starting;
            if !has_container || now >= began.plus(self.behaviour.stop) {
                self.enter(TaskState::Shutdown, now);
            }
            return;
        }
        match self.state {
            TaskState::Assigned => self.enter(TaskState::Accepted, now),
            TaskState::Accepted => self.enter(TaskState::Preparing, now),
            TaskState::Preparing if self.behaviour.is_rejected => {
                self.fail(TaskState::Rejected, "no such image", now);
            }
            TaskState::Preparing => self.enter(TaskState::Ready, now),
            TaskState::Ready if self.desired > TaskState::Ready => {
                self.enter(TaskState::Starting, now);
            }
            TaskState::Starting if now >= self.since.plus(self.behaviour.start) => {
                self.enter(TaskState::Running, now);
            }
            TaskState::Running => self.run(now),
            TaskState::New
            | TaskState::Pending
            | TaskState::Ready
            | TaskState::Starting
            | TaskState::Complete
            | TaskState::Shutdown
            | TaskState::Failed
            | TaskState::Rejected
            | TaskState::Remove
            | TaskState::Orphaned => {}
        }
    }

    fn run(&mut self, now: Timestamp) {
        if self
            .behaviour
            .fails_after
            .is_some_and(|after| now >= self.since.plus(after))
        {
            self.fail(TaskState::Failed, "task: non-zero exit (1)", now);
        } else if self
            .behaviour
            .exits_after
            .is_some_and(|after| now >= self.since.plus(after))
        {
            self.enter(TaskState::Complete, now);
        }
    }

    /// When something is due by itself.
    fn timers(&self) -> impl Iterator<Item = Timestamp> {
        let stopping = self
            .stopping_since
            .map(|began| began.plus(self.behaviour.stop));
        let starting =
            (self.state == TaskState::Starting).then(|| self.since.plus(self.behaviour.start));
        let running = self.state == TaskState::Running;
        let ends = [self.behaviour.fails_after, self.behaviour.exits_after].map(|after| {
            after
                .filter(|_| running)
                .map(|after| self.since.plus(after))
        });
        let over = self.state.is_terminal();
        [stopping, starting]
            .into_iter()
            .chain(ends)
            .flatten()
            .filter(move |_| !over)
    }
}
