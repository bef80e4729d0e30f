//! The handle of a member: starting, watching and stopping it.

mod change;

use std::sync::Arc;
use std::time::Duration;

use proto::raft::raft_server::RaftServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::{Core, Facts};
use crate::log::seal::{Keyring, Sealer};
use crate::log::wal::{Command, Wal};
use crate::log::{self, io_error, recover};
use crate::snapshot::SnapshotFile;
use crate::transport::{Dialer, MESSAGE_BYTES_MAX, Peers};
use crate::{Condition, DataKey, Error, GrpcService, Options, StateMachine, Status};

/// Pause between two looks at a group of one, in which nobody's reachability can change.
const ALONE_PERIOD: Duration = Duration::from_secs(2);
/// How long a member that votes alone may take to lead again after a start.
const ALONE_TIMEOUT: Duration = Duration::from_secs(10);

/// One member of the group. Clones are the same member.
#[derive(Clone)]
pub struct Raft {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) core: Core,
    pub(crate) facts: Arc<Facts>,
    pub(crate) peers: Peers,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) tasks: TaskTracker,
    pub(crate) token: CancellationToken,
    wal: Wal,
    snapshots: SnapshotFile,
    keyring: Keyring,
    /// Every key that may have sealed something on disk.
    keys: std::sync::Mutex<Vec<DataKey>>,
}

impl Raft {
    /// Opens, or creates, the member in [`Options::dir`] and takes part from there on.
    ///
    /// A member that votes alone leads, and has applied its whole log, when this returns. A fresh one
    /// waits for [`bootstrap`](Self::bootstrap) or for a leader that adds it.
    ///
    /// # Errors
    /// The options, the keys or the disk; see [`Error`].
    pub async fn start(
        options: Options,
        state_machine: Arc<dyn StateMachine>,
        dialer: Arc<dyn Dialer>,
    ) -> Result<Self, Error> {
        options.check()?;
        let keys = match &options.pending_key {
            Some(pending) => vec![pending.clone(), options.key.clone()],
            None => vec![options.key.clone()],
        };
        let keyring = Keyring::new(Sealer::new(&keys[0], &keys[1..]));

        let opened = {
            let (options, keyring) = (options.clone(), keyring.clone());
            tokio::task::spawn_blocking(move || open(&options, &keyring)).await
        };
        let opened = opened.map_err(|e| Error::Failed {
            reason: broken_off("opening", &e),
        })??;
        let Opened {
            recovered,
            wal,
            snapshots,
        } = opened;

        let facts = Arc::new(Facts::new(
            recovered.member_id,
            options.snapshot_interval_bytes,
        ));
        let peers = Peers::new(dialer);
        let started = Core::start(
            &options,
            Arc::clone(&facts),
            recovered,
            wal.clone(),
            snapshots.clone(),
            state_machine,
            peers.clone(),
        )
        .await;
        let core = match started {
            Ok(core) => core,
            Err(error) => {
                // So that the caller can try again with other options.
                wal.run(Command::Close).await.ok();
                return Err(error);
            }
        };
        if core.votes_alone().await? {
            core.elect().await?;
            core.wait_for(ALONE_TIMEOUT, |o| {
                o.failure.is_some() || (o.leads && o.last_applied >= o.last_log)
            })
            .await;
        }
        let contact = Duration::from_millis(options.contact_ms());
        let (status_tx, status) = watch::channel(core.status(contact));
        let this = Self {
            inner: Arc::new(Inner {
                options,
                core,
                facts,
                peers,
                status,
                tasks: TaskTracker::new(),
                token: CancellationToken::new(),
                wal,
                snapshots,
                keyring,
                keys: std::sync::Mutex::new(keys),
            }),
        };
        this.inner.spawn_observer(status_tx);
        this.inner.spawn_compaction();
        Ok(this)
    }

    /// The id of this member; that of the directory, if it had one.
    #[must_use]
    pub fn member_id(&self) -> u64 {
        self.inner.facts.member_id()
    }

