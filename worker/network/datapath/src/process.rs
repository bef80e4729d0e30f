//! The process: how it starts, whom it obeys, how it hands over to a newer one, when it ends.

mod connection;
mod detach;
mod orders;
mod take_over;

use crate::dns;
use anyhow::{Context, Result, bail};
use datapath_client::channel::Channel;
use datapath_client::message::{Answer, Request, Tell};
use orders::Orders;
use rustix::fs::{FlockOperation, flock};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::TaskTracker;

/// How long the process waits for a daemon when no container needs it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the predecessor may take to let go of its lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two looks at a lock, and after the limit on open files was met.
const PAUSE: Duration = Duration::from_millis(20);

/// What the program was told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    /// Where it is found.
    socket: PathBuf,
    /// Digest of the program.
    release: String,
    /// Whether a process that is found there is to be replaced.
    takes_over: bool,
    /// Whether it has detached itself already.
    is_detached: bool,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self> {
        let (mut socket, mut release) = (None, String::new());
        let (mut takes_over, mut is_detached) = (false, false);
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().context("an option without its value");
            match argument.to_str() {
                Some("--socket") => socket = Some(PathBuf::from(value()?)),
                Some("--release") => release = value()?.to_string_lossy().into_owned(),
                Some("--take-over") => takes_over = true,
                Some(detach::DETACHED) => is_detached = true,
                Some(_) | None => bail!("{} is no option", argument.display()),
            }
        }
        Ok(Self {
            socket: socket.context("--socket is missing")?,
            release,
            takes_over,
            is_detached,
        })
    }
}

/// Runs the program. Standard input is a socket to the daemon that starts it.
///
/// Returns at once in the process that was started; the process that serves is a child of it, which
/// nobody waits for.
///
/// # Errors
/// When it cannot serve; who started it is told, too.
pub fn main(arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let options = Options::parse(arguments)?;
    if !options.is_detached {
        return detach::start_again();
    }
    let first = detach::detach(&options.socket)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, run(options, first))
}

async fn run(options: Options, first: UnixStream) -> Result<()> {
    detach::ignore_signals()?;
    let mut first = Channel::new(tokio::net::UnixStream::from_std(first)?);
    let process = match Process::begin(&options).await {
        Ok(process) => process,
        Err(error) => {
            refuse(&mut first, &error).await;
            return Err(error);
        }
    };
    process.serve(first).await
}

/// Tells the daemon why there is nobody to talk to.
async fn refuse(channel: &mut Channel, error: &anyhow::Error) {
    let Ok(Some(frame)) = channel.receive().await else {
        return;
    };
    let answer = Answer {
        id: frame.decode::<Request>().map_or(0, |request| request.id),
        tell: Some(Tell::Refused(format!("{error:#}"))),
    };
    // It may be gone, too.
    let _ = channel.send(&answer, &[]).await;
}

/// A process that can be found.
struct Process {
    orders: Rc<Orders>,
    listener: UnixListener,
    socket: PathBuf,
    lock: File,
}

impl Process {
    async fn begin(options: &Options) -> Result<Self> {
        let socket = &options.socket;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("ask for random numbers")?;
        let orders = Rc::new(Orders::new(dns::Server::new(seed), options.release.clone()));
        // Of two that are started at once, one gives up here. A predecessor lets go later.
        let early = match options.takes_over {
            false => Some(lock(socket)?.context("another process serves here")?),
            true => None,
        };
        let predecessor = match options.takes_over {
            true => Some(take_over::take_over(socket, &orders).await?),
            false => None,
        };
        let bind = || UnixListener::from_std(datapath_client::bind(socket)?);
        let listener = bind().with_context(|| format!("listen at {}", socket.display()))?;
        if let Some(predecessor) = predecessor {
            predecessor.dismiss().await;
        }
        let lock = match early {
            Some(lock) => lock,
            None => wait_for_lock(socket).await?,
        };
        Ok(Self {
            orders,
            listener,
            socket: socket.clone(),
            lock,
        })
    }

    /// Serves until it is told to end, or replaced, or nobody needs it.
    async fn serve(self, first: Channel) -> Result<()> {
        let connections = TaskTracker::new();
        let mut watching = tokio::task::JoinSet::new();
        let orders = Rc::clone(&self.orders);
        watching.spawn_local(async move { orders.watch_peers().await });
        connections.spawn_local(connection::serve(Rc::clone(&self.orders), first));
        let mut idle_since = Instant::now();
        loop {
            if !connections.is_empty() || self.orders.is_needed() {
                idle_since = Instant::now();
            }
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if is_own(&stream) => {
                        let channel = Channel::new(stream);
                        let serve = connection::serve(Rc::clone(&self.orders), channel);
                        connections.spawn_local(serve);
                    }
                    Ok(_) => {}
                    Err(_) => sleep(PAUSE).await,
                },
                () = self.orders.ended() => break,
                // Also looks whether somebody has gone.
                () = sleep_until(idle_since + IDLE_TIMEOUT) => {
                    if connections.is_empty() && !self.orders.is_needed() {
                        self.orders.end();
                    }
                    idle_since = Instant::now();
                }
            }
        }
        if !self.orders.is_replaced() {
            // Nobody can be starting meanwhile: the lock is ours.
            let _ = std::fs::remove_file(&self.socket);
        }
        drop((self.listener, self.lock));
        self.orders.finish().await;
        Ok(())
    }
}

fn is_own(stream: &tokio::net::UnixStream) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid == own || peer.uid.is_root())
}

/// Takes the lock that goes with a socket; `None` when another process has it.
fn lock(socket: &Path) -> Result<Option<File>> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno).with_context(|| format!("lock {}", path.display())),
    }
}

async fn wait_for_lock(socket: &Path) -> Result<File> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        if let Some(lock) = lock(socket)? {
            return Ok(lock);
        }
        if Instant::now() > deadline {
            bail!("the process that was replaced does not end");
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let parse = |text: &str| Options::parse(text.split_whitespace().map(OsString::from));
        let options = parse("--socket /run/x.sock --release ab --take-over").unwrap();
        assert_eq!(options.socket, Path::new("/run/x.sock"));
        assert!(options.takes_over && !options.is_detached);
        for wrong in ["", "--socket", "--release x", "--socket x --odd"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_one_process_has_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("x.sock");
        let first = lock(&socket).unwrap();
        assert!(first.is_some());
        assert!(lock(&socket).unwrap().is_none());
        drop(first);
        assert!(lock(&socket).unwrap().is_some());
    }
}
