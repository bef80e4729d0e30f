//! The identity on disk: three files that change together, whatever moment a crash picks.
//!
//! The key file is the commit point. Certificate and roots are first staged under `.new`; then the
//! key is renamed into place; then the staged files are. After a crash the staged certificate
//! belongs to the key on disk (then the change is completed) or it does not (then it is undone).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::certificate::{certificates, parse_leaf};
use crate::{Error, Identity, KeyFile, KeyFileError, PrivateKey, RootBundle};

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
        };
        step::make_dir(&files.dir, DIR_MODE)
            .map_err(|source| io_error("make directory", &files.dir, source))?;
        for step in files.plan_recovery()? {
            files.run(&step)?;
        }
        files.tighten_key()?;
        Ok(files)
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
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        for step in self.plan_save(identity)? {
            self.run(&step)?;
        }
        Ok(())
    }

    /// The key file with its headers, or `None` when this node has none.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn key_file(&self) -> Result<Option<KeyFile>, FilesError> {
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
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = self.key_file()?.ok_or_else(|| FilesError::Missing {
            path: self.dir.join(NODE_KEY),
        })?;
        change(&mut key).map_err(|source| self.bad_key_file(source))?;
        for step in step::replace(NODE_KEY, NODE_KEY, KEY_MODE, key.to_text().as_bytes()) {
            self.run(&step)?;
        }
        self.run(&Step::SyncDir)
    }

    /// Forgets the identity, key first, as leaving the cluster asks for.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn remove(&self) -> Result<(), FilesError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
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
        let key = match self.key_file()? {
            Some(mut key) => key.set_key_pem(&key_pem).map(|()| key),
            None => KeyFile::parse(&key_pem),
        }
        .map_err(|source| self.bad_key_file(source))?;
        let (roots, chain) = (identity.roots().pem(), identity.chain_pem().as_bytes());
        let mut steps = Vec::new();
        // The staged roots come first: whoever finds a staged certificate finds its roots too.
        steps.extend(step::replace(ROOT_CERT, ROOT_CERT_STAGED, CERT_MODE, roots));
        steps.push(Step::SyncDir);
        steps.extend(step::replace(NODE_CERT, NODE_CERT_STAGED, CERT_MODE, chain));
        steps.push(Step::SyncDir);
        steps.extend(step::replace(
            NODE_KEY,
            NODE_KEY,
            KEY_MODE,
            key.to_text().as_bytes(),
        ));
        steps.push(Step::SyncDir);
        steps.extend(complete(true));
        Ok(steps)
    }

    /// What an interrupted save left to do.
    fn plan_recovery(&self) -> Result<Vec<Step>, FilesError> {
        let mut steps: Vec<_> = [ROOT_CERT, NODE_CERT, NODE_KEY]
            .map(|name| Step::Remove {
                name: step::tmp_of(name),
            })
            .into();
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

    /// Whether the key on disk is the one of this chain. A locked key is never: it cannot be read,
    /// and its file is not changed before it is unlocked.
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
