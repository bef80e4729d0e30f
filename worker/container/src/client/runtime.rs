//! Makes containers and finds those that are there.

use super::connection::Connection;
use super::container::Container;
use super::program::{ShimProgram, ShimSource};
use super::{Error, reap};
use crate::cgroup::Hierarchies;
use crate::control::{self, Reply};
use crate::error::{Fault, Step};
use crate::private::Private;
use crate::spec::ContainerSpec;
use crate::state::{self, Config, MADE_FILE};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Longest container id; it names a directory and a cgroup.
const ID_BYTES_MAX: usize = 64;

/// Settings of a [`Runtime`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// The shim program.
    pub shim: ShimSource,
    /// Directory that holds one directory per container; made when missing, mode 0700. Its file
    /// system must be able to hold overlayfs's upper layers.
    pub state_dir: PathBuf,
    /// The cgroup, relative to the root of each hierarchy, below which containers get theirs. Nodes
    /// that share a machine need different ones.
    pub cgroup_parent: String,
}

/// Makes containers and finds those that are there. Clones share everything.
#[derive(Debug, Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    program: ShimProgram,
    state_dir: PathBuf,
    cgroup_parent: String,
    pub(super) hierarchies: Hierarchies,
}

impl Runtime {
    /// Loads the shim, makes the state directory and looks where the cgroups are. Blocks for a few
    /// milliseconds.
    pub fn new(options: RuntimeOptions) -> Result<Self, Error> {
        let RuntimeOptions {
            shim,
            state_dir,
            cgroup_parent,
        } = options;
        if cgroup_parent.is_empty() || !cgroup_parent.split('/').all(is_valid_id) {
            return Err(Error::InvalidId(cgroup_parent));
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&state_dir)
            .map_err(Error::io("make the state directory", &state_dir))?;
        let state_dir = state_dir
            .canonicalize()
            .map_err(Error::io("resolve the state directory", &state_dir))?;
        let hierarchies = Hierarchies::detect().map_err(|fault| Error::Fault {
            id: String::from("-"),
            fault,
        })?;
        let program = ShimProgram::load(&shim)?;
        Ok(Self {
            shared: Arc::new(Shared {
                program,
                state_dir,
                cgroup_parent,
                hierarchies,
            }),
        })
    }

    /// Makes a container, up to the point where its program could be executed.
    ///
    /// Its namespaces exist from here on (`/proc/PID/ns/net` of [`Container::pid`]). If this fails,
    /// nothing is left. If the future is dropped, the container may come to be: [`Self::attach`]
    /// finds it.
    pub async fn create(&self, id: &str, spec: &ContainerSpec) -> Result<Container, Error> {
        self.create_with(id, spec, Private::default()).await
    }

    /// Like [`Self::create`], with what no file keeps.
    pub async fn create_with(
        &self,
        id: &str,
        spec: &ContainerSpec,
        private: Private,
    ) -> Result<Container, Error> {
        if !is_valid_id(id) {
            return Err(Error::InvalidId(id.to_owned()));
        }
        let config = Config {
            id: id.to_owned(),
            cgroup_parent: self.shared.cgroup_parent.clone(),
            spec: spec.clone(),
        };
        let dir = self.shared.dir(id);
        let shared = Arc::clone(&self.shared);
        let started = blocking(move || {
            shared
                .make_dir(&config)
                .and_then(|dir| shared.start_shim(&dir, &private, &config))
        });
        let answer = match started.await {
            Ok(socket) => first_answer(socket).await,
            Err(Error::Exists(id)) => return Err(Error::Exists(id)),
            Err(error) => {
                self.discard(id, dir).await;
                return Err(error);
            }
        };
        let fault = match answer {
            Ok(Reply::State { pid, .. }) => {
                return Ok(Container::new(Arc::clone(&self.shared), id, pid));
            }
            Ok(Reply::Failed { fault }) => fault,
            Ok(other @ (Reply::Done | Reply::Exited { .. } | Reply::Executed { .. })) => {
                Fault::refuse(Step::Shim, id, format!("unexpected answer {other:?}"))
            }
            Err(error) => Fault::refuse(Step::Shim, id, reap::last_words(&dir, &error)),
        };
        self.discard(id, dir).await;
        Err(Error::Fault {
            id: id.to_owned(),
            fault,
        })
    }

