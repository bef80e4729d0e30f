//! The identity on disk: three files that change together, whatever moment a crash picks.
//!
//! The key file is the commit point. Certificate and roots are first staged under `.new`; then the
//! key is renamed into place; then the staged files are. After a crash the staged certificate
//! belongs to the key on disk (then the change is completed) or it does not (then it is undone).
//! While the key file is locked nobody can tell which, so that waits for the unlock key.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use types::NodeRole;
use zeroize::Zeroizing;

use crate::certificate::{certificates, parse_leaf};
use crate::{Error, Identity, KeyFile, KeyFileError, PrivateKey, RootBundle, Subject, UnlockKey};

mod step;

use step::Step;

const ROOT_CERT: &str = "swarm-root-ca.crt";
const NODE_CERT: &str = "swarm-node.crt";
const NODE_KEY: &str = "swarm-node.key";
const ROOT_CERT_STAGED: &str = "swarm-root-ca.crt.new";
const NODE_CERT_STAGED: &str = "swarm-node.crt.new";

/// Readable by everybody: certificates are public.
const CERT_MODE: u32 = 0o644;
/// Readable by the daemon's user alone.
const KEY_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Why the identity on disk cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The file system said no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Some of the three files are there and some are not.
    #[error("{} is missing although other files of the node's identity are there", path.display())]
    Missing {
        /// The missing file.
        path: PathBuf,
    },
    /// The key file is damaged.
    #[error("cannot use {}", path.display())]
    KeyFile {
        /// The key file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: KeyFileError,
    },
    /// The files are readable but do not make an identity.
    #[error("the node's identity in {} is not usable", dir.display())]
    Identity {
        /// The directory.
        dir: PathBuf,
        /// The reason.
        #[source]
        source: Error,
    },
}

/// The directory with `swarm-root-ca.crt`, `swarm-node.crt` and `swarm-node.key`.
///
/// Cheap to clone; all clones share one lock, so that a renewal and a change of data keys cannot
/// lose each other's writes. Calls block on the disk. Only one process may use a directory.
#[derive(Clone, Debug)]
pub struct NodeFiles {
    dir: PathBuf,
    writer: Arc<Mutex<()>>,
    /// What the key file is locked with, once that is known.
    unlock_key: Arc<Mutex<Option<UnlockKey>>>,
}