    /// Makes a fresh member a group of its own, reachable at `addr`; it leads when this returns.
    ///
    /// # Errors
    /// [`Error::AlreadyInitialized`] when it belongs to a group.
    pub async fn bootstrap(&self, addr: &str) -> Result<(), Error> {
        self.inner.core.initialize(addr).await?;
        let leads = self.inner.core.wait_for(ALONE_TIMEOUT, |o| {
            o.failure.is_some() || (o.leads && o.last_applied >= o.last_log && o.last_log > 0)
        });
        if !leads.await {
            let waited_ms = u64::try_from(ALONE_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
            return Err(Error::Timeout {
                what: "the first election",
                waited_ms,
            });
        }
        self.inner.wait_status(ALONE_TIMEOUT, |s| s.is_leader).await;
        self.inner.check_running()
    }

    /// Whether the member belongs to a group, or has been spoken to by one.
    ///
    /// # Errors
    /// The member has stopped.
    pub async fn is_initialized(&self) -> Result<bool, Error> {
        self.inner.core.is_initialized().await
    }

    /// What the member knows about itself and its group, and every change of it.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.status.clone()
    }

    /// Starts taking a snapshot now, unless one is being taken; the log is shortened afterwards.
    ///
    /// # Errors
    /// The member has stopped.
    pub async fn snapshot_now(&self) -> Result<(), Error> {
        self.inner.core.snapshot().await
    }

    /// Seals log and snapshot again with `key`; from then on nothing on disk opens with an older key.
    ///
    /// The caller keeps both keys until this returns, and after a crash in between gives the new one
    /// as [`Options::pending_key`] and rotates again.
    ///
    /// # Errors
    /// The disk; both keys are then still needed.
    pub async fn rotate_key(&self, key: DataKey) -> Result<(), Error> {
        self.rotate_key_telling(key, Arc::new(|_| ())).await
    }

