//! The actor: hears the managers, keeps the certificate fresh, follows role changes, leaves.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, NodeNotice};
use ca::{Identity, RootBundle, Tls};
use raft::Condition;
use store::{Action, Propose as _};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use types::node::TlsInfo;
use types::{Node as NodeObject, NodeRole, Timestamp};

use super::{Command, Environment, Notices, tls_of};
use crate::certificate::{self, Issued, RenewError};
use crate::dialer::AgentDialer;
use crate::error::chain;
use crate::manager_side::{Begin, Context, ManagerSide};
use crate::state_dir::Settings;
use crate::view::{Membership, Standing};
use crate::{Error, address, interfaces, leave};

/// Pauses between tries of something that fails: doubles from the first to the second (S19.10).
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest sleep until a certificate is due: a clock may be set meanwhile.
const RENEW_LOOK_MAX: Duration = Duration::from_secs(3600);
/// How long a leaving manager waits for the others to let it go.
const LEAVE_GROUP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the agent may take to stop.
const AGENT_STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Actor {
    environment: Arc<Environment>,
    tls: Tls,
    settings: Settings,
    notices: Notices,
    notices_tx: watch::Sender<Option<NodeNotice>>,
    /// What the managers are told of this node's certificate.
    tls_info: watch::Sender<TlsInfo>,
    removed: watch::Sender<bool>,
    /// Told when managers and this node do not take each other's certificates.
    refused: Arc<Notify>,
    /// They do not, and another certificate is being asked for.
    is_refused: bool,
    agent: JoinSet<()>,
    agent_stop: CancellationToken,
    agent_leaving: CancellationToken,
    manager: Option<ManagerSide>,
    /// Whether users may ask the cluster through this manager.
    is_open: bool,
    /// The managers have heard from this node's agent, now or before the daemon was restarted: what
    /// users ask of the cluster names the node by its host name.
    is_known: bool,
    /// The group put this member out: no manager runs before a certificate says that one should.
    is_evicted: bool,
    /// What is wrong, for users; empty when nothing is.
    problem: String,
    /// What is wrong with the certificate, for users; empty when nothing is.
    certificate_problem: String,
    /// The private key is to be replaced before the certificate is due.
    is_exposed: bool,
    /// When the certificate is to be renewed.
    due: Timestamp,
    renewal: Retry,
    adjustment: Retry,
}

/// When to do something next, and how long to wait after the next failure.
struct Retry {
    at: Instant,
    pause: Duration,
}

impl Retry {
    fn at(at: Instant) -> Self {
        Self {
            at,
            pause: RETRY_PAUSE_MIN,
        }
    }

    fn failed(&mut self) {
        self.at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(RETRY_PAUSE_MAX);
    }
}

/// What woke the actor.
enum Wake {
    Command(Option<Command>),
    Notice,
    Removed,
    Refused,
    Over(Condition),
    Renew,
    Adjust,
    Settled,
    Exposed,
}

impl Actor {
    pub(super) fn new(
        environment: Arc<Environment>,
        identity: Identity,
        settings: Settings,
    ) -> Result<Self, Error> {
        let (notices_tx, notices) = watch::channel(None);
        let is_exposed = environment
            .files
            .key_file()?
            .is_some_and(|file| file.wants_renewal());
        let due = due(&identity);
        Ok(Self {
            environment,
            tls_info: watch::Sender::new(identity.tls_info()),
            tls: tls_of(identity)?,
            settings,
            notices,
            notices_tx,
            removed: watch::Sender::new(false),
            refused: Arc::default(),
            is_refused: false,
            agent: JoinSet::new(),
            agent_stop: CancellationToken::new(),
            agent_leaving: CancellationToken::new(),
            manager: None,
            is_open: false,
            is_known: false,
            is_evicted: false,
            problem: String::new(),
            certificate_problem: String::new(),
            is_exposed,
            due,
            renewal: Retry::at(if is_exposed {
                Instant::now()
            } else {
                look_at(due)
            }),
            adjustment: Retry::at(Instant::now()),
        })
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    fn identity(&self) -> Identity {
        self.tls
            .identity()
            .expect("an actor has an identity until it ends")
    }

    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Command>) {
        loop {
            match self.wake(&mut orders).await {
                Wake::Command(Some(Command::Leave { force, answer })) => {
                    if let Err(error) = self.check_leave(force) {
                        drop(answer.send(Err(error)));
                        continue;
                    }
                    let left = self.leave().await;
                    self.gone(&mut orders);
                    drop(answer.send(left));
                    return;
                }
                Wake::Command(Some(Command::Stop { answer })) => {
                    self.stop().await;
                    // Whoever asked may have given up.
                    let _: Result<(), ()> = answer.send(());
                    return;
                }
                Wake::Command(None) => return self.stop().await,
                Wake::Removed => {
                    tracing::warn!("this node was removed from the swarm: leaving it");
                    if let Err(error) = self.erase().await {
                        tracing::error!(error = chain(&error), "remains of the swarm are left");
                    }
                    return self.gone(&mut orders);
                }
                Wake::Notice => self.hear().await,
                Wake::Refused => {
                    tracing::info!("managers and this node refuse each other's certificates");
                    self.is_refused = true;
                    self.renewal = Retry::at(Instant::now());
                }
                Wake::Over(condition) => self.manager_over(condition).await,
                Wake::Renew => self.renew().await,
                Wake::Adjust => self.adjust().await,
                Wake::Settled => self.open_control(),
                Wake::Exposed => {
                    self.is_exposed = true;
                    self.renewal = Retry::at(Instant::now());
                }
            }
        }
    }

