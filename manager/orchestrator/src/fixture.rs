//! A small cluster for tests: nodes, one service, tasks in any state; plans read as short lines.

use std::sync::Arc;
use std::time::Duration;

use store::{Action, Object, Plan, PlanContext, Planner, State, Transaction};
use types::id::IdSource;
use types::node::{Availability, NodeDescription, NodeState, NodeStatus};
use types::service::ServiceMode;
use types::task::{Resources, RestartCondition};
use types::{
    Meta, Node, NodeId, NodeRole, NodeSpec, Service, ServiceId, ServiceSpec, Task, TaskId,
    TaskSpec, TaskState, TaskStatus, Timestamp, Version,
};

pub(crate) const SERVICE: ServiceId = ServiceId::MAX;

/// When tests begin, in seconds.
pub(crate) const START: u64 = 1000;

/// A state under construction, and the time it is there.
pub(crate) struct Fixture {
    pub(crate) state: State,
    pub(crate) now: Timestamp,
    tasks_made: u128,
}

/// Ids far from those tests give.
struct FreshIds(u128);

impl IdSource for FreshIds {
    fn bytes(&mut self) -> [u8; 16] {
        self.0 += 1;
        self.0.to_be_bytes()
    }
}

/// Seconds after the start.
pub(crate) fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(START + secs)
}

/// A task to be put into the fixture; times are seconds after the start.
#[derive(Clone)]
pub(crate) struct TaskOf {
    slot: u64,
    node: Option<u128>,
    state: TaskState,
    desired: TaskState,
    made: u64,
    reached: u64,
    version: Option<u64>,
    spec: Option<TaskSpec>,
}

/// A task of this slot that runs on node 1.
pub(crate) fn slot(slot: u64) -> TaskOf {
    TaskOf {
        slot,
        node: Some(1),
        state: TaskState::Running,
        desired: TaskState::Running,
        made: 0,
        reached: 0,
        version: None,
        spec: None,
    }
}

impl TaskOf {
    pub(crate) fn on(self, node: u128) -> Self {
        Self {
            node: Some(node),
            ..self
        }
    }
    pub(crate) fn unassigned(self) -> Self {
        Self {
            node: None,
            state: TaskState::Pending,
            ..self
        }
    }
    pub(crate) fn is(self, state: TaskState) -> Self {
        Self { state, ..self }
    }
    pub(crate) fn wanted(self, desired: TaskState) -> Self {
        Self { desired, ..self }
    }
    pub(crate) fn made(self, made: u64) -> Self {
        Self {
            made,
            reached: self.reached.max(made),
            ..self
        }
    }
    /// When it came to its state.
    pub(crate) fn reached(self, reached: u64) -> Self {
        Self { reached, ..self }
    }
    /// Made from an earlier spec, with another image.
    pub(crate) fn outdated(self) -> Self {
        let mut spec = TaskSpec::default();
        spec.container.image = "old".into();
        Self {
            version: Some(1),
            spec: Some(spec),
            ..self
        }
    }
    pub(crate) fn spec(self, spec: TaskSpec) -> Self {
        Self {
            spec: Some(spec),
            ..self
        }
    }
    pub(crate) fn version(self, version: u64) -> Self {
        Self {
            version: Some(version),
            ..self
        }
    }
}

impl Fixture {
    /// A service with this many replicas and `nodes` ready nodes, numbered from 1.
    pub(crate) fn replicated(replicas: u64, nodes: u128) -> Self {
        Self::of(ServiceMode::Replicated { replicas }, nodes)
    }

    pub(crate) fn global(nodes: u128) -> Self {
        Self::of(ServiceMode::Global {}, nodes)
    }

    fn of(mode: ServiceMode, nodes: u128) -> Self {
        let mut fixture = Self {
            state: State::default(),
            now: at(0),
            tasks_made: 0,
        };
        for number in 1..=nodes {
            fixture.apply(at(0), vec![Action::Create(node(number).into())]);
        }
        let spec = ServiceSpec {
            name: "web".into(),
            mode,
            ..ServiceSpec::default()
        };
        let service = Service {
            id: SERVICE,
            meta: Meta::default(),
            spec,
            spec_version: Version::default(),
            previous_spec: None,
            update_status: None,
            endpoint: types::network::Endpoint::default(),
        };
        // A version far from those of tasks made earlier.
        let index = Version { index: 100 };
        let transaction = Transaction {
            now: at(0),
            actions: vec![Action::Create(service.into())],
        };
        fixture.state.apply(index, &transaction).unwrap();
        fixture
    }

    pub(crate) fn apply(&mut self, now: Timestamp, actions: Vec<Action>) -> Vec<store::Change> {
        let version = Version {
            index: self.state.version().index + 1,
        };
        self.state
            .apply(version, &Transaction { now, actions })
            .unwrap()
    }

    /// Sets the clock, seconds after the start.
    pub(crate) fn now(mut self, secs: u64) -> Self {
        self.now = at(secs);
        self
    }

    /// Moves the clock on.
    pub(crate) fn later(mut self, by: Duration) -> Self {
        self.now = self.now.plus(by);
        self
    }

