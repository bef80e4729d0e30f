//! The daemon: its directory and socket, and at most one part in a swarm.

use std::sync::Arc;
use std::time::Duration;

use ca::{
    FilesError, Identity, JoinToken, KeyFileError, NodeFiles, PrivateKey, RootCa, Subject,
    UnlockKey, chain_key_digest, effective_validity,
};
use image::ImageStore;
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::cluster::{ClusterLock, RootCaState};
use types::id::RandomIds;
use types::node::{Availability, NodeStatus};
use types::{
    Cluster, ClusterId, ClusterSpec, Meta, Node as NodeObject, NodeId, NodeRole, NodeSpec,
    Timestamp,
};

use crate::certificate::{self, Issued, JOIN_TIMEOUT};
use crate::error::{LOCKED, chain};
use crate::manager_side::Begin;
use crate::node::{Environment, Node, Start, listen};
use crate::state_dir::{Settings, StateDir};
use crate::switch::ControlSwitch;
use crate::view::{Membership, Standing};
use crate::{Error, Options, View, address, interfaces, local};

/// How long a stopping daemon waits for somebody who joins or leaves.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// A running daemon.
pub struct Daemon {
    inner: Arc<Inner>,
    stop: CancellationToken,
}

pub(crate) struct Inner {
    environment: Arc<Environment>,
    /// Held while the node begins, leaves or stops: one of these at a time.
    node: Mutex<Option<Node>>,
}

/// How a new swarm is to be.
#[derive(Clone, Debug, Default)]
pub struct Init {
    /// Where to listen; empty means all addresses, port 2377.
    pub listen_addr: String,
    /// What to tell others; empty means this machine's only address.
    pub advertise_addr: String,
    /// Address or interface of this machine that carries what containers send each other; empty
    /// means what others are told, and its interface's address of the other family.
    pub data_path_addr: String,
    /// Whether this node takes tasks.
    pub availability: Availability,
    /// Settings of the swarm.
    pub spec: ClusterSpec,
}

/// What a new swarm is.
#[derive(Clone, Debug)]
pub struct Initialized {
    /// This node.
    pub node_id: NodeId,
    /// Where others reach it.
    pub advertise_addr: String,
    /// What lets workers in.
    pub worker_token: String,
    /// What unlocks it after a restart; empty without autolock.
    pub unlock_key: String,
}

/// Which swarm to join, and how.
#[derive(Clone, Debug, Default)]
pub struct Join {
    /// `host:port` of a manager.
    pub remote_addr: String,
    /// The join token.
    pub token: String,
    /// Where to listen as a manager; empty means all addresses, port 2377.
    pub listen_addr: String,
    /// What to tell others; empty means the address this machine uses towards the manager.
    pub advertise_addr: String,
    /// As for [`Init`].
    pub data_path_addr: String,
    /// Whether this node takes tasks.
    pub availability: Availability,
}

impl Daemon {
    /// Starts: locks the directory, takes up the part in a swarm that it tells of, then serves the
    /// socket. A part that cannot be taken up does not keep the daemon from starting.
    ///
    /// # Errors
    /// When another daemon has the directory, or the directory or the socket cannot be used.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let state_dir = StateDir::open(&options.state_dir, &options.run_dir)?;
        let files = NodeFiles::open(state_dir.certificates())?;
        let images = ImageStore::open(&state_dir.images(), image::Options::default())?;
        let executor = options
            .executor
            .make(&state_dir, &images, &options.engine_labels)?;
        let view = watch::Sender::new(View::default());
        let control = {
            let view = view.subscribe();
            ControlSwitch::new(Arc::new(move || local::no_manager(&view.borrow())))
        };
        let environment = Arc::new(Environment {
            state_dir,
            files,
            executor,
            control,
            view,
            timing: options.raft,
            cert_expiry_min: options.cert_expiry_min,
            secret_drivers: Arc::new(options.secret_drivers),
            tasks: TaskTracker::new(),
        });
        let inner = Arc::new(Inner {
            environment,
            node: Mutex::default(),
        });
        // Boxed here and below: callers need not know how deep these go.
        Box::pin(inner.resume()).await;
        let stop = CancellationToken::new();
        local::serve(&inner, images, &options.socket, options.socket_gid, &stop)?;
        Ok(Self { inner, stop })
    }

    /// Makes this machine the first manager of a new swarm.
    ///
    /// # Errors
    /// When it is in one, an address cannot be used, or the disk says no.
    pub async fn init(&self, request: Init) -> Result<Initialized, Error> {
        Box::pin(self.inner.init(request)).await
    }

    /// Joins a swarm.
    ///
    /// # Errors
    /// When it is in one, the token or an address is wrong, or no manager lets it in.
    pub async fn join(&self, request: Join) -> Result<NodeId, Error> {
        Box::pin(self.inner.join(request)).await
    }

    /// Leaves the swarm; as a manager only with `force`.
    ///
    /// # Errors
    /// When it is in none, or needs force.
    pub async fn leave(&self, force: bool) -> Result<(), Error> {
        Box::pin(self.inner.leave(force)).await
    }

    /// Where this node stands, and every change of it.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<View> {
        self.inner.view()
    }

    /// Stops everything, leadership handed over; containers run on. The directory is free after.
    pub async fn shutdown(self) {
        // A join that is under way is broken off: it has nothing to stop yet.
        let node = tokio::time::timeout(BUSY_TIMEOUT, self.inner.node.lock()).await;
        if let Ok(Some(node)) = node.map(|mut node| node.take()) {
            node.stop().await;
        }
        self.stop.cancel();
        let tasks = &self.inner.environment.tasks;
        tasks.close();
        tasks.wait().await;
        self.inner.environment.state_dir.unlock();
    }
}

