//! A whole swarm in one process: real daemons over real gRPC, mutual TLS and Raft on the loopback,
//! with simulated tasks.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hyper_util::rt::TokioIo;
use proto::control::control_client::ControlClient;
use proto::control::{
    CreateServiceRequest, GetClusterRequest, GetNodeRequest, GetServiceRequest, ListNodesRequest,
    ListTasksRequest, NodeView, UpdateNodeRequest, UpdateServiceRequest,
};
use proto::objects;
use swarmd::{Daemon, ExecutorChoice, Init, Join, Options, RaftTiming};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use types::node::{Availability, NodeState};
use types::service::ServiceMode;
use types::{ClusterSpec, ContainerSpec, NodeId, NodeRole, ServiceSpec, Task, TaskSpec, TaskState};

use crate::sim_executor::SimExecutor;

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at a condition.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// Any address of this machine, any free port.
const ANYWHERE: &str = "127.0.0.1:0";

/// How large a swarm is to be.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    managers: usize,
    workers: usize,
    spec: ClusterSpec,
    timing: RaftTiming,
}

/// A running swarm. The managers come first, then the workers.
pub struct Cluster {
    /// Every machine, also those that left.
    pub machines: Vec<Machine>,
    dir: TempDir,
    timing: RaftTiming,
}

/// One machine: a directory, simulated containers, and a daemon while it is switched on.
pub struct Machine {
    /// Its host name.
    pub name: String,
    /// Its containers.
    pub executor: SimExecutor,
    /// Its daemon.
    pub daemon: Option<Daemon>,
    dir: PathBuf,
    timing: RaftTiming,
}

impl Cluster {
    /// One of no size yet.
    #[expect(
        clippy::new_ret_no_self,
        reason = "reads as a sentence where it is used"
    )]
    #[must_use]
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Adds a machine that is in no swarm yet.
    ///
    /// # Errors
    /// When its daemon does not start.
    pub async fn add_machine(&mut self, name: &str) -> Result<usize> {
        let mut machine = Machine {
            name: name.to_owned(),
            executor: SimExecutor::new(name),
            daemon: None,
            dir: self.dir.path().join(name),
            timing: self.timing,
        };
        machine.power_on().await?;
        self.machines.push(machine);
        Ok(self.machines.len() - 1)
    }

    /// Adds a machine and has it join.
    ///
    /// # Errors
    /// When it is not let in.
    pub async fn join(&mut self, name: &str, role: NodeRole) -> Result<usize> {
        let remote = self.a_manager().await?.advertise_addr()?;
        let token = self.token(role).await?;
        let index = self.add_machine(name).await?;
        self.machines[index].join(&token, &remote).await?;
        Ok(index)
    }

    /// A machine that answers as a manager.
    ///
    /// # Errors
    /// When there is none.
    pub async fn a_manager(&self) -> Result<&Machine> {
        for machine in &self.machines {
            if machine.daemon.is_some() && machine.self_view().await.is_ok() {
                return Ok(machine);
            }
        }
        bail!("no manager answers")
    }

    /// The machine that leads.
    ///
    /// # Errors
    /// When none does in time.
    pub async fn leader(&self) -> Result<usize> {
        eventually("a leader", async || {
            for (index, machine) in self.machines.iter().enumerate() {
                if machine.daemon.is_some()
                    && machine.self_view().await.is_ok_and(|view| view.leader)
                {
                    return Ok(index);
                }
            }
            bail!("no manager leads")
        })
        .await
    }

    /// A join token.
    ///
    /// # Errors
    /// When no manager answers.
    pub async fn token(&self, role: NodeRole) -> Result<String> {
        let mut control = self.a_manager().await?.control().await?;
        let cluster = control
            .get_cluster(GetClusterRequest {})
            .await?
            .into_inner()
            .cluster;
        let cluster = cluster.context("a cluster")?;
        Ok(match role {
            NodeRole::Worker => cluster.worker_token,
            NodeRole::Manager => cluster.manager_token,
        })
    }

    /// Waits until the managers see exactly these many nodes ready.
    ///
    /// # Errors
    /// When that does not come to be.
    pub async fn ready(&self, count: usize) -> Result<()> {
        eventually("nodes to be ready", async || {
            let nodes = self.a_manager().await?.nodes().await?;
            let ready = nodes
                .iter()
                .filter(|it| state(it) == NodeState::Ready)
                .count();
            if ready == count {
                Ok(())
            } else {
                bail!("{ready} of {count} are ready")
            }
        })
        .await
    }

    /// Waits until a service has this many tasks running and no other that should run.
    ///
    /// # Errors
    /// When that does not come to be.
    pub async fn running(&self, service: &str, count: usize) -> Result<Vec<Task>> {
        eventually("tasks to run", async || {
            let tasks = self.a_manager().await?.tasks(service).await?;
            let live: Vec<Task> = tasks.into_iter().filter(Task::is_runnable).collect();
            let running = live
                .iter()
                .filter(|it| it.status.state == TaskState::Running)
                .count();
            if running == count && live.len() == count {
                return Ok(live);
            }
            bail!("{running} of {count} run, {} should", live.len())
        })
        .await
    }

    /// Switches every machine off.
    pub async fn shutdown(mut self) {
        for machine in &mut self.machines {
            machine.power_off().await;
        }
    }
}

