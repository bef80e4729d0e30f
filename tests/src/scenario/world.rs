//! A cluster without network, disk or clock: the store, every planner, simulated workers.

use std::sync::Arc;
use std::time::Duration;

use allocator::Allocator;
use scheduler::Scheduler;
use store::{
    Action, Change, Object, ObjectId, PlanContext, Planner, Refusal, State,
    TRANSACTION_ACTIONS_MAX, Transaction,
};
use types::id::IdSource;
use types::node::{NodeDescription, NodeState, NodeStatus};
use types::task::{Platform, Resources};
use types::update::{UpdateState, UpdateStatus};
use types::{
    ClusterSpec, Meta, Node, NodeId, NodeRole, NodeSpec, Service, ServiceId, ServiceSpec, TaskId,
    TaskState, TaskStatus, Timestamp, Version,
};

use super::audit::Audit;
use super::workers::Workers;

/// Rounds of planning and working at one moment before the world counts as restless.
const ROUNDS_MAX: usize = 20_000;

/// Where the clock starts: long after zero, which means "never".
const EPOCH: Timestamp = Timestamp(1_000_000_000_000_000_000);

/// Ids in the order in which they are asked for.
#[derive(Debug, Default)]
struct CountedIds(u128);

impl IdSource for CountedIds {
    fn bytes(&mut self) -> [u8; 16] {
        self.0 += 1;
        self.0.to_be_bytes()
    }
}

/// The whole control plane in virtual time.
pub struct World {
    state: State,
    now: Timestamp,
    ids: CountedIds,
    planners: Vec<Box<dyn Planner>>,
    workers: Workers,
    nodes_made: u128,
    /// Transactions planners proposed.
    pub transactions: usize,
    /// Real time the planners took, without the store and the workers.
    pub planning: Duration,
}

/// What is asked of a new node.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Spec of the node.
    pub spec: NodeSpec,
    /// Processors and memory.
    pub resources: Resources,
}

impl Default for Machine {
    fn default() -> Self {
        let resources = Resources {
            nano_cpus: 4_000_000_000,
            memory_bytes: 8 << 30,
        };
        Self {
            spec: NodeSpec::default(),
            resources,
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self {
            state: State::default(),
            now: EPOCH,
            ids: CountedIds::default(),
            planners: planners(),
            workers: Workers::default(),
            nodes_made: 0,
            transactions: 0,
            planning: Duration::ZERO,
        }
    }
}

fn planners() -> Vec<Box<dyn Planner>> {
    orchestrator::planners(
        Box::new(Allocator::default()),
        Box::new(Scheduler::default()),
    )
}

impl World {
    /// Everything stored.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The simulated machines.
    #[must_use]
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now.since(EPOCH)
    }