    async fn wake(&mut self, orders: &mut mpsc::Receiver<Command>) -> Wake {
        let is_adjusted = self.is_adjusted();
        let (renew_at, adjust_at) = (self.renewal.at, self.adjustment.at);
        let manager = self.manager.as_ref();
        let is_open = self.is_open;
        let notices = &mut self.notices;
        let mut removed = self.removed.subscribe();
        let refused = &self.refused;
        let over = async {
            match manager {
                Some(manager) => manager.over().await,
                None => std::future::pending().await,
            }
        };
        let settled = async {
            match manager.map(ManagerSide::settled) {
                Some(mut settled) if !is_open => {
                    if settled.wait_for(|it| *it).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                Some(_) | None => std::future::pending().await,
            }
        };
        let exposed = async {
            match manager {
                Some(manager) => manager.exposed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = orders.recv() => Wake::Command(command),
            Ok(_) = removed.wait_for(|it| *it) => Wake::Removed,
            Ok(()) = notices.changed() => Wake::Notice,
            () = refused.notified(), if !self.is_refused => Wake::Refused,
            condition = over => Wake::Over(condition),
            () = sleep_until(renew_at) => Wake::Renew,
            () = sleep_until(adjust_at), if !is_adjusted => Wake::Adjust,
            () = settled => Wake::Settled,
            () = exposed => Wake::Exposed,
        }
    }

    /// Whether what runs is what the certificate says.
    fn is_adjusted(&self) -> bool {
        let should_manage = self.identity().role() == NodeRole::Manager && !self.is_evicted;
        should_manage == self.manager.is_some()
    }

    /// For a node that was in the swarm before: the managers know it already.
    pub(super) fn set_known(&mut self) {
        self.is_known = true;
    }

    // --- the agent ---

    pub(super) fn start_agent(&mut self) {
        let node_id = self.identity().node_id();
        let executor = &self.environment.executor;
        executor.set_place(node_id, self.data_path());
        let options = agent::Options {
            node_id,
            state_dir: self.environment.state_dir.path().to_owned(),
            tasks_dir: self.environment.state_dir.task_records(),
            dialer: Arc::new(AgentDialer::new(
                self.tls.clone(),
                self.removed.clone(),
                self.refused.clone(),
            )),
            managers: self.managers(),
            executor: self.environment.executor.clone(),
            notices: self.notices_tx.clone(),
            tls: self.tls_info.subscribe(),
        };
        let agent = Agent::new(options);
        self.agent_leaving = agent.leaving();
        let stop = self.agent_stop.clone();
        self.agent.spawn(async move {
            if let Err(error) = agent.run(stop).await {
                tracing::error!(
                    error = chain(&error),
                    "the agent cannot run: no task is cared for"
                );
            }
        });
    }

    /// Traffic of containers goes where managers find this node, unless the user said otherwise.
    fn data_path(&self) -> Vec<IpAddr> {
        if !self.settings.data_path.is_empty() {
            return self.settings.data_path.clone();
        }
        let machine = interfaces::of_this_machine().unwrap_or_else(|error| {
            tracing::warn!(%error, "the addresses of this machine cannot be read");
            Vec::new()
        });
        let advertised = self.settings.advertise_addr.parse::<SocketAddr>();
        advertised.map_or_else(
            |_| Vec::new(),
            |address| address::data_path_of(address.ip(), &machine),
        )
    }

    async fn stop_agent(&mut self) {
        self.agent_stop.cancel();
        let ending = async { while self.agent.join_next().await.is_some() {} };
        if tokio::time::timeout(AGENT_STOP_TIMEOUT, ending)
            .await
            .is_err()
        {
            tracing::warn!("the agent did not stop in time");
            self.agent.shutdown().await;
        }
    }

    /// Every address a manager may be found at, the freshest first.
    fn managers(&self) -> Vec<String> {
        let mut addrs: Vec<String> = vec![];
        let told = self
            .notices
            .borrow()
            .as_ref()
            .map(|notice| notice.managers.clone());
        let group = self.manager.as_ref().map(|manager| manager.group().addrs());
        let own = self
            .manager
            .as_ref()
            .map(|_| vec![self.settings.advertise_addr.clone()]);
        let sources = [own, group, told, Some(self.settings.managers.clone())];
        for addr in sources.into_iter().flatten().flatten() {
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        addrs
    }

    // --- what the managers say ---

    async fn hear(&mut self) {
        let Some(notice) = self.notices.borrow_and_update().clone() else {
            return;
        };
        self.is_known = true;
        if let Err(error) = self.trust(&notice.root_bundle_pem).await {
            tracing::error!(
                error = chain(&error),
                "the roots the managers sent are not taken"
            );
        }
        if !notice.managers.is_empty() && notice.managers != self.settings.managers {
            self.settings.managers.clone_from(&notice.managers);
            if let Err(error) = self.environment.state_dir.save_settings(&self.settings) {
                tracing::error!(
                    error = chain(&error),
                    "the managers' addresses were not kept"
                );
            }
        }
        let role = self.identity().role();
        if notice.node.spec.role != role {
            tracing::info!(from = %role, to = %notice.node.spec.role, "role is to change");
            self.renewal = Retry::at(Instant::now());
        } else if notice.node.certificate.renew_now {
            tracing::info!("the root changes: the certificate is to be renewed");
            self.renewal = Retry::at(Instant::now());
        }
        self.publish();
    }

    /// Takes over the roots the managers trust, if they are others than before.
    async fn trust(&mut self, bundle_pem: &str) -> Result<(), Error> {
        let identity = self.identity();
        if bundle_pem.is_empty() || bundle_pem.as_bytes() == identity.roots().pem() {
            return Ok(());
        }
        let identity = identity.with_roots(RootBundle::from_pem(bundle_pem)?)?;
        self.take(identity).await
    }

    /// Speaks for another identity from now on, after a restart as well.
    async fn take(&mut self, identity: Identity) -> Result<(), Error> {
        let (files, kept) = (self.environment.files.clone(), identity.clone());
        tokio::task::spawn_blocking(move || files.save(&kept))
            .await
            .map_err(|_| Error::Stopping)??;
        let tls_info = identity.tls_info();
        self.tls.swap(identity)?;
        self.tls_info.send_replace(tls_info);
        Ok(())
    }

    // --- certificate and role ---

    /// Before anything starts: with a certificate that has run out no other manager answers, so
    /// another one comes first, if one can be had.
    pub(super) async fn renew_if_expired(&mut self) {
        if self.identity().is_expired(Timestamp::now()) {
            self.renew().await;
        }
    }

    async fn renew(&mut self) {
        let is_wanted =
            self.is_refused || self.is_renewal_wanted() || self.is_evicted || self.is_exposed;
        if !is_wanted && Timestamp::now() < self.due {
            self.renewal = Retry::at(look_at(self.due));
            return;
        }
        // What follows is asked with the new certificate, so that a node that came back with its
        // known key gets a new key at once.
        let is_back = self.identity().is_expired(Timestamp::now());
        match Box::pin(self.next_certificate()).await {
            Ok(Issued { identity, .. }) => {
                let (role, until) = (identity.role(), identity.not_after());
                if let Err(error) = self.take(identity).await {
                    tracing::error!(error = chain(&error), "a new certificate was not kept");
                    return self.renewal.failed();
                }
                tracing::info!(%role, %until, "certificate renewed");
                self.is_evicted = false;
                self.is_refused = false;
                self.is_exposed = false;
                self.certificate_problem.clear();
                self.due = if is_back {
                    Timestamp::now()
                } else {
                    due(&self.identity())
                };
                self.renewal = Retry::at(look_at(self.due));
                self.adjustment = Retry::at(Instant::now());
                self.adjust().await;
            }
            Err(RenewError::Removed(reason)) => {
                tracing::warn!(reason, "no certificate any more");
                self.removed.send_replace(true);
            }
            Err(RenewError::NotNow(reason)) => {
                tracing::info!(reason, "certificate not renewed yet");
                self.certificate_problem =
                    certificate_problem(&self.identity(), self.is_refused, &reason);
                self.renewal.failed();
                self.publish();
            }
        }
    }

    /// Asks the managers; as one of them, and the only one there is, itself.
    async fn next_certificate(&mut self) -> Result<Issued, RenewError> {
        let identity = self.identity();
        let asked = certificate::renew(&self.tls, &self.managers()).await;
        let (Err(RenewError::NotNow(reason)), Some(manager)) = (&asked, &self.manager) else {
            return asked;
        };
        if !identity.is_expired(Timestamp::now()) {
            return asked;
        }
        let own = certificate::reissue_self(&identity, manager.signer()).await;
        own.map_err(|error| RenewError::NotNow(format!("{reason}; {}", chain(&error))))
    }

    /// Whether the managers want something else of this node's certificate than it is.
    fn is_renewal_wanted(&self) -> bool {
        let role = self.identity().role();
        let notice = self.notices.borrow();
        let wanted = |notice: &NodeNotice| {
            notice.node.spec.role != role || notice.node.certificate.renew_now
        };
        notice.as_ref().is_some_and(wanted)
    }

    /// Makes what runs fit the certificate: starts or stops the manager side.
    pub(super) async fn adjust(&mut self) {
        if self.is_adjusted() {
            return;
        }
        let adjusted = match self.manager.take() {
            Some(manager) => {
                self.stop_manager(manager).await;
                self.forget_log().await
            }
            None => self.begin_to_manage().await,
        };
        match adjusted {
            Ok(()) => self.problem.clear(),
            Err(error) => {
                let text = chain(&error);
                tracing::error!(error = text, "the role of this node cannot be taken up");
                self.problem = text;
                self.adjustment.failed();
            }
        }
        self.publish();
    }

    async fn begin_to_manage(&mut self) -> Result<(), Error> {
        let listener = listen(&self.settings.listen_addr).await?;
        self.start_manager(Begin::Join(self.managers()), listener)
            .await
    }

    pub(super) async fn start_manager(
        &mut self,
        begin: Begin,
        listener: TcpListener,
    ) -> Result<(), Error> {
        let context = Context {
            node_id: self.identity().node_id(),
            tls: self.tls.clone(),
            files: self.environment.files.clone(),
            raft_dir: self.environment.state_dir.raft(),
            advertise_addr: self.settings.advertise_addr.clone(),
            timing: self.environment.timing,
            cert_expiry_min: self.environment.cert_expiry_min,
            secret_drivers: self.environment.secret_drivers.clone(),
        };
        let manager = ManagerSide::start(context, listener, begin).await?;
        let was_member = manager.is_member();
        self.manager = Some(manager);
        // One that is only coming in has a store that is empty or old.
        if was_member {
            self.open_control();
        }
        Ok(())
    }

    /// Lets users of this machine ask the cluster through this manager.
    fn open_control(&mut self) {
        if let Some(manager) = &self.manager {
            self.environment.control.on(manager.api().clone());
            self.is_open = true;
        }
        self.publish();
    }

    async fn stop_manager(&mut self, manager: ManagerSide) {
        self.is_open = false;
        self.environment.control.off();
        manager.stop().await;
    }

    /// Forgets the log of a group this node is no member of, and the key that sealed it.
    async fn forget_log(&self) -> Result<(), Error> {
        let environment = self.environment.clone();
        let forget = move || -> Result<(), Error> {
            environment.state_dir.remove_raft()?;
            environment.files.update_headers(|file| {
                file.forget_log();
                Ok(())
            })?;
            Ok(())
        };
        tokio::task::spawn_blocking(forget)
            .await
            .map_err(|_| Error::Stopping)?
    }

    async fn manager_over(&mut self, condition: Condition) {
        if let Some(manager) = self.manager.take() {
            self.stop_manager(manager).await;
        }
        match condition {
            Condition::Removed => {
                tracing::info!("no member of the managers' group any more");
                self.is_evicted = true;
                self.renewal = Retry::at(Instant::now());
                if let Err(error) = self.forget_log().await {
                    tracing::error!(error = chain(&error), "the former log was not removed");
                }
            }
            Condition::Failed { reason } => {
                tracing::error!(reason, "the manager has failed; tasks run on");
                self.problem = format!("the manager has failed: {reason}");
                self.adjustment.failed();
            }
            Condition::Running | Condition::Stopped => self.adjustment.failed(),
        }
        self.publish();
    }

    // --- the end ---

    fn check_leave(&self, force: bool) -> Result<(), Error> {
        match &self.manager {
            Some(manager) if !force => {
                let status = manager.member().raft().status().borrow().clone();
                Err(Error::LeaveNeedsForce(leave::warning(&status)))
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn leave(&mut self) -> Result<(), Error> {
        if let Some(manager) = &self.manager {
            let voters = manager.group().addrs().len();
            let leaving = self.leave_group(manager);
            if voters > 1
                && tokio::time::timeout(LEAVE_GROUP_TIMEOUT, leaving)
                    .await
                    .is_err()
            {
                tracing::warn!("leaving without the consent of the other managers");
            }
        }
        self.erase().await
    }

    /// Demotes itself: the leader takes it out of the group, and what is left is a worker.
    async fn leave_group(&self, manager: &ManagerSide) {
        let node_id = self.identity().node_id();
        let proposer = manager.member().proposer();
        loop {
            let Some(node) = manager.member().store().state().node(node_id).cloned() else {
                return;
            };
            let mut changed = NodeObject::clone(&node);
            changed.spec.role = NodeRole::Worker;
            match proposer.propose(vec![Action::Update(changed.into())]).await {
                Ok(_) => break,
                Err(error) => tracing::info!(%error, "cannot demote this node yet"),
            }
            tokio::time::sleep(RETRY_PAUSE_MIN).await;
        }
        manager.over().await;
    }

    async fn stop(&mut self) {
        self.stop_agent().await;
        if let Some(manager) = self.manager.take() {
            self.stop_manager(manager).await;
        }
    }

    /// Stops everything, removes the swarm's containers, forgets the swarm.
    async fn erase(&mut self) -> Result<(), Error> {
        self.agent_leaving.cancel();
        self.stop().await;
        // Nothing that managers told holds any longer.
        self.environment.executor.set_reach(Arc::default());
        let removed = self.environment.executor.retain(&BTreeSet::new()).await;
        // The identity goes first: without it, whatever else is left means nothing at a restart.
        let environment = self.environment.clone();
        let forget = move || -> Result<(), Error> {
            environment.files.remove()?;
            environment.state_dir.remove_membership()?;
            Ok(())
        };
        tokio::task::spawn_blocking(forget)
            .await
            .map_err(|_| Error::Stopping)??;
        removed.map_err(Error::Remains)
    }

    /// There is room for another node from now on.
    fn gone(&self, orders: &mut mpsc::Receiver<Command>) {
        orders.close();
        self.environment.view.send_replace(crate::View::default());
    }

    /// Tells users where this node stands.
    pub(super) fn publish(&self) {
        let identity = self.identity();
        let is_in = self.is_known && (self.is_open || self.identity().role() == NodeRole::Worker);
        let problem = if self.problem.is_empty() {
            &self.certificate_problem
        } else {
            &self.problem
        };
        let standing = match (problem.is_empty(), is_in && self.is_adjusted()) {
            (false, _) => Standing::Error,
            (true, true) => Standing::Active,
            (true, false) => Standing::Pending,
        };
        let member = Membership {
            node_id: identity.node_id(),
            cluster_id: identity.cluster_id(),
            role: identity.role(),
            advertise_addr: self.settings.advertise_addr.clone(),
        };
        self.environment.view.send_replace(crate::View {
            standing,
            member: Some(member),
            error: problem.clone(),
            managers: self.managers(),
        });
    }
}

/// Binds a manager's listener.
pub(crate) async fn listen(addr: &str) -> Result<TcpListener, Error> {
    let refused = |source| Error::Listen {
        addr: addr.to_owned(),
        source,
    };
    let address: SocketAddr = addr
        .parse()
        .map_err(|_| refused(std::io::ErrorKind::InvalidInput.into()))?;
    TcpListener::bind(address).await.map_err(refused)
}

/// What users have to know of a certificate that could not be renewed; empty while it is good.
fn certificate_problem(identity: &Identity, is_refused: bool, reason: &str) -> String {
    let now = Timestamp::now();
    if identity.is_expired(now) {
        let until = identity.not_after();
        format!(
            "the certificate of this node ran out at {until}, this machine's clock says {now}, and \
             no manager has given it another one yet: {reason}"
        )
    } else if now < identity.not_before() {
        let from = identity.not_before();
        format!(
            "the certificate of this node is not valid before {from}, this machine's clock says \
             {now}: {reason}"
        )
    } else if is_refused {
        format!("managers and this node refuse each other's certificates: {reason}")
    } else {
        String::new()
    }
}

/// When to renew this certificate; nodes that joined together drift apart.
fn due(identity: &Identity) -> Timestamp {
    identity.renew_at(getrandom::u32().unwrap_or(u32::MAX / 2))
}

/// When to look whether a certificate is due.
fn look_at(due: Timestamp) -> Instant {
    Instant::now() + due.since(Timestamp::now()).min(RENEW_LOOK_MAX)
}