impl Builder {
    /// So many managers.
    #[must_use]
    pub fn managers(mut self, count: usize) -> Self {
        self.managers = count;
        self
    }

    /// And so many workers.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// With these settings.
    #[must_use]
    pub fn spec(mut self, spec: ClusterSpec) -> Self {
        self.spec = spec;
        self
    }

    /// Whose managers keep this time.
    #[must_use]
    pub fn timing(mut self, timing: RaftTiming) -> Self {
        self.timing = timing;
        self
    }

    /// Starts the machines, makes the swarm and has the others join; all are ready then.
    ///
    /// # Errors
    /// When any of it fails.
    pub async fn start(self) -> Result<Cluster> {
        let mut cluster = Cluster {
            machines: vec![],
            dir: TempDir::new()?,
            timing: self.timing,
        };
        let first = cluster.add_machine("m1").await?;
        let init = Init {
            listen_addr: ANYWHERE.to_owned(),
            spec: self.spec,
            ..Init::default()
        };
        cluster.machines[first].daemon()?.init(init).await?;
        for number in 2..=self.managers {
            cluster
                .join(&format!("m{number}"), NodeRole::Manager)
                .await?;
        }
        for number in 1..=self.workers {
            cluster
                .join(&format!("w{number}"), NodeRole::Worker)
                .await?;
        }
        cluster.ready(self.managers + self.workers).await?;
        Ok(cluster)
    }
}

