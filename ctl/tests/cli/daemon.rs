//! A daemon for tests: the real control API over a store of its own, with an orchestrator that
//! makes every task at once, and membership and images that only take notes.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ca::Tls;
use ca::authorize::{Authorize, Caller, Verdict};
use control_api::grpc::ControlService;
use control_api::{
    ClusterStatus, ControlApi, Error, LogBatch, LogLine, LogOptions, LogSelector, LogSource,
    LogStream, LogStreamName, Manager,
};
use futures::{Stream, StreamExt as _};
use proto::daemon as wire;
use proto::daemon::daemon_server::DaemonServer;
use proto::daemon::images_server::ImagesServer;
use store::testing::LocalProposer;
use store::{Action, Object, Propose as _, State, Store, Watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use types::cluster::RootCaState;
use types::id::RandomIds;
use types::node::{ManagerStatus, NodeDescription, NodeState, NodeStatus};
use types::service::ServiceMode;
use types::update::{UpdateState, UpdateStatus};
use types::{
    Cluster, ClusterId, ClusterSpec, Meta, Node, NodeId, NodeRole, NodeSpec, Service, Task, TaskId,
    TaskState, TaskStatus, Timestamp,
};

/// How the orchestrator of the test behaves, and what the daemon heard.
struct Shared {
    task_state: Mutex<(TaskState, String)>,
    pause: Mutex<Option<String>>,
    heard: Mutex<Vec<String>>,
    archive: Mutex<Vec<u8>>,
}

/// A daemon on a socket of its own. Ends when dropped.
pub(crate) struct Daemon {
    dir: tempfile::TempDir,
    shared: Arc<Shared>,
    // Last: the others must be there while it stops.
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let dir = tempfile::tempdir().expect("a directory can be made");
        let store = Store::new();
        let shared = Arc::new(Shared {
            task_state: Mutex::new((TaskState::Running, String::new())),
            pause: Mutex::new(None),
            heard: Mutex::new(vec![]),
            archive: Mutex::new(vec![]),
        });
        let proposer = Arc::new(LocalProposer::new(store.clone()));
        runtime.block_on(fill(&proposer));
        let logs = Arc::new(Lines(store.clone()));
        let api = ControlApi::new(store.clone(), proposer.clone(), Arc::new(Alone), logs);
        let path = dir.path().join("s");
        let notes = Notes(shared.clone());
        {
            let _inside = runtime.enter();
            let listener = ca::unix::bind(&path, None).expect("the socket is free");
            let everything = proto::RPCS.iter().map(|path| (*path, &[Caller::Local][..]));
            let nobody = Tls::new(None).expect("no identity is none that fails");
            let layer = Authorize::new(everything, nobody, Arc::new(|_| Verdict::Removed));
            let router = Server::builder()
                .layer(layer.expect("each RPC is listed once"))
                .add_service(ControlService::server(api))
                .add_service(DaemonServer::new(notes.clone()))
                .add_service(ImagesServer::new(notes));
            let access = ca::unix::Access::of_this_process(None);
            let incoming = ca::unix::incoming(listener, access, CancellationToken::new());
            let serve = router.serve_with_incoming(incoming);
            drop(runtime.handle().spawn(serve));
        }
        drop(runtime.handle().spawn(orchestrate(
            store.clone(),
            store.watch(),
            proposer,
            shared.clone(),
        )));
        Self {
            dir,
            shared,
            _runtime: runtime,
        }
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path().display())
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// The state and error of every task made from now on.
    pub(crate) fn set_tasks(&self, state: TaskState, err: &str) {
        *lock(&self.shared.task_state) = (state, err.to_owned());
    }

    /// Every update from now on is paused at once, for this reason.
    pub(crate) fn pause_updates(&self, reason: &str) {
        *lock(&self.shared.pause) = Some(reason.to_owned());
    }

    /// What was asked of membership and images, in order.
    pub(crate) fn heard(&self) -> Vec<String> {
        lock(&self.shared.heard).clone()
    }

    /// The last archive that arrived whole.
    pub(crate) fn archive(&self) -> Vec<u8> {
        lock(&self.shared.archive).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no test panics inside the daemon")
}

async fn fill(proposer: &LocalProposer) {
    let root = ca_root();
    let mut objects = vec![Object::from(root)];
    for (number, role) in [(1, NodeRole::Manager), (2, NodeRole::Worker)] {
        let manager = role == NodeRole::Manager;
        objects.push(Object::from(Node {
            id: NodeId::from_number(number),
            meta: Meta::default(),
            spec: NodeSpec {
                role,
                ..NodeSpec::default()
            },
            role,
            description: Some(NodeDescription {
                hostname: format!("n{number}"),
                ..NodeDescription::default()
            }),
            status: NodeStatus {
                state: NodeState::Ready,
                ..NodeStatus::default()
            },
            manager_status: manager.then(|| ManagerStatus {
                raft_id: 1,
                addr: "10.0.0.1:2377".to_owned(),
            }),
            network_index: 0,
            certificate: types::node::NodeCertificate::default(),
        }));
    }
    let actions = objects.into_iter().map(Action::Create).collect();
    proposer
        .propose(actions)
        .await
        .expect("an empty store takes them");
}

fn ca_root() -> Cluster {
    let root = ca::RootCa::generate(Timestamp::now()).expect("a root can be made");
    let token = || {
        let token = ca::JoinToken::generate(root.bundle()).expect("a token can be made");
        token.reveal().to_string()
    };
    Cluster {
        id: ClusterId::from_number(1),
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        root_ca: RootCaState {
            cert_pem: String::from_utf8_lossy(root.bundle().pem()).into_owned(),
            key_pem: root.key_pem().to_string(),
            worker_token: token(),
            manager_token: token(),
            ..RootCaState::default()
        },
        lock: types::cluster::ClusterLock::default(),
        revoked: std::collections::BTreeMap::new(),
        gossip_keys: vec![],
        content_key: types::Payload::default(),
        gossip_keys_at: types::Timestamp::default(),
        access: types::access::Access::default(),
    }
}

/// Replaces the tasks of every service whenever its spec changes, and as often as it has replicas.
async fn orchestrate(
    store: Store,
    mut watch: Watch,
    proposer: Arc<LocalProposer>,
    shared: Arc<Shared>,
) {
    loop {
        watch.next().await;
        let state = store.state();
        for service in state.services() {
            let actions = reconcile(&state, service, &shared);
            if !actions.is_empty() {
                // Somebody may have changed the service; the next event comes then.
                drop(proposer.propose(actions).await);
            }
        }
    }
}

fn reconcile(state: &State, service: &Service, shared: &Shared) -> Vec<Action> {
    let ServiceMode::Replicated { replicas } = service.spec.mode else {
        return vec![];
    };
    let updates = service.previous_spec.is_some() && service.update_status.is_none();
    if let (true, Some(reason)) = (updates, lock(&shared.pause).clone()) {
        let status = UpdateStatus {
            state: UpdateState::Paused,
            message: reason,
            ..UpdateStatus::default()
        };
        let service = Service {
            update_status: Some(status),
            ..service.clone()
        };
        return vec![Action::Update(service.into())];
    }
    let mut actions = vec![];
    let rolls_back = service
        .update_status
        .as_ref()
        .is_some_and(|it| it.state == UpdateState::RollbackStarted);
    if rolls_back {
        let status = UpdateStatus {
            state: UpdateState::RollbackCompleted,
            ..UpdateStatus::default()
        };
        let service = Service {
            update_status: Some(status),
            ..service.clone()
        };
        actions.push(Action::Update(service.into()));
    }
    for task in state
        .tasks_of_service(service.id)
        .filter(|task| task.is_runnable())
    {
        if task.slot > replicas {
            actions.push(Action::TaskDesired {
                task: task.id,
                desired: TaskState::Remove,
            });
        } else if task.spec != service.spec.task {
            actions.push(Action::TaskDesired {
                task: task.id,
                desired: TaskState::Shutdown,
            });
        }
    }
    for slot in 1..=replicas {
        let filled = state
            .tasks_in_slot(service.id, slot)
            .filter(|task| task.spec == service.spec.task)
            .any(|task| task.is_runnable() || task.status.state.is_terminal());
        if !filled {
            actions.push(Action::Create(Object::from(task(service, slot, shared))));
        }
    }
    actions
}

fn task(service: &Service, slot: u64, shared: &Shared) -> Task {
    let (state, err) = lock(&shared.task_state).clone();
    // A task that has ended is given up: no test asks for another.
    let desired_state = if state.is_terminal() {
        TaskState::Shutdown
    } else {
        TaskState::Running
    };
    Task {
        id: TaskId::generate(&mut RandomIds),
        meta: Meta::default(),
        service_id: service.id,
        service_name: service.spec.name.clone(),
        slot,
        node_id: (state >= TaskState::Assigned).then(|| NodeId::from_number(1)),
        spec: service.spec.task.clone(),
        spec_version: service.spec_version,
        status: TaskStatus {
            state,
            err,
            ..TaskStatus::default()
        },
        desired_state,
        attachments: vec![],
        host_ports: vec![],
    }
}

struct Alone;

impl ClusterStatus for Alone {
    fn self_id(&self) -> NodeId {
        NodeId::from_number(1)
    }
    fn leader(&self) -> Option<u64> {
        Some(1)
    }
    fn reachable(&self, _: u64) -> bool {
        true
    }
    fn managers(&self) -> Vec<Manager> {
        vec![Manager {
            raft_id: 1,
            addr: "10.0.0.1:2377".to_owned(),
        }]
    }
}

/// One line on each output of the first task, and a node that does not answer.
struct Lines(Store);

#[async_trait]
impl LogSource for Lines {
    async fn subscribe(&self, _: LogSelector, _: LogOptions) -> Result<LogStream, Error> {
        let state = self.0.state();
        let task = state
            .tasks()
            .next()
            .ok_or_else(|| Error::Logs("no task".to_owned()))?;
        let line = |stream, text: &'static str| LogLine {
            service_id: task.service_id,
            task_id: task.id,
            node_id: NodeId::from_number(1),
            timestamp: Timestamp(1_700_000_000_500_000_000),
            stream,
            line: text.into(),
        };
        let lines = vec![
            line(LogStreamName::Stdout, "hello"),
            line(LogStreamName::Stderr, "oops"),
        ];
        let batches = [
            LogBatch {
                lines,
                incomplete: vec![],
            },
            LogBatch {
                lines: vec![],
                incomplete: vec!["node n2 is not available".to_owned()],
            },
        ];
        Ok(futures::stream::iter(batches.map(Ok)).boxed())
    }
}

