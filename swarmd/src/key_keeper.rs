//! Keeps a manager's key file as the cluster wants it: locked or not, its data keys replaced in time.
//!
//! Level-triggered: whatever the cluster's object says that the file's counters do not, is done.

use std::sync::Arc;
use std::time::Duration;

use ca::{DataKey, KeyFile, KeyFileError, NodeFiles, UnlockKey};
use raft::Raft;
use store::Store;
use tokio::sync::Notify;
use types::Timestamp;
use types::cluster::ClusterLock;

use crate::Error;
use crate::error::chain;

/// Life of the key that seals the log, like that of a certificate: what was copied from a disk with
/// a key in clear opens nothing written later.
const DATA_KEY_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Longest pause between two looks at the age of the data key.
const LOOK_PAUSE: Duration = Duration::from_secs(3600);
/// Pause before something that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Is told what has just changed on disk.
pub(crate) type Told = Arc<dyn Fn(&'static str) + Send + Sync>;

/// What the key file says it has followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kept {
    key_version: u64,
    data_key_epoch: u64,
    data_key_made: u64,
    is_rotating: bool,
}

/// What is to be done to the key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    relock: bool,
    rotate: bool,
}

fn due(kept: &Kept, wanted: &ClusterLock, now: Timestamp) -> Due {
    let age = seconds(now).saturating_sub(kept.data_key_made);
    Due {
        relock: wanted.key_version > kept.key_version,
        rotate: kept.is_rotating
            || wanted.data_key_epoch > kept.data_key_epoch
            || age >= DATA_KEY_LIFE.as_secs(),
    }
}

fn seconds(now: Timestamp) -> u64 {
    now.0 / 1_000_000_000
}

impl Kept {
    fn of(file: &KeyFile) -> Result<Self, KeyFileError> {
        Ok(Self {
            key_version: file.kek_version()?,
            data_key_epoch: file.data_key_epoch()?,
            data_key_made: file.data_key_made()?,
            is_rotating: file.raft_dek_pending()?.is_some(),
        })
    }
}

/// The keys of a manager's disk, and who changes them.
#[derive(Clone)]
pub(crate) struct KeyKeeper {
    pub(crate) files: NodeFiles,
    pub(crate) raft: Raft,
    /// Called after each step; does nothing but in tests.
    pub(crate) told: Told,
}