impl Machine {
    /// Starts its daemon.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn power_on(&mut self) -> Result<()> {
        let daemon = Daemon::start(self.options()).await;
        self.daemon = Some(daemon.with_context(|| format!("starting {}", self.name))?);
        Ok(())
    }

    /// Stops its daemon. Its containers run on.
    pub async fn power_off(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.shutdown().await;
        }
    }

    /// How its daemon is started.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            state_dir: self.dir.join("state"),
            run_dir: self.dir.join("run"),
            socket: self.dir.join("swarmd.sock"),
            socket_gid: None,
            engine_labels: [].into(),
            executor: ExecutorChoice::Given(std::sync::Arc::new(self.executor.clone())),
            raft: self.timing,
            cert_expiry_min: Duration::from_secs(1),
            secret_drivers: [].into(),
        }
    }

    /// Joins a swarm.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn join(&self, token: &str, remote: &str) -> Result<NodeId> {
        let join = Join {
            remote_addr: remote.to_owned(),
            token: token.to_owned(),
            listen_addr: ANYWHERE.to_owned(),
            ..Join::default()
        };
        Ok(self.daemon()?.join(join).await?)
    }

    /// Its daemon.
    ///
    /// # Errors
    /// When it is switched off.
    pub fn daemon(&self) -> Result<&Daemon> {
        self.daemon
            .as_ref()
            .with_context(|| format!("{} is switched off", self.name))
    }

    /// Its node id.
    ///
    /// # Errors
    /// When it is in no swarm.
    pub fn node_id(&self) -> Result<NodeId> {
        let view = self.daemon()?.view();
        let view = view.borrow();
        Ok(view
            .member
            .as_ref()
            .with_context(|| format!("{} is in no swarm", self.name))?
            .node_id)
    }

    /// Where other nodes reach it.
    ///
    /// # Errors
    /// When it is in no swarm.
    pub fn advertise_addr(&self) -> Result<String> {
        let view = self.daemon()?.view();
        let view = view.borrow();
        let member = view
            .member
            .as_ref()
            .with_context(|| format!("{} is in no swarm", self.name))?;
        Ok(member.advertise_addr.clone())
    }

    /// A connection to its socket.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn channel(&self) -> Result<Channel> {
        let path = self.dir.join("swarmd.sock");
        let connect = tower::service_fn(move |_: tonic::transport::Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Ok(Endpoint::from_static("http://swarmd")
            .connect_with_connector(connect)
            .await?)
    }

    /// The control API through its socket.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn control(&self) -> Result<ControlClient<Channel>> {
        Ok(ControlClient::new(self.channel().await?))
    }

    /// How it sees itself as a manager.
    ///
    /// # Errors
    /// When it is none.
    pub async fn self_view(&self) -> Result<NodeView> {
        let request = GetNodeRequest {
            key: "self".to_owned(),
        };
        self.control()
            .await?
            .get_node(request)
            .await?
            .into_inner()
            .node
            .context("a node")
    }

    /// Every node, as it sees them.
    ///
    /// # Errors
    /// When it is no manager.
    pub async fn nodes(&self) -> Result<Vec<NodeView>> {
        Ok(self
            .control()
            .await?
            .list_nodes(ListNodesRequest {})
            .await?
            .into_inner()
            .nodes)
    }

    /// Every task of a service, as it sees them.
    ///
    /// # Errors
    /// When it is no manager or there is no such service.
    pub async fn tasks(&self, service: &str) -> Result<Vec<Task>> {
        let request = ListTasksRequest {
            services: vec![service.to_owned()],
            nodes: vec![],
        };
        let tasks = self
            .control()
            .await?
            .list_tasks(request)
            .await?
            .into_inner()
            .tasks;
        Ok(tasks
            .into_iter()
            .map(Task::try_from)
            .collect::<Result<_, _>>()?)
    }

    /// Declares a service of pretended containers.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn create_service(&self, name: &str, replicas: u64) -> Result<()> {
        let spec = ServiceSpec {
            name: name.to_owned(),
            task: std::sync::Arc::new(TaskSpec {
                container: ContainerSpec {
                    image: "pretended:1".to_owned(),
                    ..Default::default()
                },
                ..Default::default()
            }),
            mode: ServiceMode::Replicated { replicas },
            ..ServiceSpec::default()
        };
        let request = CreateServiceRequest {
            spec: Some((&spec).into()),
        };
        self.control().await?.create_service(request).await?;
        Ok(())
    }

    /// Changes the number of a service's tasks.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn scale(&self, name: &str, replicas: u64) -> Result<()> {
        let mut control = self.control().await?;
        let request = GetServiceRequest {
            key: name.to_owned(),
        };
        let view = control.get_service(request).await?.into_inner().service;
        let service = view.and_then(|view| view.service).context("a service")?;
        let mut spec = service.spec.context("a spec")?;
        spec.mode = Some(objects::service_spec::Mode::Replicated(
            objects::ReplicatedMode { replicas },
        ));
        let version = service.meta.context("a version")?.version;
        let id = service.id;
        let request = UpdateServiceRequest {
            id,
            version,
            spec: Some(spec),
            rollback: false,
        };
        control.update_service(request).await?;
        Ok(())
    }

    /// Changes the spec of a node.
    ///
    /// # Errors
    /// What the manager says, but for changes that came between, which are tried again.
    pub async fn update_node(
        &self,
        node: NodeId,
        change: impl Fn(&mut objects::NodeSpec),
    ) -> Result<()> {
        let mut control = self.control().await?;
        loop {
            let request = GetNodeRequest {
                key: node.to_string(),
            };
            let view = control.get_node(request).await?.into_inner().node;
            let found = view.and_then(|view| view.node).context("a node")?;
            let mut spec = found.spec.context("a spec")?;
            change(&mut spec);
            let version = found.meta.context("a version")?.version;
            let request = UpdateNodeRequest {
                id: node.to_string(),
                version,
                spec: Some(spec),
            };
            match control.update_node(request).await {
                Ok(_) => return Ok(()),
                Err(status) if status.code() == tonic::Code::Aborted => {}
                Err(status) => return Err(status.into()),
            }
        }
    }

    /// Gives a node another role.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn set_role(&self, node: NodeId, role: NodeRole) -> Result<()> {
        self.update_node(node, |spec| {
            spec.role = objects::NodeRole::from(role).into()
        })
        .await
    }

    /// Says whether a node takes tasks.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn set_availability(&self, node: NodeId, availability: Availability) -> Result<()> {
        let number = objects::Availability::from(availability).into();
        self.update_node(node, |spec| spec.availability = number)
            .await
    }
}

/// The state of a node.
#[must_use]
pub fn state(view: &NodeView) -> NodeState {
    let status = view.node.as_ref().and_then(|node| node.status.as_ref());
    status.map_or(NodeState::Unknown, |status| status.state().into())
}

/// Looks again and again until `look` succeeds.
///
/// # Errors
/// After [`PATIENCE`], with what the last look met.
pub async fn eventually<T: Debug>(what: &str, look: impl AsyncFn() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) if started.elapsed() > PATIENCE => {
                return Err(error.context(format!("waited {PATIENCE:?} for {what}")));
            }
            Err(_) => tokio::time::sleep(LOOK_PAUSE).await,
        }
    }
}