/// Membership and images that take notes.
#[derive(Clone)]
struct Notes(Arc<Shared>);

impl Notes {
    fn hear(&self, what: String) {
        lock(&self.0.heard).push(what);
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl wire::daemon_server::Daemon for Notes {
    async fn get_status(
        &self,
        _: Request<wire::GetStatusRequest>,
    ) -> Answer<wire::GetStatusResponse> {
        Ok(Response::new(wire::GetStatusResponse {
            state: wire::get_status_response::State::Active.into(),
            role: proto::objects::NodeRole::Manager.into(),
            advertise_addr: "10.0.0.1:2377".to_owned(),
            ..wire::GetStatusResponse::default()
        }))
    }

    async fn init(&self, request: Request<wire::InitRequest>) -> Answer<wire::InitResponse> {
        let request = request.into_inner();
        let spec = ClusterSpec::try_from(request.spec.unwrap_or_default())
            .expect("the test sends a valid spec");
        self.hear(format!(
            "init {} availability {} heartbeat {:?}",
            request.advertise_addr, request.availability, spec.heartbeat_period
        ));
        Ok(Response::new(wire::InitResponse {
            node_id: "n".to_owned(),
            advertise_addr: "10.0.0.1:2377".to_owned(),
            worker_token: "SWMTKN-1-w".to_owned(),
            unlock_key: String::new(),
        }))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Answer<wire::JoinResponse> {
        let request = request.into_inner();
        self.hear(format!("join {} {}", request.remote_addr, request.token));
        Ok(Response::new(wire::JoinResponse::default()))
    }

    async fn leave(&self, request: Request<wire::LeaveRequest>) -> Answer<wire::LeaveResponse> {
        self.hear(format!("leave force {}", request.into_inner().force));
        Ok(Response::new(wire::LeaveResponse {}))
    }

    async fn unlock(&self, request: Request<wire::UnlockRequest>) -> Answer<wire::UnlockResponse> {
        self.hear(format!("unlock {}", request.into_inner().key));
        Ok(Response::new(wire::UnlockResponse {}))
    }
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;

impl Notes {
    async fn receive(&self, mut chunks: Chunks) -> Result<(), Status> {
        let mut archive = vec![];
        while let Some(chunk) = chunks.next().await {
            archive.extend(chunk?);
        }
        *lock(&self.0.archive) = archive;
        Ok(())
    }
}

#[tonic::async_trait]
impl wire::images_server::Images for Notes {
    async fn load(
        &self,
        request: Request<Streaming<wire::LoadRequest>>,
    ) -> Answer<wire::LoadResponse> {
        let chunks = request
            .into_inner()
            .map(|message| message.map(|it| it.chunk));
        self.receive(chunks.boxed()).await?;
        self.hear("load".to_owned());
        let image = wire::load_response::Loaded {
            id: "sha256:00".to_owned(),
            names: vec!["web:1".to_owned()],
        };
        Ok(Response::new(wire::LoadResponse {
            images: vec![image],
        }))
    }

    async fn import(
        &self,
        request: Request<Streaming<wire::ImportRequest>>,
    ) -> Answer<wire::ImportResponse> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.unwrap_or_default();
        let chunks = messages.map(|message| message.map(|it| it.chunk));
        self.receive(chunks.boxed()).await?;
        self.hear(format!("import {} {:?}", first.name, first.changes));
        Ok(Response::new(wire::ImportResponse {
            id: "sha256:11".to_owned(),
        }))
    }

    async fn list(&self, _: Request<wire::ListImagesRequest>) -> Answer<wire::ListImagesResponse> {
        Ok(Response::new(wire::ListImagesResponse::default()))
    }

    async fn inspect(
        &self,
        _: Request<wire::InspectImageRequest>,
    ) -> Answer<wire::InspectImageResponse> {
        Err(Status::not_found("no such image"))
    }

    async fn remove(
        &self,
        _: Request<wire::RemoveImageRequest>,
    ) -> Answer<wire::RemoveImageResponse> {
        Err(Status::not_found("no such image"))
    }
}