impl NodeFiles {
    /// Opens the directory, makes it if needed (0700), and completes or undoes a change that a
    /// crash interrupted.
    ///
    /// # Errors
    /// When the directory cannot be made, read or written.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, FilesError> {
        let files = Self {
            dir: dir.into(),
            writer: Arc::default(),
            unlock_key: Arc::default(),
        };
        step::make_dir(&files.dir, DIR_MODE)
            .map_err(|source| io_error("make directory", &files.dir, source))?;
        files.recover()?;
        files.tighten_key()?;
        Ok(files)
    }

    fn recover(&self) -> Result<(), FilesError> {
        for step in self.plan_recovery()? {
            self.run(&step)?;
        }
        Ok(())
    }

    /// Whether the key file is locked and nobody has given the unlock key yet.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn is_locked(&self) -> Result<bool, FilesError> {
        let is_encrypted = self.stored()?.is_some_and(|file| file.is_locked());
        Ok(is_encrypted && self.held_key().is_none())
    }

    /// Takes the key the file is locked with; everything can be read from then on.
    ///
    /// # Errors
    /// [`KeyFileError::WrongKey`], or [`KeyFileError::NotLocked`] when there is nothing to unlock.
    pub fn unlock(&self, key: &UnlockKey) -> Result<(), FilesError> {
        let _writer = self.lock_writer();
        let stored = self.stored()?;
        let opened = stored.map_or(Err(KeyFileError::NotLocked), |file| file.unlock(key));
        opened.map_err(|source| self.bad_key_file(source))?;
        *self.held() = Some(key.clone());
        self.recover()
    }

    /// Locks the key file with another key, or with none, as `change` alters its headers: one step
    /// that a crash leaves done or not done.
    ///
    /// # Errors
    /// When there is no key file, when `change` fails, or when the disk says no.
    pub fn relock(
        &self,
        key: Option<&UnlockKey>,
        change: impl FnOnce(&mut KeyFile) -> Result<(), KeyFileError>,
    ) -> Result<(), FilesError> {
        let _writer = self.lock_writer();
        self.rewrite(key, change)?;
        *self.held() = key.cloned();
        Ok(())
    }

    /// Whom the certificate on disk speaks of, also while the key is locked; none without one.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn subject(&self) -> Result<Option<Subject>, FilesError> {
        let Some(chain) = self.read(NODE_CERT)? else {
            return Ok(None);
        };
        let subject = || {
            let chain = certificates("the node certificate", &chain)?;
            Ok::<_, Error>(parse_leaf(&chain[0])?.subject)
        };
        subject().map(Some).map_err(|source| self.unusable(source))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The identity on disk, or `None` when this node has none.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the parts do not belong together.
    pub fn load(&self) -> Result<Option<Identity>, FilesError> {
        let Some(key) = self.key_file()? else {
            return Ok(None);
        };
        let need = |name| {
            self.read(name)?.ok_or_else(|| FilesError::Missing {
                path: self.dir.join(name),
            })
        };
        let chain = need(NODE_CERT)?;
        let roots = need(ROOT_CERT)?;
        let identity = || {
            let key = PrivateKey::from_pem(&key.key_pem())?;
            Identity::new(
                key,
                &String::from_utf8_lossy(&chain),
                RootBundle::from_pem(&**roots)?,
            )
        };
        identity().map(Some).map_err(|source| self.unusable(source))
    }

    /// Writes an identity over the one on disk; the key file's headers stay.
    ///
    /// Durable when it returns. After a crash in between, the next [`NodeFiles::open`] finds
    /// either the old identity or the new one, whole.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn save(&self, identity: &Identity) -> Result<(), FilesError> {
        let _writer = self.lock_writer();
        for step in self.plan_save(identity)? {
            self.run(&step)?;
        }
        if identity.role() == NodeRole::Worker {
            *self.held() = None;
        }
        Ok(())
    }

    /// The key file with its headers, opened if it is locked; `None` when this node has none.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or is locked and nobody has given the key.
    pub fn key_file(&self) -> Result<Option<KeyFile>, FilesError> {
        let Some(file) = self.stored()? else {
            return Ok(None);
        };
        if !file.is_locked() {
            return Ok(Some(file));
        }
        let opened = match &*self.held() {
            Some(key) => file.unlock(key),
            None => Err(KeyFileError::Locked),
        };
        opened.map(Some).map_err(|source| self.bad_key_file(source))
    }

    /// The key file as it is on disk.
    fn stored(&self) -> Result<Option<KeyFile>, FilesError> {
        let Some(bytes) = self.read(NODE_KEY)? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes)
            .map_err(|e| KeyFileError::Pem(e.to_string()))
            .map_err(|source| self.bad_key_file(source))?;
        KeyFile::parse(text)
            .map(Some)
            .map_err(|source| self.bad_key_file(source))
    }

    /// Changes the headers of the key file, durably and in one step.
    ///
    /// # Errors
    /// When there is no key file yet, when `change` fails, or when the disk says no.
    pub fn update_headers(
        &self,
        change: impl FnOnce(&mut KeyFile) -> Result<(), KeyFileError>,
    ) -> Result<(), FilesError> {
        let _writer = self.lock_writer();
        self.rewrite(self.held_key().as_ref(), change)
    }

    /// Replaces the key file by a changed one; whoever calls holds the writer.
    fn rewrite(
        &self,
        lock: Option<&UnlockKey>,
        change: impl FnOnce(&mut KeyFile) -> Result<(), KeyFileError>,
    ) -> Result<(), FilesError> {
        let mut file = self.need_key_file()?;
        change(&mut file).map_err(|source| self.bad_key_file(source))?;
        for step in self.plan_key(&file, lock)? {
            self.run(&step)?;
        }
        Ok(())
    }

    /// Forgets the identity, key first, as leaving the cluster asks for.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn remove(&self) -> Result<(), FilesError> {
        let _writer = self.lock_writer();
        *self.held() = None;
        for name in [NODE_KEY, NODE_CERT, ROOT_CERT] {
            self.run(&Step::Remove {
                name: name.to_owned(),
            })?;
            self.run(&Step::SyncDir)?;
        }
        Ok(())
    }

    fn plan_save(&self, identity: &Identity) -> Result<Vec<Step>, FilesError> {
        let key_pem = identity.key().to_pem();
        let before = self.key_file()?;
        let is_new_key = before
            .as_ref()
            .is_none_or(|before| before.key_pem() != key_pem);
        let mut key = match before {
            Some(mut key) => key.set_key_pem(&key_pem).map(|()| key),
            None => KeyFile::parse(&key_pem),
        }
        .map_err(|source| self.bad_key_file(source))?;
        if is_new_key {
            key.set_wants_renewal(false);
        }
        let mut lock = self.held_key();
        if lock.is_some() && identity.role() == NodeRole::Worker {
            // The lock is the managers': a worker starts without anybody's help.
            key.set_kek_version(0);
            lock = None;
        }
        let (roots, chain) = (identity.roots().pem(), identity.chain_pem().as_bytes());
        let mut steps = Vec::new();
        // The staged roots come first: whoever finds a staged certificate finds its roots too.
        steps.extend(step::replace(ROOT_CERT, ROOT_CERT_STAGED, CERT_MODE, roots));
        steps.push(Step::SyncDir);
        steps.extend(step::replace(NODE_CERT, NODE_CERT_STAGED, CERT_MODE, chain));
        steps.push(Step::SyncDir);
        steps.extend(self.plan_key(&key, lock.as_ref())?);
        steps.extend(complete(true));
        Ok(steps)
    }

    /// Puts a key file in the place of the one there, locked with `lock`.
    fn plan_key(&self, key: &KeyFile, lock: Option<&UnlockKey>) -> Result<Vec<Step>, FilesError> {
        let text = match lock {
            Some(lock) => key.lock(lock).map(|locked| locked.to_text()),
            None => Ok(key.to_text()),
        }
        .map_err(|source| self.bad_key_file(source))?;
        let mut steps = Vec::from(step::replace(NODE_KEY, NODE_KEY, KEY_MODE, text.as_bytes()));
        steps.push(Step::SyncDir);
        Ok(steps)
    }

    /// What an interrupted save left to do.
    fn plan_recovery(&self) -> Result<Vec<Step>, FilesError> {
        let mut steps: Vec<_> = [ROOT_CERT, NODE_CERT, NODE_KEY]
            .map(|name| Step::Remove {
                name: step::tmp_of(name),
            })
            .into();
        if self.is_locked()? {
            return Ok(steps);
        }
        let roots_staged = self.read(ROOT_CERT_STAGED)?.is_some();
        let staged = self.read(NODE_CERT_STAGED)?;
        let is_committed = match &staged {
            Some(chain) => self.key_belongs_to(chain)?,
            None => false,
        };
        if is_committed {
            steps.extend(complete(roots_staged));
        } else {
            // The certificate goes first: staged roots alone mean nothing and are removed next time.
            steps.extend([
                Step::Remove {
                    name: NODE_CERT_STAGED.to_owned(),
                },
                Step::SyncDir,
                Step::Remove {
                    name: ROOT_CERT_STAGED.to_owned(),
                },
                Step::SyncDir,
            ]);
        }
        Ok(steps)
    }

    /// Whether the key on disk is the one of this chain.
    fn key_belongs_to(&self, chain: &[u8]) -> Result<bool, FilesError> {
        let Some(key) = self.key_file()? else {
            return Ok(false);
        };
        let belongs = || {
            let leaf = parse_leaf(&certificates("the staged certificate", chain)?[0])?;
            let key = PrivateKey::from_pem(&key.key_pem())?;
            Ok::<_, Error>(leaf.public_key_bits == key.public_key_bits())
        };
        belongs().map_err(|source| self.unusable(source))
    }

    /// A key file that others may read was copied there by hand; close it.
    fn tighten_key(&self) -> Result<(), FilesError> {
        let path = self.dir.join(NODE_KEY);
        match step::tighten(&path, KEY_MODE) {
            Ok(true) => {
                tracing::warn!(path = %path.display(), "key file was open to others, closed it");
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(source) => Err(io_error("set the mode of", &path, source)),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, FilesError> {
        let path = self.dir.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error("read", &path, source)),
        }
    }

    fn run(&self, step: &Step) -> Result<(), FilesError> {
        step.run(&self.dir)
            .map_err(|source| io_error(step.doing(), &self.dir.join(step.name()), source))
    }

    fn need_key_file(&self) -> Result<KeyFile, FilesError> {
        self.key_file()?.ok_or_else(|| FilesError::Missing {
            path: self.dir.join(NODE_KEY),
        })
    }

    fn lock_writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Option<UnlockKey>> {
        self.unlock_key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn held_key(&self) -> Option<UnlockKey> {
        self.held().clone()
    }

    fn bad_key_file(&self, source: KeyFileError) -> FilesError {
        FilesError::KeyFile {
            path: self.dir.join(NODE_KEY),
            source,
        }
    }

    fn unusable(&self, source: Error) -> FilesError {
        FilesError::Identity {
            dir: self.dir.clone(),
            source,
        }
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> FilesError {
    FilesError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// Moves the staged files into place, the certificate last: as long as it is staged, a crash
/// leads back here.
fn complete(roots_staged: bool) -> Vec<Step> {
    let rename = |from: &str, to: &str| Step::Rename {
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let mut steps = Vec::new();
    if roots_staged {
        steps.extend([rename(ROOT_CERT_STAGED, ROOT_CERT), Step::SyncDir]);
    }
    steps.extend([rename(NODE_CERT_STAGED, NODE_CERT), Step::SyncDir]);
    steps
}

#[cfg(test)]
mod tests;
