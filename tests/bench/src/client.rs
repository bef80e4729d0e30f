//! A direct client of a daemon's socket: what is measured is the daemon, not a command line.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use harness::Node;
use hyper_util::rt::TokioIo;
use proto::control::control_client::ControlClient;
use proto::control::{
    CreateServiceRequest, GetServiceRequest, ListNodesRequest, ListTasksRequest,
    RemoveServiceRequest,
};
use proto::objects::{
    ContainerSpec, NetworkAttachmentSpec, ReplicatedMode, RestartPolicy, ServiceSpec, Task,
    TaskSpec, service_spec,
};
use tonic::transport::{Channel, Endpoint};

/// RUNNING, as on the wire.
pub(crate) const RUNNING: u32 = 512;

/// How long anything measured may take before it counts as broken.
const LIMIT: Duration = Duration::from_secs(60);

/// Time between two looks at something measured.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// A client with a runtime of its own.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    control: ControlClient<Channel>,
}

/// Connects to a daemon's socket.
pub(crate) async fn connect(socket: PathBuf) -> Result<ControlClient<Channel>> {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move {
            tokio::net::UnixStream::connect(socket)
                .await
                .map(TokioIo::new)
        }
    });
    let channel = Endpoint::from_static("http://local")
        .connect_with_connector(connector)
        .await?;
    Ok(ControlClient::new(channel))
}

/// A service of this many tasks that do nothing, restarted without delay.
pub(crate) fn spec(name: &str, replicas: u64) -> ServiceSpec {
    ServiceSpec {
        name: name.to_owned(),
        task: Some(TaskSpec {
            container: Some(ContainerSpec {
                image: "web:1".to_owned(),
                ..Default::default()
            }),
            restart_policy: Some(RestartPolicy::default()),
            ..Default::default()
        }),
        mode: Some(service_spec::Mode::Replicated(ReplicatedMode { replicas })),
        ..Default::default()
    }
}

/// The same on these networks.
pub(crate) fn on_networks(mut spec: ServiceSpec, networks: &[&str]) -> ServiceSpec {
    if let Some(task) = &mut spec.task {
        task.networks = networks
            .iter()
            .map(|network| NetworkAttachmentSpec {
                target: (*network).to_owned(),
                ..Default::default()
            })
            .collect();
    }
    spec
}

impl Client {
    /// A client of this node's daemon.
    pub(crate) fn new(node: &Node) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let control = runtime.block_on(connect(node.socket()))?;
        Ok(Self { runtime, control })
    }

    pub(crate) fn create(&mut self, spec: ServiceSpec) -> Result<()> {
        let request = CreateServiceRequest { spec: Some(spec) };
        self.runtime
            .block_on(self.control.create_service(request))?;
        Ok(())
    }

    /// Creates, giving up after `limit`.
    pub(crate) fn try_create(&mut self, spec: ServiceSpec, limit: Duration) -> Result<()> {
        let mut request = tonic::Request::new(CreateServiceRequest { spec: Some(spec) });
        request.set_timeout(limit);
        let call = self.control.create_service(request);
        self.runtime
            .block_on(async { tokio::time::timeout(limit, call).await })??;
        Ok(())
    }

    pub(crate) fn remove(&mut self, key: &str) -> Result<()> {
        let request = RemoveServiceRequest {
            key: key.to_owned(),
        };
        self.runtime
            .block_on(self.control.remove_service(request))?;
        Ok(())
    }

    /// Tasks of the service, or of all when it is empty.
    pub(crate) fn tasks(&mut self, service: &str) -> Result<Vec<Task>> {
        let services = if service.is_empty() {
            vec![]
        } else {
            vec![service.to_owned()]
        };
        let request = ListTasksRequest {
            services,
            nodes: vec![],
        };
        Ok(self
            .runtime
            .block_on(self.control.list_tasks(request))?
            .into_inner()
            .tasks)
    }

    /// Number of nodes in state READY, and ids of all others.
    pub(crate) fn nodes_ready(&mut self) -> Result<usize> {
        let answer = self
            .runtime
            .block_on(self.control.list_nodes(ListNodesRequest {}))?;
        let ready = proto::objects::NodeState::Ready;
        let state = |view: &proto::control::NodeView| {
            view.node
                .as_ref()
                .and_then(|node| node.status.as_ref())
                .map(|status| status.state())
        };
        Ok(answer
            .into_inner()
            .nodes
            .iter()
            .filter(|view| state(view) == Some(ready))
            .count())
    }

    /// Id of the node with this host name.
    pub(crate) fn node_id(&mut self, hostname: &str) -> Result<String> {
        let answer = self
            .runtime
            .block_on(self.control.list_nodes(ListNodesRequest {}))?;
        let mut nodes = answer
            .into_inner()
            .nodes
            .into_iter()
            .filter_map(|view| view.node);
        let node = nodes.find(|node| {
            node.description
                .as_ref()
                .is_some_and(|told| told.hostname == hostname)
        });
        Ok(node
            .with_context(|| format!("no node is called {hostname}"))?
            .id)
    }

    /// Waits until this many tasks of the service run.
    pub(crate) fn wait_running(&mut self, service: &str, count: u64) -> Result<()> {
        self.wait(&format!("{count} tasks of {service}"), |client| {
            let request = GetServiceRequest {
                key: service.to_owned(),
            };
            let answer = client
                .runtime
                .block_on(client.control.get_service(request))?;
            let view = answer
                .into_inner()
                .service
                .context("the service is there")?;
            Ok(view.running_tasks == count)
        })
    }

    /// Waits until `look` is true.
    pub(crate) fn wait(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<()> {
        let start = Instant::now();
        while !look(self)? {
            if start.elapsed() > LIMIT {
                bail!("waited {LIMIT:?} for {what}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}