    /// Lets everything happen that needs no time.
    ///
    /// # Panics
    /// When the planners do not come to rest, or break a rule.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let planned = self.plan_once();
            let reports = self.workers.step(&self.state, self.now);
            let reported = !reports.is_empty();
            for part in reports.chunks(TRANSACTION_ACTIONS_MAX) {
                self.commit(part.to_vec())
                    .expect("reports are never refused");
            }
            if !planned && !reported {
                return;
            }
        }
        panic!("no rest after {ROUNDS_MAX} rounds at {:?}", self.elapsed());
    }

    /// Lets time pass, and everything happen that is due meanwhile.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now.plus(by);
        loop {
            self.settle();
            let next = self.next_event().filter(|at| *at <= end);
            match next {
                Some(at) => self.now = at,
                None if self.now < end => self.now = end,
                None => return,
            }
        }
    }

    fn next_event(&mut self) -> Option<Timestamp> {
        // At rest, planning again only tells when to wake up.
        let wakes: Vec<_> = (0..self.planners.len())
            .filter_map(|index| {
                let plan = self.plan(index);
                assert!(
                    plan.transactions.is_empty(),
                    "a settled planner has nothing to change"
                );
                plan.wake_at
            })
            .collect();
        let due = self.workers.next_event(self.now);
        wakes
            .into_iter()
            .chain(due)
            .filter(|at| *at > self.now)
            .min()
    }

    fn plan(&mut self, index: usize) -> store::Plan {
        let mut context = PlanContext {
            state: &self.state,
            now: self.now,
            ids: &mut self.ids,
        };
        let start = std::time::Instant::now();
        let plan = self.planners[index].plan(&mut context);
        self.planning += start.elapsed();
        plan
    }

    /// One round of every planner; false when none wanted a change.
    fn plan_once(&mut self) -> bool {
        let mut changed = false;
        for index in 0..self.planners.len() {
            let plan = self.plan(index);
            let name = self.planners[index].name();
            let mut refused = false;
            for actions in plan.transactions {
                changed = true;
                self.transactions += 1;
                Audit::check_plan(name, &actions, &self.state);
                refused |= self.commit(actions).is_err();
            }
            if refused {
                self.planners[index].resync(&self.state);
            }
        }
        changed
    }

    /// Applies a transaction and tells every planner.
    ///
    /// # Errors
    /// When the store refuses it.
    pub fn commit(&mut self, actions: Vec<Action>) -> Result<(), Refusal> {
        let version = Version {
            index: self.state.version().index + 1,
        };
        let transaction = Transaction {
            now: self.now,
            actions,
        };
        let changes = self.state.apply(version, &transaction)?;
        for change in &changes {
            Audit::check_change(change, &self.state);
            self.observe(change);
        }
        Ok(())
    }

    fn observe(&mut self, change: &Change) {
        let start = std::time::Instant::now();
        for planner in &mut self.planners {
            planner.observe(change);
        }
        self.planning += start.elapsed();
    }

    /// Another manager leads: all that was only in memory is lost.
    pub fn change_leader(&mut self) {
        self.planners = planners();
        for planner in &mut self.planners {
            planner.resync(&self.state);
        }
    }

    /// For one moment two managers believe to lead, and the decisions of both are committed.
    pub fn split_leadership(&mut self) {
        let mut others = planners();
        let mut decisions = Vec::new();
        for planner in &mut others {
            planner.resync(&self.state);
            let mut context = PlanContext {
                state: &self.state,
                now: self.now,
                ids: &mut self.ids,
            };
            decisions.append(&mut planner.plan(&mut context).transactions);
        }
        self.plan_once();
        for actions in decisions {
            // What the other decision has overtaken is refused, as it should be.
            drop(self.commit(actions));
        }
    }

    fn must(&mut self, actions: Vec<Action>) {
        self.commit(actions)
            .expect("what a scenario writes is up to date");
    }

    /// A new machine joins, ready for tasks; its number names it.
    pub fn add_node(&mut self, machine: &Machine) -> NodeId {
        self.nodes_made += 1;
        let id = NodeId::from_number(self.nodes_made);
        let octet = u8::try_from(self.nodes_made).unwrap_or(u8::MAX);
        let node = Node {
            id,
            meta: Meta::default(),
            spec: machine.spec.clone(),
            role: NodeRole::Worker,
            description: Some(NodeDescription {
                hostname: format!("n{}", self.nodes_made),
                platform: Platform {
                    architecture: "x86_64".into(),
                    os: "linux".into(),
                },
                resources: machine.resources,
                ..NodeDescription::default()
            }),
            status: NodeStatus {
                state: NodeState::Ready,
                message: String::new(),
                addr: Some([10, 0, 0, octet].into()),
            },
            manager_status: None,
            network_index: 0,
            certificate: types::node::NodeCertificate::default(),
        };
        self.must(vec![Action::Create(node.into())]);
        self.workers.add(id);
        id
    }

    /// Cuts a node off (DOWN) or connects it again (READY).
    pub fn set_node_state(&mut self, id: NodeId, state: NodeState) {
        let Some(node) = self.state.node(id) else {
            return;
        };
        let status = NodeStatus {
            state,
            ..node.status.clone()
        };
        self.workers.set_reachable(id, state == NodeState::Ready);
        self.must(vec![Action::NodeStatus {
            node: id,
            status,
            description: None,
        }]);
    }

    /// Changes a node as a user or its agent would.
    pub fn edit_node(&mut self, id: NodeId, edit: impl FnOnce(&mut Node)) {
        let Some(node) = self.state.node(id) else {
            return;
        };
        let mut node = Node::clone(node);
        edit(&mut node);
        self.must(vec![Action::Update(node.into())]);
    }

    /// Removes a node for good: what ran there is orphaned (S19.04).
    pub fn remove_node(&mut self, id: NodeId) {
        let live = self
            .state
            .tasks_on_node(id)
            .filter(|task| !task.status.state.is_terminal());
        let mut actions: Vec<_> = live
            .map(|task| Action::TaskStatus {
                task: task.id,
                status: TaskStatus {
                    state: TaskState::Orphaned,
                    ..task.status.clone()
                },
            })
            .collect();
        actions.push(Action::Remove {
            id: ObjectId::Node(id),
            version: None,
        });
        self.workers.remove(id);
        self.must(actions);
    }

    /// Declares a service.
    ///
    /// # Errors
    /// When its name is taken.
    pub fn create_service(&mut self, spec: ServiceSpec) -> Result<ServiceId, Refusal> {
        let id = ServiceId::generate(&mut self.ids);
        let service = Service {
            id,
            meta: Meta::default(),
            spec,
            spec_version: Version::default(),
            previous_spec: None,
            update_status: None,
            endpoint: types::network::Endpoint::default(),
        };
        self.commit(vec![Action::Create(service.into())])?;
        Ok(id)
    }

    /// Changes the spec of a service, as an update by a user does (S7.02).
    pub fn update_service(&mut self, id: ServiceId, edit: impl FnOnce(&mut ServiceSpec)) {
        let Some(service) = self.state.service(id) else {
            return;
        };
        let mut service = Service::clone(service);
        service.previous_spec = Some(service.spec.clone());
        edit(&mut service.spec);
        service.update_status = None;
        self.must(vec![Action::Update(service.into())]);
    }

    /// Goes back to the previous spec (S7.18); false when there is none.
    pub fn roll_back_service(&mut self, id: ServiceId) -> bool {
        let Some(service) = self.state.service(id) else {
            return false;
        };
        let mut service = Service::clone(service);
        let Some(previous) = service.previous_spec.take() else {
            return false;
        };
        service.previous_spec = Some(std::mem::replace(&mut service.spec, previous));
        service.update_status = Some(UpdateStatus {
            state: UpdateState::RollbackStarted,
            started_at: self.now,
            completed_at: Timestamp::default(),
            message: "manually requested rollback".to_owned(),
        });
        self.must(vec![Action::Update(service.into())]);
        true
    }

    /// Deletes a service.
    pub fn remove_service(&mut self, id: ServiceId) {
        self.must(vec![Action::Remove {
            id: ObjectId::Service(id),
            version: None,
        }]);
    }

    /// Sets how many tasks are kept per slot.
    pub fn set_history_limit(&mut self, limit: i64) {
        let spec = ClusterSpec {
            task_history_limit: limit,
            ..ClusterSpec::default()
        };
        let action = match self.state.cluster() {
            Some(cluster) => {
                let mut cluster = types::Cluster::clone(cluster);
                cluster.spec = spec;
                Action::Update(Object::Cluster(Arc::new(cluster)))
            }
            None => Action::Create(Object::Cluster(Arc::new(types::Cluster {
                id: types::ClusterId::from_number(1),
                meta: Meta::default(),
                spec,
                root_ca: types::cluster::RootCaState {
                    cert_pem: String::new(),
                    key_pem: String::new(),
                    worker_token: String::new(),
                    manager_token: String::new(),
                    ..types::cluster::RootCaState::default()
                },
                gossip_keys: vec![],
                gossip_keys_at: types::Timestamp::default(),
                lock: types::cluster::ClusterLock::default(),
                content_key: types::Payload::default(),
                revoked: std::collections::BTreeMap::new(),
                access: types::access::Access::default(),
            }))),
        };
        self.must(vec![action]);
    }

    /// Ends a running container; false when it does not run.
    pub fn end_task(&mut self, task: TaskId, state: TaskState, err: &str) -> bool {
        self.workers.end(task, state, err, self.now)
    }
}
