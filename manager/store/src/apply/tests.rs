//! What each action checks, merges and leaves alone.

use std::sync::Arc;

use types::node::ManagerStatus;
use types::{Node, NodeRole, NodeSpec, Service, ServiceId, ServiceSpec, TaskSpec};

use super::*;

const NOW: Timestamp = Timestamp(1_000);

struct Fixture {
    state: State,
    index: u64,
}

impl Fixture {
    fn new() -> Self {
        Self {
            state: State::default(),
            index: 0,
        }
    }

    fn apply(&mut self, actions: Vec<Action>) -> Result<Vec<Change>, Refusal> {
        self.index += 1;
        let version = Version { index: self.index };
        self.state
            .apply(version, &Transaction { now: NOW, actions })
    }

    fn reason(&mut self, actions: Vec<Action>) -> RefusalReason {
        self.apply(actions).expect_err("should be refused").reason
    }
}

fn service(id: u128, name: &str) -> Service {
    Service {
        id: ServiceId::from_number(id),
        meta: Meta::default(),
        spec: ServiceSpec {
            name: name.into(),
            ..ServiceSpec::default()
        },
        spec_version: Version::default(),
        previous_spec: None,
        update_status: None,
        endpoint: types::network::Endpoint::default(),
    }
}

fn task(id: u128, service: u128, state: TaskState) -> Task {
    Task {
        id: TaskId::from_number(id),
        meta: Meta::default(),
        service_id: ServiceId::from_number(service),
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

fn node(id: u128, state: NodeState, availability: Availability) -> Node {
    Node {
        id: NodeId::from_number(id),
        meta: Meta::default(),
        spec: NodeSpec {
            availability,
            ..NodeSpec::default()
        },
        role: NodeRole::Worker,
        description: None,
        status: NodeStatus {
            state,
            ..NodeStatus::default()
        },
        manager_status: None::<ManagerStatus>,
        network_index: 0,
        certificate: types::node::NodeCertificate::default(),
    }
}

fn status(state: TaskState) -> TaskStatus {
    TaskStatus {
        state,
        message: state.to_string(),
        ..TaskStatus::default()
    }
}

#[test]
fn creating_sets_versions_and_refuses_what_is_taken() {
    let mut f = Fixture::new();
    f.apply(vec![Action::Create(service(1, "web").into())])
        .unwrap();
    let stored = f
        .state
        .service_by_name("Web")
        .expect("names ignore case")
        .clone();
    assert_eq!(stored.meta.version.index, 1);
    assert_eq!(stored.meta.created_at, NOW);
    assert_eq!(stored.spec_version.index, 1);

    let same_id = vec![Action::Create(service(1, "other").into())];
    assert_eq!(f.reason(same_id), RefusalReason::Exists);
    let same_name = vec![Action::Create(service(2, "WEB").into())];
    assert_eq!(f.reason(same_name), RefusalReason::NameTaken);
}

#[test]
fn a_refused_transaction_changes_nothing_but_the_version() {
    let mut f = Fixture::new();
    let actions = vec![
        Action::Create(service(1, "web").into()),
        Action::Remove {
            id: ObjectId::Task(TaskId::from_number(5)),
            version: None,
        },
    ];
    let refusal = f.apply(actions).unwrap_err();
    assert_eq!(
        (refusal.action, refusal.reason),
        (1, RefusalReason::NotFound)
    );
    assert_eq!(f.state.services().count(), 0);
    assert_eq!(f.state.version().index, 1);
}

#[test]
fn an_update_needs_the_version_it_read() {
    let mut f = Fixture::new();
    f.apply(vec![Action::Create(service(1, "web").into())])
        .unwrap();
    let read = Service::clone(f.state.service(ServiceId::from_number(1)).unwrap());
    let mut changed = read.clone();
    changed.spec.labels.insert("a".into(), "b".into());

    f.apply(vec![Action::Update(changed.clone().into())])
        .unwrap();
    assert_eq!(
        f.reason(vec![Action::Update(changed.into())]),
        RefusalReason::Stale
    );
    let stale = Some(read.meta.version);
    let id = ObjectId::Service(read.id);
    assert_eq!(
        f.reason(vec![Action::Remove { id, version: stale }]),
        RefusalReason::Stale
    );
    f.apply(vec![Action::Remove { id, version: None }]).unwrap();
    assert!(f.state.service_by_name("web").is_none());
    assert_eq!(
        f.reason(vec![Action::Update(read.into())]),
        RefusalReason::NotFound
    );
}

#[test]
fn the_spec_version_moves_only_with_the_spec() {
    let mut f = Fixture::new();
    f.apply(vec![Action::Create(service(1, "web").into())])
        .unwrap();
    let stored = |f: &Fixture| Service::clone(f.state.service(ServiceId::from_number(1)).unwrap());

    let mut progress = stored(&f);
    progress.update_status = Some(types::update::UpdateStatus::default());
    f.apply(vec![Action::Update(progress.into())]).unwrap();
    assert_eq!(stored(&f).spec_version.index, 1);

    let mut renamed = stored(&f);
    renamed.spec.labels.insert("a".into(), "b".into());
    f.apply(vec![Action::Update(renamed.into())]).unwrap();
    assert_eq!(stored(&f).spec_version.index, 3);
    assert_eq!(stored(&f).meta.created_at, NOW);
}

#[test]
fn renaming_frees_the_old_name_and_respects_others() {
    let mut f = Fixture::new();
    let actions = vec![
        Action::Create(service(1, "a").into()),
        Action::Create(service(2, "b").into()),
    ];
    f.apply(actions).unwrap();
    let mut a = Service::clone(f.state.service_by_name("a").unwrap());
    a.spec.name = "b".into();
    assert_eq!(
        f.reason(vec![Action::Update(a.clone().into())]),
        RefusalReason::NameTaken
    );
    a.spec.name = "c".into();
    f.apply(vec![Action::Update(a.into())]).unwrap();
    assert!(f.state.service_by_name("a").is_none());
    assert!(f.state.service_by_name("c").is_some());
}

#[test]
fn task_states_only_grow() {
    let mut f = Fixture::new();
    f.apply(vec![Action::Create(task(7, 1, TaskState::New).into())])
        .unwrap();
    let id = TaskId::from_number(7);
    let report = |state| {
        vec![Action::TaskStatus {
            task: id,
            status: status(state),
        }]
    };
    f.apply(report(TaskState::Running)).unwrap();
    assert!(f.apply(report(TaskState::Starting)).unwrap().is_empty());
    assert_eq!(f.state.task(id).unwrap().status.state, TaskState::Running);
    assert_eq!(f.state.task(id).unwrap().status.applied_at, NOW);

    let desire = |desired| vec![Action::TaskDesired { task: id, desired }];
    f.apply(desire(TaskState::Shutdown)).unwrap();
    assert!(f.apply(desire(TaskState::Running)).unwrap().is_empty());
    assert_eq!(f.state.task(id).unwrap().desired_state, TaskState::Shutdown);

    let unknown = Action::TaskDesired {
        task: TaskId::MAX,
        desired: TaskState::Remove,
    };
    assert!(
        f.apply(vec![unknown]).unwrap().is_empty(),
        "reports on unknown tasks drop out"
    );
}

#[test]
fn assignment_holds_only_while_task_and_node_fit() {
    use Availability::{Active, Drain};
    // (task state, preassigned node, node state, availability, assigned)
    let table = [
        (TaskState::Pending, None, NodeState::Ready, Active, true),
        (TaskState::Pending, Some(1), NodeState::Ready, Active, true),
        (TaskState::Pending, Some(2), NodeState::Ready, Active, false),
        (TaskState::New, None, NodeState::Ready, Active, false),
        (TaskState::Running, None, NodeState::Ready, Active, false),
        (TaskState::Pending, None, NodeState::Down, Active, false),
        (TaskState::Pending, None, NodeState::Ready, Drain, false),
    ];
    for (state, preassigned, node_state, availability, assigned) in table {
        let mut f = Fixture::new();
        let mut waiting = task(7, 1, state);
        waiting.node_id = preassigned.map(NodeId::from_number);
        let actions = vec![
            Action::Create(node(1, node_state, availability).into()),
            Action::Create(waiting.into()),
        ];
        f.apply(actions).unwrap();
        let assign = Action::TaskAssign {
            task: TaskId::from_number(7),
            node: NodeId::from_number(1),
            status: status(TaskState::Assigned),
        };
        let changes = f.apply(vec![assign]).unwrap();
        assert_eq!(
            !changes.is_empty(),
            assigned,
            "{state} {preassigned:?} {node_state}"
        );
        let on_node = f.state.tasks_on_node(NodeId::from_number(1)).count();
        assert_eq!(on_node, usize::from(assigned || preassigned == Some(1)));
    }
}

#[test]
fn tasks_of_a_service_come_slot_by_slot() {
    let mut f = Fixture::new();
    let mut second = task(1, 1, TaskState::New);
    second.slot = 2;
    let actions = vec![
        Action::Create(second.into()),
        Action::Create(task(2, 1, TaskState::New).into()),
        Action::Create(task(3, 9, TaskState::New).into()),
    ];
    f.apply(actions).unwrap();
    let slots: Vec<_> = f
        .state
        .tasks_of_service(ServiceId::from_number(1))
        .map(|t| (t.slot, t.id))
        .collect();
    assert_eq!(
        slots,
        [(1, TaskId::from_number(2)), (2, TaskId::from_number(1))]
    );
    assert_eq!(
        f.state.tasks_in_slot(ServiceId::from_number(1), 2).count(),
        1
    );
}

#[test]
fn tasks_share_their_services_spec() {
    let mut f = Fixture::new();
    let actions = vec![
        Action::Create(service(1, "web").into()),
        Action::Create(task(1, 1, TaskState::New).into()),
    ];
    f.apply(actions).unwrap();
    let service = f.state.service(ServiceId::from_number(1)).unwrap();
    let task = f.state.task(TaskId::from_number(1)).unwrap();
    assert!(Arc::ptr_eq(&service.spec.task, &task.spec));
}

mod content;