impl Inner {
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(crate) fn view(&self) -> watch::Receiver<View> {
        self.environment.view.subscribe()
    }

    /// Takes up the part in a swarm that the directory tells of.
    async fn resume(&self) {
        let mut place = self.node.lock().await;
        self.resume_at(&mut place).await;
    }

    async fn resume_at(&self, place: &mut Option<Node>) {
        match self.try_resume().await {
            Ok(node) => *place = node,
            Err(error) => {
                let text = chain(&error);
                tracing::error!(error = text, "cannot take up the part in the swarm");
                self.environment.view.send_modify(|view| {
                    view.standing = Standing::Error;
                    view.error = text;
                });
            }
        }
    }

    async fn try_resume(&self) -> Result<Option<Node>, Error> {
        if self.environment.files.is_locked()? {
            self.publish_locked()?;
            return Ok(None);
        }
        let Some(identity) = self.environment.files.load()? else {
            return Ok(None);
        };
        let settings = self.environment.state_dir.settings()?.unwrap_or_default();
        Node::resume(self.environment.clone(), identity, settings)
            .await
            .map(Some)
    }

    /// Tells users that nothing goes on before they give the unlock key. Containers run on.
    fn publish_locked(&self) -> Result<(), Error> {
        let settings = self.environment.state_dir.settings()?.unwrap_or_default();
        let subject = self.environment.files.subject()?;
        let member = subject.map(|subject| Membership {
            node_id: subject.node_id,
            cluster_id: subject.cluster_id,
            role: subject.role,
            advertise_addr: settings.advertise_addr.clone(),
        });
        tracing::warn!("this manager is locked: waiting for `swarmctl swarm unlock`");
        self.environment.view.send_replace(View {
            standing: Standing::Locked,
            member,
            error: LOCKED.to_owned(),
            managers: settings.managers,
        });
        Ok(())
    }