    /// Finds a container made earlier, by this process or one before it. `None` when there is none.
    ///
    /// If its shim has died, what is left of it is cleared away first, and the container is found
    /// exited with [`Step::ShimDied`].
    pub async fn attach(&self, id: &str) -> Result<Option<Container>, Error> {
        if !is_valid_id(id) {
            return Err(Error::InvalidId(id.to_owned()));
        }
        let dir = self.shared.dir(id);
        if !dir.join(MADE_FILE).exists() {
            return Ok(None);
        }
        let pid = match state::read::<state::State>(&dir, state::STATE_FILE) {
            Ok(Some(state)) => state.init.pid,
            Ok(None) | Err(_) => 0,
        };
        let container = Container::new(Arc::clone(&self.shared), id, pid);
        container.settle_if_orphaned().await?;
        Ok(Some(container))
    }

    /// The ids of all containers that have a directory, in no order.
    pub fn list(&self) -> Result<Vec<String>, Error> {
        let state_dir = &self.shared.state_dir;
        let failed = || Error::io("list containers in", state_dir);
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(state_dir).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if entry.path().join(MADE_FILE).exists()
                && let Ok(id) = entry.file_name().into_string()
            {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Removes the cgroup that held all containers, if none is left in it. For a node that leaves.
    pub fn remove_cgroup_parent(&self) -> Result<(), Error> {
        self.shared
            .hierarchies
            .remove_parent(&self.shared.cgroup_parent)
            .map_err(|fault| Error::Fault {
                id: String::from("-"),
                fault,
            })
    }

    /// Clears away a container that never came to be.
    async fn discard(&self, id: &str, dir: PathBuf) {
        let (shared, name) = (Arc::clone(&self.shared), id.to_owned());
        let cleared = blocking(move || reap::clear(&shared, &name, &dir)).await;
        if let Err(error) = cleared {
            tracing::warn!(container = id, %error, "could not clear away a failed container");
        }
    }
}

impl Shared {
    pub(super) fn dir(&self, id: &str) -> PathBuf {
        self.state_dir.join(id)
    }

    pub(super) fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    fn make_dir(&self, config: &Config) -> Result<PathBuf, Error> {
        let dir = self.dir(&config.id);
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists(config.id.clone()));
            }
            Err(error) => return Err(Error::io("make", dir)(error)),
        }
        std::fs::write(dir.join(MADE_FILE), "").map_err(Error::io("mark", &dir))?;
        Ok(dir)
    }

    /// Starts the shim and waits until it has left this process's children. Returns our end of its
    /// standard input.
    fn start_shim(
        &self,
        dir: &Path,
        private: &Private,
        config: &Config,
    ) -> Result<BlockingUnixStream, Error> {
        let failed = || Error::io("start the shim of", dir);
        let (ours, theirs) = BlockingUnixStream::pair().map_err(failed())?;
        let status = Command::new(self.program.path())
            .arg0("swarm-shim")
            .arg(dir)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(failed())?;
        if !status.success() {
            return Err(failed()(std::io::Error::other(status.to_string())));
        }
        // A shim that is gone by now has left its last words, which say more.
        let told = private
            .send(&ours)
            .and_then(|()| (&ours).write_all(&control::line(config)));
        if let Err(error) = told {
            tracing::debug!(dir = %dir.display(), %error, "the shim was not told what to make");
        }
        Ok(ours)
    }
}

async fn first_answer(socket: BlockingUnixStream) -> std::io::Result<Reply> {
    socket.set_nonblocking(true)?;
    Connection::new(tokio::net::UnixStream::from_std(socket)?)
        .answer()
        .await
}

/// Runs something that touches files or waits for a process off the async threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels blocking work, and it drops the waiter first.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Whether an id can name a directory and a cgroup.
fn is_valid_id(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(fits) && !id.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::is_valid_id;

    #[test]
    fn ids_that_could_leave_the_directory_are_refused() {
        for (id, valid) in [
            ("a", true),
            ("task-1.x_Y", true),
            ("", false),
            (".", false),
            ("..", false),
            (".hidden", false),
            ("a/b", false),
            ("a b", false),
            ("ä", false),
            (&"x".repeat(64), true),
            (&"x".repeat(65), false),
        ] {
            assert_eq!(is_valid_id(id), valid, "{id}");
        }
    }
}
