//! What this node runs while it is a manager: its member of the group, the services other nodes
//! call, and the control API.
//!
//! | owned task | ends |
//! |---|---|
//! | the listener with all services for other nodes | [`ManagerSide::stop`] |
//! | leading, while the group says so ([`manager::Member::run`]) | [`ManagerSide::stop`] |
//! | having the key file follow the cluster (`key_keeper`) | [`ManagerSide::stop`] |
//! | becoming a member, and saying so in the store (`settle`) | when that is done |

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ca::authorize::Authorize;
use ca::tls::{Admission, Connections};
use ca::{NodeFiles, Tls};
use control_api::ControlApi;
use control_api::grpc::ControlService;
use manager::{LeaderPart, Member};
use proto::ca::ca_server::CaServer;
use raft::Condition;
use signer::Signer;
use store::{Action, Event, Object, Propose};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use types::id::RandomIds;
use types::{Cluster, Meta, Network, NetworkId, NetworkSpec, Node, NodeId, Timestamp};

use crate::dialer::RaftDialer;
use crate::group::Group;
use crate::key_keeper::{self, KeyKeeper};
use crate::network_checks::NetworkChecks;
use crate::options::RaftTiming;
use crate::{Error, authorize, leader_parts, logs, settle};

/// How long open requests may go on once the services stop.
const SERVICES_STOP_TIMEOUT: Duration = Duration::from_millis(300);
/// How long handing over leadership and closing the log may take.
const MEMBER_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Pings on idle connections of other nodes, so that one that is gone without a word is noticed.
const KEEPALIVE: Duration = Duration::from_secs(3);

/// A request of a stranger: a signing request and a token have a kilobyte.
const CA_REQUEST_BYTES_MAX: usize = 64 << 10;
/// Requests one connection may have open at once. An agent has two streams, a manager a few.
const STREAMS_MAX: u32 = 128;
/// Bytes of the headers of one request: ours have a few hundred.
const HEADERS_BYTES_MAX: u32 = 16 << 10;
/// Streams a peer may reset before they were looked at; beyond it the connection is closed
/// (CVE-2023-44487).
const RESETS_MAX: usize = 32;

/// How a manager begins.
pub(crate) enum Begin {
    /// With a new swarm: these are its first objects.
    Found(Box<(Cluster, Node)>),
    /// As a member of the group these managers are in, or with what is on disk.
    Join(Vec<String>),
}

/// What a manager works with.
pub(crate) struct Context {
    pub(crate) node_id: NodeId,
    pub(crate) tls: Tls,
    pub(crate) files: NodeFiles,
    pub(crate) raft_dir: std::path::PathBuf,
    pub(crate) advertise_addr: String,
    pub(crate) timing: RaftTiming,
    pub(crate) cert_expiry_min: Duration,
    pub(crate) secret_drivers: Arc<dispatcher::SecretDrivers>,
}

