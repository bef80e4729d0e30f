//! A handle on one container.

use super::connection::Connection;
use super::runtime::{Shared, blocking};
use super::{Error, reap};
use crate::control::{Phase, Reply, Request};
use crate::error::Fault;
use crate::state::{self, EXIT_FILE, ExitStatus, LOG_DIR};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a shim that was just started has to make its socket, after its daemon was lost.
const SHIM_START_MAX: Duration = Duration::from_secs(2);
/// How often to look for it.
const SHIM_START_POLL: Duration = Duration::from_millis(10);

/// A handle on one container. Clones share it; dropping all of them leaves the container alone.
#[derive(Debug, Clone)]
pub struct Container {
    inner: Arc<Inner>,
}

/// How a further program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code; 128 and the signal's number if one ended it, and what a shell says when it
    /// could not be run.
    pub code: i32,
    /// The beginning of what it wrote; at most [`crate::control::EXEC_OUTPUT_BYTES_MAX`].
    pub output: String,
    /// It was killed because its time was over.
    pub timed_out: bool,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    id: String,
    dir: PathBuf,
    pid: i32,
}

impl Container {
    pub(super) fn new(shared: Arc<Shared>, id: &str, pid: i32) -> Self {
        let dir = shared.dir(id);
        Self {
            inner: Arc::new(Inner {
                shared,
                id: id.to_owned(),
                dir,
                pid,
            }),
        }
    }