    /// The place of the node, for one who wants to begin: empty.
    async fn vacancy(&self) -> Result<MutexGuard<'_, Option<Node>>, Error> {
        let node = self.node.lock().await;
        let is_member = node.as_ref().is_some_and(|node| !node.is_over());
        if self.environment.files.is_locked()? {
            return Err(Error::Locked);
        }
        if is_member || self.environment.files.key_file()?.is_some() {
            return Err(Error::AlreadyMember);
        }
        Ok(node)
    }

    pub(crate) async fn init(&self, request: Init) -> Result<Initialized, Error> {
        let mut place = self.vacancy().await?;
        let cert_expiry_min = self.environment.cert_expiry_min;
        control_api::validate::cluster_spec(&request.spec, cert_expiry_min)?;
        let machine = interfaces::of_this_machine().map_err(|error| Error::Field {
            field: "advertise address",
            problem: format!("the addresses of this machine cannot be read: {error}"),
        })?;
        let data_path = address::data_path(&request.data_path_addr, &machine)?;
        let wanted = address::listen(&request.listen_addr, &machine)?;
        let listener = listen(&wanted.to_string()).await?;
        let bound = listener.local_addr().unwrap_or(wanted);
        let advertise = address::advertise(&request.advertise_addr, bound, &machine)?.to_string();
        let settings = Settings {
            listen_addr: bound.to_string(),
            advertise_addr: advertise.clone(),
            managers: vec![advertise.clone()],
            data_path,
        };
        let Founding {
            identity,
            cluster,
            node,
        } = found(request, cert_expiry_min)?;
        let node_id = node.id;
        let worker_token = cluster.root_ca.worker_token.clone();
        let unlock_key = cluster.lock.unlock_key.clone();
        let begin = Begin::Found(Box::new((cluster, node)));
        let start = Start {
            identity,
            settings,
            manager: Some((begin, listener)),
        };
        *place = Some(self.begin(start).await?);
        tracing::info!(node = %node_id, addr = advertise, "made a new swarm");
        if !self.settled_within(JOIN_TIMEOUT).await {
            // It is made all the same, and users see in which state it is.
            tracing::warn!("the new swarm's first node is not ready yet");
        }
        Ok(Initialized {
            node_id,
            advertise_addr: advertise,
            worker_token,
            unlock_key,
        })
    }

    pub(crate) async fn join(&self, request: Join) -> Result<NodeId, Error> {
        let mut place = self.vacancy().await?;
        let token: JoinToken = request.token.parse()?;
        let remote = address::remote(&request.remote_addr)?;
        let machine = interfaces::of_this_machine().unwrap_or_default();
        let data_path = address::data_path(&request.data_path_addr, &machine)?;
        let wanted = address::listen(&request.listen_addr, &machine)?;
        // Bound before anybody is asked, so that a manager that cannot listen is not let in first.
        let listener = listen(&wanted.to_string()).await;
        let bound = listener
            .as_ref()
            .ok()
            .and_then(|it| it.local_addr().ok())
            .unwrap_or(wanted);
        let advertise = advertise_towards(&request.advertise_addr, bound, remote, &machine)?;
        let remote = remote.to_string();
        let asked_at = tokio::time::Instant::now();
        let joining = certificate::join(&remote, &token, request.availability);
        let Issued {
            identity,
            mut managers,
        } = tokio::time::timeout(JOIN_TIMEOUT, joining)
            .await
            .map_err(|_| Error::Timeout {
                addr: remote.clone(),
                after: JOIN_TIMEOUT,
            })??;
        if !managers.contains(&remote) {
            managers.push(remote);
        }
        let (node_id, role) = (identity.node_id(), identity.role());
        let settings = Settings {
            listen_addr: bound.to_string(),
            advertise_addr: advertise.to_string(),
            managers: managers.clone(),
            data_path,
        };
        let manager = match role {
            NodeRole::Worker => None,
            NodeRole::Manager => Some((Begin::Join(managers), listener?)),
        };
        let node = self
            .begin(Start {
                identity,
                settings,
                manager,
            })
            .await?;
        tracing::info!(node = %node_id, %role, "joined a swarm");
        let left = JOIN_TIMEOUT.saturating_sub(asked_at.elapsed());
        *place = Some(node);
        match self.settled_within(left).await {
            true => Ok(node_id),
            false => Err(Error::StillJoining {
                after: JOIN_TIMEOUT,
            }),
        }
    }

    /// Waits until the node is all in, so that the next command finds it; says whether it is.
    async fn settled_within(&self, limit: Duration) -> bool {
        let mut view = self.view();
        let settled = view.wait_for(|view| view.standing != Standing::Pending);
        tokio::time::timeout(limit, settled).await.is_ok()
    }

    /// Keeps the identity and starts with it; forgets it again when that does not work.
    async fn begin(&self, start: Start) -> Result<Node, Error> {
        let environment = self.environment.clone();
        let (identity, settings) = (start.identity.clone(), start.settings.clone());
        let keep = move || -> Result<(), Error> {
            // The identity last: it is what makes this machine a node.
            environment.state_dir.remove_membership()?;
            environment.state_dir.save_settings(&settings)?;
            environment.files.save(&identity)?;
            Ok(())
        };
        let kept = tokio::task::spawn_blocking(keep)
            .await
            .map_err(|_| Error::Stopping)?;
        let started = match kept {
            Ok(()) => Node::start(self.environment.clone(), start).await,
            Err(error) => Err(error),
        };
        if started.is_err() {
            self.forget().await?;
        }
        started
    }

    async fn forget(&self) -> Result<(), Error> {
        let environment = self.environment.clone();
        let forget = move || -> Result<(), Error> {
            environment.files.remove()?;
            environment.state_dir.remove_membership()?;
            environment.view.send_replace(View::default());
            Ok(())
        };
        tokio::task::spawn_blocking(forget)
            .await
            .map_err(|_| Error::Stopping)?
    }

    /// Opens a locked manager's keys and starts it.
    pub(crate) async fn unlock(&self, key: &str) -> Result<(), Error> {
        let mut place = self.node.lock().await;
        let files = self.environment.files.clone();
        if !files.is_locked()? {
            return Err(Error::NotLocked);
        }
        let key: UnlockKey = key
            .parse()
            .map_err(|error| Error::InvalidKey(format!("invalid key: {error}")))?;
        match files.unlock(&key) {
            Ok(()) => {}
            Err(FilesError::KeyFile {
                source: source @ KeyFileError::WrongKey { .. },
                ..
            }) => {
                tracing::warn!("somebody tried to unlock this manager with a wrong key");
                return Err(Error::InvalidKey(source.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
        tracing::info!("unlocked");
        self.resume_at(&mut place).await;
        Ok(())
    }

    pub(crate) async fn leave(&self, force: bool) -> Result<(), Error> {
        let mut place = self.node.lock().await;
        if let Some(node) = place.as_ref().filter(|node| !node.is_over()) {
            let left = node.leave(force).await;
            if node.is_over() {
                *place = None;
            }
            return left;
        }
        *place = None;
        if self.environment.files.is_locked()? && !force {
            return Err(Error::LeaveLocked);
        }
        // Without a running node there may still be an identity that does not work.
        let is_member = !matches!(self.environment.files.key_file(), Ok(None));
        if !is_member {
            return Err(Error::NotMember);
        }
        if !force {
            return Err(Error::LeaveNeedsForce(
                "this node cannot take up its part in the swarm, so it cannot tell the managers \
                 that it leaves: use --force"
                    .to_owned(),
            ));
        }
        self.environment.executor.set_reach(Arc::default());
        let removed = self.environment.executor.retain(&[].into()).await;
        self.forget().await?;
        removed.map_err(Error::Remains)
    }
}

/// Everything a new swarm begins with.
struct Founding {
    identity: Identity,
    cluster: Cluster,
    node: NodeObject,
}

fn found(request: Init, cert_expiry_min: Duration) -> Result<Founding, Error> {
    let now = Timestamp::now();
    let root = RootCa::generate(now)?;
    let bundle = root.bundle().clone();
    let cert_pem = String::from_utf8(bundle.pem().to_vec()).expect("PEM is ASCII");
    let lock = founding_lock(request.spec.autolock_managers)?;
    let cluster = Cluster {
        id: ClusterId::generate(&mut RandomIds),
        meta: Meta::default(),
        spec: request.spec,
        root_ca: RootCaState {
            cert_pem,
            key_pem: root.key_pem().to_string(),
            worker_token: JoinToken::generate(&bundle)?.reveal().to_string(),
            manager_token: JoinToken::generate(&bundle)?.reveal().to_string(),
            ..RootCaState::default()
        },
        lock,
        revoked: [].into(),
        gossip_keys: vec![],
        content_key: types::Payload::default(),
        gossip_keys_at: types::Timestamp::default(),
        access: types::access::Access::default(),
    };
    let role = NodeRole::Manager;
    let mut node = NodeObject {
        id: NodeId::generate(&mut RandomIds),
        meta: Meta::default(),
        spec: NodeSpec {
            role,
            availability: request.availability,
            ..NodeSpec::default()
        },
        role,
        description: None,
        status: NodeStatus::default(),
        manager_status: None,
        network_index: 0,
        certificate: types::node::NodeCertificate::default(),
    };
    let key = PrivateKey::generate()?;
    let subject = Subject {
        cluster_id: cluster.id,
        role,
        node_id: node.id,
    };
    let chain = root.issue(
        &key.csr_pem()?,
        &subject,
        effective_validity(cluster.spec.node_cert_expiry, cert_expiry_min),
        now,
    )?;
    node.certificate.keys = vec![chain_key_digest(&chain)?];
    Ok(Founding {
        identity: Identity::new(key, &chain, bundle)?,
        cluster,
        node,
    })
}

/// What managers of a new swarm seal their disks with.
fn founding_lock(is_locked: bool) -> Result<ClusterLock, Error> {
    if !is_locked {
        return Ok(ClusterLock::default());
    }
    Ok(ClusterLock {
        unlock_key: UnlockKey::generate()?.reveal().to_string(),
        key_version: 1,
        data_key_epoch: 1,
    })
}

/// What a joining node tells others: as for init, or else what it uses towards the manager.
fn advertise_towards(
    text: &str,
    listen: std::net::SocketAddr,
    remote: std::net::SocketAddr,
    machine: &[address::InterfaceAddress],
) -> Result<std::net::SocketAddr, Error> {
    if text.is_empty()
        && listen.ip().is_unspecified()
        && let Ok(ip) = interfaces::towards(remote)
    {
        return Ok((ip, listen.port()).into());
    }
    Ok(address::advertise(text, listen, machine)?)
}