    /// The same, calling `told` after each step that changed the disk: a copy of the directory taken
    /// there is what a crash at that moment leaves.
    ///
    /// # Errors
    /// As for [`rotate_key`](Self::rotate_key).
    pub async fn rotate_key_telling(
        &self,
        key: DataKey,
        told: Arc<dyn Fn(&'static str) + Send + Sync>,
    ) -> Result<(), Error> {
        let inner = &self.inner;
        let older = {
            let mut keys = inner.keys();
            let older = keys.clone();
            keys.push(key.clone());
            older
        };
        inner.keyring.replace(Sealer::new(&key, &older));
        let resealed = inner
            .wal
            .run(|done| Command::Reseal(Arc::clone(&told), done))
            .await;
        resealed.map_err(io_error("seal again the log in", &inner.options.dir))?;
        let snapshots = inner.snapshots.clone();
        tokio::task::spawn_blocking(move || snapshots.reseal(&*told))
            .await
            .map_err(|e| Error::Failed {
                reason: broken_off("sealing again", &e),
            })??;
        inner.keyring.replace(Sealer::new(&key, &[]));
        *inner.keys() = vec![key];
        Ok(())
    }

    /// The service that the other members call. Who may call it is the caller's business.
    #[must_use]
    pub fn grpc_service(&self) -> RaftServer<GrpcService> {
        RaftServer::new(GrpcService::new(self.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Stops the member and closes its files; the directory can be opened again when this returns.
    /// Other clones then fail with [`Error::Stopped`].
    ///
    /// A leader should [transfer leadership](Self::transfer_leadership) first: the others then go on
    /// within milliseconds instead of an election timeout.
    pub async fn shutdown(self) {
        let inner = &self.inner;
        inner.token.cancel();
        inner.core.shutdown().await;
        inner.tasks.close();
        inner.tasks.wait().await;
        // Fails only when the log has failed before, which has been told.
        inner.wal.run(Command::Close).await.ok();
    }
}

/// Why blocking work has no result. What a panic said is not repeated: it may hold what is secret.
fn broken_off(doing: &str, error: &tokio::task::JoinError) -> String {
    let how = if error.is_panic() {
        "panicked"
    } else {
        "was cancelled"
    };
    format!("{doing} {how}")
}

struct Opened {
    recovered: recover::Recovered,
    wal: Wal,
    snapshots: SnapshotFile,
}

fn open(options: &Options, keyring: &Keyring) -> Result<Opened, Error> {
    let dir = &options.dir;
    let mut backend = log::open(options.backend, dir)?;
    let recovered = recover::recover(&mut *backend, &keyring.sealer(), dir, options.member_id)?;
    let snapshots = SnapshotFile::open(dir, keyring.clone())?;
    let wal = Wal::spawn(backend, keyring.clone(), &recovered)
        .map_err(io_error("start a thread for the log in", dir))?;
    Ok(Opened {
        recovered,
        wal,
        snapshots,
    })
}

impl Inner {
    fn keys(&self) -> std::sync::MutexGuard<'_, Vec<DataKey>> {
        self.keys
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Publishes the status whenever it changes.
    fn spawn_observer(&self, status: watch::Sender<Status>) {
        let (core, facts, token) = (
            self.core.clone(),
            Arc::clone(&self.facts),
            self.token.clone(),
        );
        let wal = self.wal.clone();
        let contact = Duration::from_millis(self.options.contact_ms());
        let period = Duration::from_millis(self.options.heartbeat_ms);
        self.tasks.spawn(async move {
            let mut changes = core.changes();
            let mut evicted = facts.evicted();
            let mut may_elect = true;
            loop {
                let mut now = core.status(contact);
                // The log knows better than the library what went wrong.
                if let (Condition::Failed { reason }, Some(why)) =
                    (&mut now.condition, wal.failure())
                {
                    *reason = why;
                }
                if may_elect && *evicted.borrow_and_update() {
                    may_elect = false;
                    core.forbid_elections();
                }
                let alone = now.is_leader && now.members.len() == 1;
                core.keep_time(!alone);
                let pause = if alone { ALONE_PERIOD } else { period };
                status.send_if_modified(|last| {
                    let changed = *last != now;
                    *last = now;
                    changed
                });
                tokio::select! {
                    () = token.cancelled() => break,
                    () = core.changed(&mut changes) => {}
                    Ok(()) = evicted.changed() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
            status.send_modify(|last| {
                if !matches!(last.condition, Condition::Failed { .. }) {
                    last.condition = Condition::Stopped;
                }
                last.is_leader = false;
                last.leader = None;
            });
        });
    }

    /// Asks for a snapshot when the log has grown by many bytes.
    fn spawn_compaction(&self) {
        let (core, facts, token) = (
            self.core.clone(),
            Arc::clone(&self.facts),
            self.token.clone(),
        );
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = token.cancelled() => return,
                    () = facts.compaction_due() => {}
                }
                if core.snapshot().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Waits until the published status satisfies `wanted`; tells whether it did in time.
    pub(crate) async fn wait_status(
        &self,
        timeout: Duration,
        wanted: impl FnMut(&Status) -> bool,
    ) -> bool {
        let mut status = self.status.clone();
        let wait = status.wait_for(wanted);
        matches!(tokio::time::timeout(timeout, wait).await, Ok(Ok(_)))
    }

    /// # Errors
    /// Why the member does not take part any more.
    pub(crate) fn check_running(&self) -> Result<(), Error> {
        if self.token.is_cancelled() {
            return Err(Error::Stopped);
        }
        if *self.facts.evicted().borrow() {
            return Err(Error::MemberRemoved {
                id: self.facts.member_id(),
            });
        }
        match &self.status.borrow().condition {
            Condition::Failed { reason } => Err(Error::Failed {
                reason: reason.clone(),
            }),
            Condition::Stopped => Err(Error::Stopped),
            Condition::Removed => Err(Error::MemberRemoved {
                id: self.facts.member_id(),
            }),
            Condition::Running => Ok(()),
        }
    }
}