    /// The id it was made with.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The first process's number on the machine; 0 when the container never had one. It means
    /// nothing once the container has ended.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.inner.pid
    }

    /// Directory of its output, for [`crate::log::Reader`].
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.inner.dir.join(LOG_DIR)
    }

    /// How far it has come.
    pub async fn phase(&self) -> Result<Phase, Error> {
        match self.ask(Request::State).await? {
            None => self.settle().await.map(|_| Phase::Exited),
            Some(Reply::State { phase, .. }) => Ok(phase),
            Some(other) => Err(self.unexpected(other)),
        }
    }

    /// Runs the program of a created container. An error with [`crate::Step::Exec`] means that the
    /// image has no such program or it cannot be executed; the container has then ended.
    pub async fn start(&self) -> Result<(), Error> {
        self.ask_done(Request::Start).await
    }

    /// Sends a signal to the first process.
    pub async fn signal(&self, signal: i32) -> Result<(), Error> {
        self.ask_done(Request::Signal { signal }).await
    }

    /// Kills it; [`Self::wait`] tells when it is gone.
    pub async fn kill(&self) -> Result<(), Error> {
        self.signal(libc::SIGKILL).await
    }

    /// Sends a signal, kills after the grace period, and waits for the end. The shim keeps the time,
    /// so the promise holds if this process ends meanwhile.
    pub async fn stop(&self, signal: i32, grace: Duration) -> Result<ExitStatus, Error> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        match self.ask_done(Request::Stop { signal, grace_ms }).await {
            Ok(()) | Err(Error::Ended(_)) => self.wait().await,
            Err(error) => Err(error),
        }
    }

    /// Runs a further program in the running container and waits for its end, at most `timeout`.
    pub async fn exec(&self, args: &[String], timeout: Duration) -> Result<Executed, Error> {
        let request = Request::Exec {
            args: args.to_vec(),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        };
        match self.ask(request).await? {
            Some(Reply::Executed {
                code,
                output,
                timed_out,
            }) => Ok(Executed {
                code,
                output,
                timed_out,
            }),
            Some(Reply::Failed { fault }) => Err(self.failed(fault)),
            Some(Reply::Exited { .. }) => Err(Error::Ended(self.inner.id.clone())),
            Some(other) => Err(self.unexpected(other)),
            None => {
                self.settle().await?;
                Err(Error::Ended(self.inner.id.clone()))
            }
        }
    }

    /// Waits for the end. Any number of callers may; after the end it answers at once.
    pub async fn wait(&self) -> Result<ExitStatus, Error> {
        match self.exit_status()? {
            Some(status) if status.is_of_dead_shim() => return self.settle().await,
            Some(status) => return Ok(status),
            None => {}
        }
        match self.ask(Request::Wait).await? {
            Some(Reply::Exited { status }) => Ok(status),
            Some(other) => Err(self.unexpected(other)),
            None => self.settle().await,
        }
    }

    /// How it ended, without waiting: `None` while it lives.
    pub fn exit_status(&self) -> Result<Option<ExitStatus>, Error> {
        state::read(&self.inner.dir, EXIT_FILE).map_err(|fault| self.failed(fault))
    }

    /// Kills it if it lives, and removes its cgroups, file system changes and logs.
    pub async fn remove(&self) -> Result<(), Error> {
        let unreachable = |error: &io::Error| is_gone(error);
        match Connection::open(&self.inner.dir).await {
            Ok(mut connection) => {
                match connection
                    .ask(Request::Signal {
                        signal: libc::SIGKILL,
                    })
                    .await
                {
                    Err(error) if !is_gone(&error) => return Err(self.io(error)),
                    Ok(_) | Err(_) => {}
                }
                match connection.ask(Request::Wait).await {
                    Err(error) if !is_gone(&error) => return Err(self.io(error)),
                    Ok(_) | Err(_) => {}
                }
                connection.closed().await;
            }
            Err(error) if unreachable(&error) => {}
            Err(error) => return Err(self.io(error)),
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || reap::clear(&inner.shared, &inner.id, &inner.dir)).await
    }

    /// If the shim is gone without having told the exit, clears up after it. Gives one that was
    /// only just started the time to appear.
    pub(super) async fn settle_if_orphaned(&self) -> Result<(), Error> {
        let mut waited = Duration::ZERO;
        loop {
            if self.exit_status()?.is_some() {
                return Ok(());
            }
            match Connection::open(&self.inner.dir).await {
                Ok(_) => return Ok(()),
                // No socket yet: the daemon before us may have died just after starting the shim.
                Err(error) if error.kind() == ErrorKind::NotFound && waited < SHIM_START_MAX => {
                    tokio::time::sleep(SHIM_START_POLL).await;
                    waited += SHIM_START_POLL;
                }
                Err(error) if is_gone(&error) => return self.settle().await.map(drop),
                Err(error) => return Err(self.io(error)),
            }
        }
    }

    /// Finds out how it ended now that its shim is gone, and clears up if the shim did not.
    async fn settle(&self) -> Result<ExitStatus, Error> {
        let inner = Arc::clone(&self.inner);
        blocking(move || reap::settle(&inner.shared, &inner.id, &inner.dir)).await
    }

    /// Asks the shim; `None` when it is gone.
    async fn ask(&self, request: Request) -> Result<Option<Reply>, Error> {
        let answer = match Connection::open(&self.inner.dir).await {
            Ok(mut connection) => connection.ask(request).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(reply) => Ok(Some(reply)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(self.io(error)),
        }
    }

    async fn ask_done(&self, request: Request) -> Result<(), Error> {
        match self.ask(request).await? {
            Some(Reply::Done) => Ok(()),
            Some(Reply::Failed { fault }) => Err(self.failed(fault)),
            Some(Reply::Exited { .. }) => Err(Error::Ended(self.inner.id.clone())),
            Some(other @ (Reply::State { .. } | Reply::Executed { .. })) => {
                Err(self.unexpected(other))
            }
            None => {
                self.settle().await?;
                Err(Error::Ended(self.inner.id.clone()))
            }
        }
    }

    fn failed(&self, fault: Fault) -> Error {
        Error::Fault {
            id: self.inner.id.clone(),
            fault,
        }
    }

    fn io(&self, error: io::Error) -> Error {
        Error::io("talk to the shim of", &self.inner.dir)(error)
    }

    fn unexpected(&self, reply: Reply) -> Error {
        Error::Protocol {
            id: self.inner.id.clone(),
            answer: format!("{reply:?}"),
        }
    }
}

/// Whether an error says that nobody listens any more. A full backlog, for one, does not.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::NotConnected
    )
}