/// A running manager.
pub(crate) struct ManagerSide {
    member: Member,
    api: ControlApi,
    group: Group,
    signer: Signer,
    settled: watch::Receiver<bool>,
    exposed: Arc<Notify>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl ManagerSide {
    /// Starts everything. A founder leads when this returns; a joining one goes on in the
    /// background until [`ManagerSide::settled`].
    ///
    /// # Errors
    /// The log on disk, or writing the first objects.
    pub(crate) async fn start(
        context: Context,
        listener: TcpListener,
        begin: Begin,
    ) -> Result<Self, Error> {
        let (key, pending_key) = key_keeper::data_keys(&context.files, Timestamp::now()).await?;
        let mut options = raft::Options::new(context.raft_dir.clone(), random_member_id()?, key);
        options.pending_key = pending_key;
        options.heartbeat_ms = context.timing.heartbeat_ms;
        options.election_min_ms = context.timing.election_min_ms;
        options.election_max_ms = context.timing.election_max_ms;
        let member = Member::start(options, Arc::new(RaftDialer(context.tls.clone()))).await?;
        let proposer: Arc<dyn Propose> = Arc::new(member.proposer());
        let group = Group::new(context.node_id, member.raft().clone());
        let parts = leader_parts::LeaderParts::new(&member, context.secret_drivers.clone());
        let logs = Arc::new(logs::Logs::new(
            parts.log_broker.clone(),
            member.raft().clone(),
            context.tls.clone(),
        ));
        let status = Arc::new(group.clone());
        let api = ControlApi::new(member.store().clone(), proposer.clone(), status, logs);
        let (dispatcher, raft) = (parts.dispatcher.clone(), member.raft().clone());
        let checks = NetworkChecks::new(dispatcher, raft, context.tls.clone());
        let api = api.with_network_checks(Arc::new(checks));
        let api = api.with_identity(context.tls.clone(), context.cert_expiry_min);
        let signer = Signer::new(signer::Options {
            store: member.store().clone(),
            proposer: proposer.clone(),
            tls: context.tls.clone(),
            validity_min: context.cert_expiry_min,
        });
        let (settled_tx, settled) = watch::channel(false);
        let mut this = Self {
            member,
            api,
            group,
            signer,
            settled,
            exposed: Arc::default(),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        this.serve(&context.tls, listener, &parts);
        this.lead(parts.list());
        let begun = match begin {
            Begin::Found(objects) => this
                .found(&context.advertise_addr, *objects, &*proposer)
                .await
                .map(|()| vec![]),
            Begin::Join(remotes) => Ok(remotes),
        };
        let remotes = match begun {
            Ok(remotes) => remotes,
            Err(error) => {
                this.stop().await;
                return Err(error);
            }
        };
        let settling = settle::run(
            context.node_id,
            context.advertise_addr,
            this.member.clone(),
            proposer,
            remotes,
            settled_tx,
        );
        let stop = this.stop.clone();
        this.tasks.spawn(async move {
            stop.run_until_cancelled(settling).await;
        });
        this.keep_keys(context.files);
        Ok(this)
    }

    /// The control API of this manager.
    pub(crate) fn api(&self) -> &ControlApi {
        &self.api
    }

    /// The group as this manager sees it.
    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// What certifies nodes, this one as well.
    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The store and Raft.
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// Whether the group counts on this member, as far as it knows itself.
    pub(crate) fn is_member(&self) -> bool {
        let status = self.member.raft().status();
        let status = status.borrow();
        status
            .members
            .iter()
            .any(|it| it.id == status.member_id && it.voter)
    }

    /// True once this manager is in the group and the store says so.
    pub(crate) fn settled(&self) -> watch::Receiver<bool> {
        self.settled.clone()
    }

    /// Waits until the node's private key is to be replaced: it lay on disk in clear, or under a
    /// former unlock key.
    pub(crate) async fn exposed(&self) {
        self.exposed.notified().await;
    }

    /// Waits until the member takes no part any more, and says why.
    pub(crate) async fn over(&self) -> Condition {
        let mut status = self.member.raft().status();
        let over = status
            .wait_for(|it| it.condition != Condition::Running)
            .await;
        over.map_or(Condition::Stopped, |status| status.condition.clone())
    }

    /// Hands over leadership, then stops everything.
    pub(crate) async fn stop(mut self) {
        let stopping = self.member.clone().shutdown();
        if tokio::time::timeout(MEMBER_STOP_TIMEOUT, stopping)
            .await
            .is_err()
        {
            tracing::warn!("the member of the managers' group did not stop in time");
        }
        self.stop.cancel();
        let ending = async { while self.tasks.join_next().await.is_some() {} };
        // Streams of other nodes would keep the services open for as long as those like.
        if tokio::time::timeout(SERVICES_STOP_TIMEOUT, ending)
            .await
            .is_err()
        {
            self.tasks.shutdown().await;
        }
    }

    async fn found(
        &self,
        addr: &str,
        (cluster, mut node): (Cluster, Node),
        proposer: &dyn Propose,
    ) -> Result<(), Error> {
        let raft = self.member.raft();
        raft.bootstrap(addr).await?;
        node.manager_status = Some(types::node::ManagerStatus {
            raft_id: raft.member_id(),
            addr: addr.to_owned(),
        });
        let ingress = ingress(cluster.spec.network.encrypt_all);
        let objects = [cluster.into(), node.into(), ingress.into()];
        let objects = objects.map(Action::Create).to_vec();
        proposer.propose(objects).await?;
        Ok(())
    }

    fn serve(&mut self, tls: &Tls, listener: TcpListener, parts: &leader_parts::LeaderParts) {
        let store = self.member.store().clone();
        let registry = authorize::registry(store.clone());
        let connections = Connections::new(registry.clone());
        let layer = Authorize::new(authorize::RULES.iter().copied(), tls.clone(), registry)
            .expect("a test holds that no RPC has two rules");
        let router = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(Some(STREAMS_MAX))
            .http2_max_header_list_size(Some(HEADERS_BYTES_MAX))
            .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
            .layer(layer)
            .add_service(
                CaServer::new(self.signer.clone()).max_decoding_message_size(CA_REQUEST_BYTES_MAX),
            )
            .add_service(self.member.raft().grpc_service())
            .add_service(parts.dispatcher.clone().into_service())
            .add_service(parts.log_broker.clone().into_service())
            .add_service(ControlService::server(self.api.clone()));
        let admission = Admission {
            connections: connections.clone(),
            is_manager: self.managers_addresses(),
        };
        let incoming = ca::tls::incoming(listener, tls.clone(), admission, self.stop.clone());
        self.turn_away(connections);
        let stopped = self.stop.clone().cancelled_owned();
        self.tasks.spawn(async move {
            if let Err(error) = router.serve_with_incoming_shutdown(incoming, stopped).await {
                tracing::error!(error = crate::error::chain(&error), "the services ended");
            }
        });
    }

    /// Whether an address is that of a member of the group.
    fn managers_addresses(&self) -> Arc<dyn Fn(IpAddr) -> bool + Send + Sync> {
        let status = self.member.raft().status();
        Arc::new(move |addr| {
            let status = status.borrow();
            status.members.iter().any(|member| {
                let known: Option<SocketAddr> = member.addr.parse().ok();
                known.is_some_and(|known| known.ip().to_canonical() == addr)
            })
        })
    }

    /// Closes connections as soon as the store says that their peers are not wanted any more.
    fn turn_away(&mut self, connections: Connections) {
        let (mut watch, stop) = (self.member.store().watch(), self.stop.clone());
        self.tasks.spawn(async move {
            loop {
                let event = tokio::select! {
                    () = stop.cancelled() => return,
                    event = watch.next() => event,
                };
                let concerns = match event {
                    Event::Resync => true,
                    Event::Commit(commit) => commit
                        .changes
                        .iter()
                        .any(|change| matches!(change.object(), Object::Cluster(_))),
                };
                if concerns {
                    connections.recheck();
                }
            }
        });
    }

    /// Has the key file follow the cluster.
    fn keep_keys(&mut self, files: NodeFiles) {
        let keeper = KeyKeeper {
            files,
            raft: self.member.raft().clone(),
            told: Arc::new(|_| ()),
        };
        let keeping = keeper.run(self.member.store().clone(), self.exposed.clone());
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(keeping).await;
        });
    }

    fn lead(&mut self, parts: Vec<Arc<dyn LeaderPart>>) {
        let (member, stop) = (self.member.clone(), self.stop.clone());
        self.tasks
            .spawn(async move { member.run(parts, stop).await });
    }
}

/// Random, and never zero: a member removed from the group never comes back under its old id.
fn random_member_id() -> Result<u64, Error> {
    let id = getrandom::u64().map_err(ca::Error::Random)?;
    Ok(id.max(1))
}
/// The network that carries published ports; users may remove it and make another (S9.09).
fn ingress(encrypted: bool) -> Network {
    Network {
        id: NetworkId::generate(&mut RandomIds),
        meta: Meta::default(),
        spec: NetworkSpec {
            name: "ingress".to_owned(),
            ingress: true,
            encrypted,
            // A client of either family is to be answered, by its own address.
            ipv6: true,
            ..NetworkSpec::default()
        },
        subnets: vec![],
    }
}