    /// Edits the service without making it a new version of its spec for tasks put in later.
    pub(crate) fn service(mut self, edit: impl FnOnce(&mut Service)) -> Self {
        let mut service = Service::clone(self.state.service(SERVICE).unwrap());
        edit(&mut service);
        self.apply(at(0), vec![Action::Update(service.into())]);
        self
    }

    pub(crate) fn policy(
        self,
        condition: RestartCondition,
        delay: u64,
        max_attempts: u64,
        window: u64,
    ) -> Self {
        self.service(|service| {
            let policy = &mut Arc::make_mut(&mut service.spec.task).restart_policy;
            policy.condition = condition;
            policy.delay = Duration::from_secs(delay);
            policy.max_attempts = max_attempts;
            policy.window = Duration::from_secs(window);
        })
    }

    pub(crate) fn node(mut self, number: u128, edit: impl FnOnce(&mut Node)) -> Self {
        let mut node = Node::clone(self.state.node(NodeId::from_number(number)).unwrap());
        edit(&mut node);
        self.apply(at(0), vec![Action::Update(node.into())]);
        self
    }

    pub(crate) fn down(self, number: u128) -> Self {
        self.node(number, |node| node.status.state = NodeState::Down)
    }

    pub(crate) fn drained(self, number: u128) -> Self {
        self.node(number, |node| node.spec.availability = Availability::Drain)
    }

    /// Puts a task in; tasks are numbered from 1 in this order.
    pub(crate) fn task(mut self, of: TaskOf) -> Self {
        self.tasks_made += 1;
        let service = self.state.service(SERVICE).unwrap();
        let spec_version = of
            .version
            .map_or(service.spec_version, |index| Version { index });
        let spec = of.spec.map_or_else(|| service.spec.task.clone(), Arc::new);
        let task = Task {
            id: TaskId::from_number(self.tasks_made),
            meta: Meta::default(),
            service_id: SERVICE,
            service_name: "web".into(),
            slot: of.slot,
            node_id: of.node.map(NodeId::from_number),
            spec,
            spec_version,
            status: TaskStatus {
                state: of.state,
                timestamp: at(of.reached),
                applied_at: at(of.reached),
                ..TaskStatus::default()
            },
            desired_state: of.desired,
            attachments: vec![],
            host_ports: vec![],
        };
        self.apply(at(of.made), vec![Action::Create(task.into())]);
        self
    }

    pub(crate) fn task_id(number: u128) -> TaskId {
        TaskId::from_number(number)
    }

    pub(crate) fn plan_with(&self, planner: &mut dyn Planner) -> Plan {
        let mut ids = FreshIds(1 << 64);
        planner.plan(&mut PlanContext {
            state: &self.state,
            now: self.now,
            ids: &mut ids,
        })
    }

    /// What a planner that knows nothing decides, as lines; and when it wants to be woken.
    pub(crate) fn plan(&self, mut planner: impl Planner) -> (Vec<String>, Option<u64>) {
        planner.resync(&self.state);
        let plan = self.plan_with(&mut planner);
        let lines = plan.transactions.iter().flatten().map(line).collect();
        (lines, plan.wake_at.map(|at| at.0 / 1_000_000_000 - START))
    }

    /// What the orchestrator decides, without the wake-up time.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.plan(crate::Orchestrator::default()).0
    }
}

fn line(action: &Action) -> String {
    let short = |id: TaskId| id.as_str().trim_start_matches('0').to_owned();
    match action {
        Action::Create(Object::Task(task)) => {
            let place = match (task.slot, task.node_id) {
                (0, Some(node)) => format!("n{}", node.as_str().trim_start_matches('0')),
                (slot, _) => slot.to_string(),
            };
            let image = &task.spec.container.image;
            let image = if image.is_empty() {
                String::new()
            } else {
                format!(" {image}")
            };
            format!("create {place}{image} {}", task.desired_state)
        }
        Action::TaskDesired { task, desired } => format!("{} {desired}", short(*task)),
        Action::TaskStatus { task, status } => format!("{} is {}", short(*task), status.state),
        Action::Remove {
            id: store::ObjectId::Task(id),
            ..
        } => format!("delete {}", short(*id)),
        Action::Update(Object::Service(service)) => {
            let update = service
                .update_status
                .as_ref()
                .expect("only statuses are written");
            format!("{:?}: {}", update.state, update.message)
        }
        other => format!("{other:?}"),
    }
}

fn node(number: u128) -> Node {
    Node {
        id: NodeId::from_number(number),
        meta: Meta::default(),
        spec: NodeSpec::default(),
        role: NodeRole::Worker,
        description: Some(NodeDescription {
            hostname: format!("n{number}"),
            resources: Resources {
                nano_cpus: 4_000_000_000,
                memory_bytes: 4 << 30,
            },
            ..NodeDescription::default()
        }),
        status: NodeStatus {
            state: NodeState::Ready,
            ..NodeStatus::default()
        },
        manager_status: None,
        network_index: 0,
        certificate: types::node::NodeCertificate::default(),
    }
}
