//! Has encrypted networks carried by the process that outlives the daemon, with keys of this node.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datapath_client::Datapath;
use network::Network;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tunnel::{Desired, PrivateKey};
use types::Timestamp;

use crate::key_ring::{KeyFile, KeyRing, KeyTiming};

/// How long the process may take to take up what it is to carry.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pause before it is told again what it could not do.
const RETRY: Duration = Duration::from_secs(2);

type PublicKeys = Vec<[u8; 32]>;

/// Encrypted networks of this node.
pub(crate) struct Encryption {
    /// What others are to be told.
    keys: watch::Receiver<PublicKeys>,
    /// What they were told last.
    described: Mutex<PublicKeys>,
    /// What managers know of it.
    known: watch::Sender<PublicKeys>,
    /// How often the node has left a swarm.
    left: watch::Sender<u64>,
    _ends: DropGuard,
}

impl Encryption {
    /// Takes up the keys in `run_dir`, or makes some. Needs an async runtime.
    pub(crate) fn start(
        network: Network,
        datapath: Datapath,
        (run_dir, timing): (&Path, KeyTiming),
        tracker: &TaskTracker,
    ) -> Self {
        let file = KeyFile::in_dir(run_dir);
        let ring = file.read().unwrap_or_else(|| {
            let ring = KeyRing::new(PrivateKey::generate(), Timestamp::now());
            keep(&file, &ring);
            ring
        });
        let (told, keys) = watch::channel(public(&ring));
        let (known, known_here) = watch::channel(PublicKeys::new());
        let (left, left_here) = watch::channel(0);
        let teller = Teller {
            carried: network.encryption(),
            connections: datapath.connections(),
            network,
            datapath,
            file,
            ring,
            timing,
            told,
            known: known_here,
            left: left_here,
            connection: 0,
            said: None,
            has_failed: false,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tracker.spawn(async move {
            stopped.run_until_cancelled(teller.run()).await;
        });
        Self {
            keys,
            described: Mutex::default(),
            known,
            left,
            _ends: stop.drop_guard(),
        }
    }

    /// Public keys for others, the one to send to first.
    pub(crate) fn describe(&self) -> PublicKeys {
        let keys = self.keys.borrow().clone();
        self.lock_described().clone_from(&keys);
        keys
    }

    /// Waits until others have to be told of keys.
    pub(crate) async fn described_anew(&self) {
        let mut keys = self.keys.clone();
        let is_new = |keys: &PublicKeys| *keys != *self.lock_described();
        let is_over = keys.wait_for(is_new).await.is_err();
        if is_over {
            std::future::pending::<()>().await;
        }
    }

    /// Takes note of what managers know of this node.
    pub(crate) fn set_known(&self, keys: PublicKeys) {
        self.known.send_if_modified(|known| {
            let is_new = *known != keys;
            *known = keys;
            is_new
        });
    }

    /// Makes other keys, as the node is another one from now on.
    pub(crate) fn leave(&self) {
        self.left.send_modify(|count| *count += 1);
    }

    fn lock_described(&self) -> std::sync::MutexGuard<'_, PublicKeys> {
        // Nothing panics while it holds the lock; each change is a single one.
        self.described
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn public(ring: &KeyRing) -> PublicKeys {
    ring.public().into_iter().map(|key| key.0).collect()
}

fn keep(file: &KeyFile, ring: &KeyRing) {
    if let Err(error) = file.write(ring) {
        // They are of use as long as this daemon runs; the next one makes others.
        tracing::error!(%error, "the keys of encrypted networks are not kept");
    }
}

/// What tells the process, whenever something changes.
struct Teller {
    network: Network,
    datapath: Datapath,
    file: KeyFile,
    ring: KeyRing,
    timing: KeyTiming,
    carried: watch::Receiver<Option<Arc<Desired>>>,
    told: watch::Sender<PublicKeys>,
    known: watch::Receiver<PublicKeys>,
    left: watch::Receiver<u64>,
    connections: watch::Receiver<u64>,
    /// The last connection to the process.
    connection: u64,
    /// What the process carries; `None` while that is not known.
    said: Option<Desired>,
    /// Whether it refused what it was told last.
    has_failed: bool,
}

impl Teller {
    async fn run(mut self) {
        loop {
            let now = Timestamp::now();
            if self.left.has_changed().unwrap_or(false) {
                self.left.mark_unchanged();
                self.ring = KeyRing::new(PrivateKey::generate(), now);
                self.keep();
            }
            let known = self.known.borrow_and_update().clone();
            if self
                .ring
                .advance(now, &known, self.timing, PrivateKey::generate)
            {
                self.keep();
                tracing::info!(keys = ?self.ring.public(), "the keys of encrypted networks changed");
            }
            let connection = *self.connections.borrow_and_update();
            if std::mem::replace(&mut self.connection, connection) != connection {
                // Perhaps to another process, which has other devices.
                self.said = None;
            }
            let carried = self.carried.borrow_and_update().clone();
            // What an earlier daemon had carried goes on until it is known what should be.
            if let Some(carried) = carried {
                self.say(&carried).await;
            }
            let due = self
                .ring
                .due_at(self.timing)
                .map(|at| at.since(Timestamp::now()));
            let retry = self.has_failed.then_some(RETRY);
            let next = due.into_iter().chain(retry).min();
            tokio::select! {
                changed = self.carried.changed() => if changed.is_err() {
                    return;
                },
                changed = self.known.changed() => if changed.is_err() {
                    return;
                },
                changed = self.left.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.left.mark_changed();
                }
                changed = self.connections.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(next.unwrap_or_default()), if next.is_some() => {}
            }
        }
    }

    /// Kept before anybody hears of it.
    fn keep(&self) {
        keep(&self.file, &self.ring);
        self.told.send_replace(public(&self.ring));
    }

    async fn say(&mut self, carried: &Desired) {
        let desired = Desired {
            keys: self.ring.secrets(),
            ..carried.clone()
        };
        if self.said.as_ref() == Some(&desired) {
            return;
        }
        let said = self.datapath.set_tunnel(Arc::new(desired.clone()));
        let said = tokio::time::timeout(PATIENCE, said).await;
        let problem = match said {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the datapath process does not answer".to_owned()),
        };
        if let Some(problem) = &problem
            && !self.has_failed
        {
            tracing::warn!(problem, "encrypted networks are not carried to other nodes");
        }
        self.has_failed = problem.is_some();
        if problem.is_none() {
            let devices = |of: &Desired| -> Vec<u32> {
                of.networks.iter().map(|network| network.vni).collect()
            };
            let before = self.said.replace(desired.clone());
            let has_new = Some(devices(&desired)) != before.as_ref().map(devices);
            if has_new && let Err(error) = self.network.look_again().await {
                tracing::warn!(%error, "the devices of encrypted networks are taken up later");
            }
        }
    }
}