impl KeyKeeper {
    /// Follows the cluster until it is dropped. `exposed` is notified when the node's private key
    /// is to be replaced, because it lay on disk in clear or under a former unlock key.
    pub(crate) async fn run(self, store: Store, exposed: Arc<Notify>) {
        let mut watch = store.watch();
        let mut kept = None;
        loop {
            let wanted = store.state().cluster().map(|cluster| cluster.lock.clone());
            let pause = match wanted {
                None => LOOK_PAUSE,
                Some(wanted) => match self.follow(&mut kept, &wanted, &exposed).await {
                    Ok(()) => LOOK_PAUSE,
                    Err(error) => {
                        tracing::error!(error = chain(&error), "the key file was not changed");
                        kept = None;
                        RETRY_PAUSE
                    }
                },
            };
            tokio::select! {
                _ = watch.next() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn follow(
        &self,
        known: &mut Option<Kept>,
        wanted: &ClusterLock,
        exposed: &Notify,
    ) -> Result<(), Error> {
        let kept = match known {
            Some(kept) => *kept,
            None => self.read().await?,
        };
        *known = Some(kept);
        let due = due(&kept, wanted, Timestamp::now());
        if due.relock {
            self.relock(wanted).await?;
            if !wanted.unlock_key.is_empty() {
                exposed.notify_one();
            }
            *known = None;
        }
        if due.rotate {
            let epoch = wanted.data_key_epoch.max(kept.data_key_epoch);
            self.rotate_data_key(epoch, Timestamp::now()).await?;
            *known = None;
        }
        Ok(())
    }

    async fn read(&self) -> Result<Kept, Error> {
        self.on_disk(|files| {
            let file = files.key_file()?;
            let kept = file.as_ref().map_or(Ok(Kept::default()), Kept::of);
            kept.map_err(|source| key_file_error(files, source))
        })
        .await
    }

    /// Locks the file with the cluster's unlock key, or ends the lock.
    async fn relock(&self, wanted: &ClusterLock) -> Result<(), Error> {
        let key: Option<UnlockKey> = match wanted.unlock_key.as_str() {
            "" => None,
            text => Some(text.parse()?),
        };
        let (version, is_locked) = (wanted.key_version, key.is_some());
        self.on_disk(move |files| {
            files.relock(key.as_ref(), |file| {
                file.set_kek_version(version);
                if is_locked {
                    file.set_wants_renewal(true);
                }
                Ok(())
            })
        })
        .await?;
        (self.told)("the key file was locked anew");
        tracing::info!(
            version,
            is_locked,
            "the lock of this manager's keys changed"
        );
        Ok(())
    }

    /// Replaces the key that seals log and snapshot. Both keys are in the key file while records
    /// under either may be on disk; a rotation that was broken off goes on with the key it had.
    async fn rotate_data_key(&self, epoch: u64, now: Timestamp) -> Result<(), Error> {
        let key = self
            .on_disk(|files| {
                let file = files.key_file()?;
                let pending = file.map(|file| file.raft_dek_pending()).transpose();
                if let Some(pending) = pending
                    .map_err(|source| key_file_error(files, source))?
                    .flatten()
                {
                    return Ok(pending);
                }
                let key = DataKey::generate().map_err(|source| unusable(files, source))?;
                files.update_headers(|file| {
                    file.set_raft_dek_pending(Some(&key));
                    Ok(())
                })?;
                Ok(key)
            })
            .await?;
        (self.told)("the next data key was written down");
        let raft_key = raft::DataKey::new(*key.bytes());
        self.raft
            .rotate_key_telling(raft_key, Arc::clone(&self.told))
            .await?;
        self.on_disk(move |files| {
            files.update_headers(|file| {
                file.set_raft_dek(Some(&key));
                file.set_raft_dek_pending(None);
                file.set_data_key_epoch(epoch);
                file.set_data_key_made(seconds(now));
                Ok(())
            })
        })
        .await?;
        (self.told)("the former data key was forgotten");
        tracing::info!(epoch, "log and snapshot are sealed with a new key");
        Ok(())
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&NodeFiles) -> Result<T, ca::FilesError> + Send + 'static,
    ) -> Result<T, Error> {
        on_disk(&self.files, work).await
    }
}

async fn on_disk<T: Send + 'static>(
    files: &NodeFiles,
    work: impl FnOnce(&NodeFiles) -> Result<T, ca::FilesError> + Send + 'static,
) -> Result<T, Error> {
    let files = files.clone();
    let done = tokio::task::spawn_blocking(move || work(&files));
    Ok(done.await.map_err(|_| Error::Stopping)??)
}

/// The keys that open log and snapshot, a new one when there is none (S10.12): the one they were
/// sealed with, and the one of a rotation that has begun.
pub(crate) async fn data_keys(
    files: &NodeFiles,
    now: Timestamp,
) -> Result<(raft::DataKey, Option<raft::DataKey>), Error> {
    let (key, pending) = on_disk(files, move |files| {
        let read = || -> Result<_, KeyFileError> {
            let Some(file) = files.key_file().map_err(|_| KeyFileError::Locked)? else {
                return Ok((None, None));
            };
            Ok((file.raft_dek()?, file.raft_dek_pending()?))
        };
        let (kept, pending) = read().map_err(|source| key_file_error(files, source))?;
        if let Some(key) = kept {
            return Ok((key, pending));
        }
        let key = DataKey::generate().map_err(|source| unusable(files, source))?;
        files.update_headers(|file| {
            file.set_raft_dek(Some(&key));
            file.set_data_key_made(seconds(now));
            Ok(())
        })?;
        Ok((key, pending))
    })
    .await?;
    let for_raft = |key: DataKey| raft::DataKey::new(*key.bytes());
    Ok((for_raft(key), pending.map(for_raft)))
}

fn key_file_error(files: &NodeFiles, source: KeyFileError) -> ca::FilesError {
    ca::FilesError::KeyFile {
        path: files.dir().to_owned(),
        source,
    }
}

fn unusable(files: &NodeFiles, source: ca::Error) -> ca::FilesError {
    ca::FilesError::Identity {
        dir: files.dir().to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
