//! The handle of a node's network.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::{mpsc, oneshot, watch};
use types::TaskId;
use types::network::{NetworkAttachment, PublishedPort};

use crate::counters::{Counters, Counts};
use crate::keeper::{Command, Keeper};
use crate::sandbox::Sandbox;
use crate::verified::Verified;
use crate::view::View;
use crate::{Error, Options};

/// Requests that wait at most.
const COMMANDS_MAX: usize = 1024;

/// How long a task waits for word of its networks, which travels beside it.
const VIEW_WAIT_MAX: Duration = Duration::from_secs(5);

/// The network of this node. Clones share everything; the last one stops the thread.
#[derive(Clone, Debug)]
pub struct Network {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: mpsc::Sender<Command>,
    view: watch::Sender<Option<Arc<View>>>,
    /// Rouses the thread from its wait for the kernel.
    wake: Arc<OwnedFd>,
    counters: Arc<Counters>,
    encryption: watch::Receiver<Option<Arc<tunnel::Desired>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What came of a change of a task's networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adjusted {
    /// Nothing was reserved for the task.
    Unknown,
    /// It is on these networks already.
    Same,
    /// It is on them by now.
    Changed(Sandbox),
}

impl Network {
    /// Reads what is remembered and starts the thread, in the network namespace of the calling one.
    /// Until the first view nothing is changed. Blocks for some milliseconds.
    ///
    /// # Errors
    /// When the directory or the kernel's routing socket cannot be used.
    pub fn open(options: Options) -> Result<Self, Error> {
        let (commands, requests) = mpsc::channel(COMMANDS_MAX);
        let (view, views) = watch::channel(None);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = Arc::new(wake.map_err(|errno| Error::kernel("make an event")(errno.into()))?);
        let counters = Arc::new(Counters::default());
        let (carried, encryption) = watch::channel(None);
        let keeper = Keeper::open(
            options,
            requests,
            views,
            Arc::clone(&wake),
            Arc::clone(&counters),
            carried,
        )?;
        let thread = std::thread::Builder::new().name("network".to_owned());
        let thread = thread.spawn(move || keeper.run());
        let thread = thread.map_err(Error::kernel("start the network's thread"))?;
        let thread = Mutex::new(Some(thread));
        let shared = Shared {
            commands,
            view,
            wake,
            counters,
            encryption,
            thread,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Takes over what managers told last.
    pub fn set_view(&self, view: Arc<View>) {
        self.shared.view.send_replace(Some(view));
        self.shared.wake();
    }

    /// What managers told last; `None` before they told anything.
    #[must_use]
    pub fn view(&self) -> Option<Arc<View>> {
        self.shared.view.borrow().clone()
    }

    /// Decides on a task's interfaces and addresses, and on the ports the node opens for it alone.
    /// Done again it gives the same.
    ///
    /// # Errors
    /// When it cannot have them; [`Error::UnknownNetwork`] may pass.
    pub async fn reserve(
        &self,
        task: TaskId,
        attachments: Vec<NetworkAttachment>,
        host_ports: Vec<PublishedPort>,
    ) -> Result<Sandbox, Error> {
        self.wait_for_word(&attachments).await;
        self.ask(|reply| Command::Reserve {
            task,
            attachments,
            host_ports,
            reply,
        })
        .await
    }

    /// Connects the container that `pid` is the first process of, as reserved. Done again it makes
    /// sure that all is there.
    ///
    /// # Errors
    /// When the kernel refuses something, or the container is gone.
    pub async fn attach(&self, task: TaskId, pid: u32) -> Result<(), Error> {
        self.ask(|reply| Command::Attach { task, pid, reply }).await
    }

    /// Gives a connected container interfaces on the networks its task is on by now, and takes those
    /// on others away.
    ///
    /// # Errors
    /// When it cannot have them, nothing changes; [`Error::UnknownNetwork`] may pass.
    pub async fn adjust(
        &self,
        task: TaskId,
        attachments: Vec<NetworkAttachment>,
    ) -> Result<Adjusted, Error> {
        self.wait_for_word(&attachments).await;
        self.ask(|reply| Command::Adjust {
            task,
            attachments,
            reply,
        })
        .await
    }

    /// Waits until all of these networks are known. If word does not come, the keeper says which
    /// one is missing.
    async fn wait_for_word(&self, attachments: &[NetworkAttachment]) {
        let mut views = self.shared.view.subscribe();
        let is_told = |view: &Option<Arc<View>>| {
            let view = view.as_ref();
            view.is_some_and(|view| {
                attachments
                    .iter()
                    .all(|one| view.network(one.network).is_some())
            })
        };
        let _ = tokio::time::timeout(VIEW_WAIT_MAX, views.wait_for(is_told)).await;
    }

    /// Takes a task off its networks and frees its addresses. Nothing to do is success.
    ///
    /// # Errors
    /// When its record cannot be removed.
    pub async fn release(&self, task: TaskId) -> Result<(), Error> {
        self.ask(|reply| Command::Release { task, reply }).await
    }

    /// Releases all tasks but these. Returns those whose containers live, with the first process of
    /// each.
    ///
    /// # Errors
    /// When a record cannot be removed.
    pub async fn retain(&self, known: BTreeSet<TaskId>) -> Result<Vec<(Sandbox, u32)>, Error> {
        self.ask(|reply| Command::Retain { known, reply }).await
    }

    /// Compares everything now, and repairs what differs as far as the kernel lets it.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub async fn verify(&self) -> Result<Verified, Error> {
        self.ask(|reply| Command::Verify { reply }).await
    }

    /// What is to be carried of encrypted networks, without this node's keys, as it changes; `None`
    /// until managers told something. Its devices are taken up once they are there: see
    /// [`Self::look_again`].
    #[must_use]
    pub fn encryption(&self) -> watch::Receiver<Option<Arc<tunnel::Desired>>> {
        self.shared.encryption.clone()
    }

    /// Looks at the kernel at once, as something that is waited for is there now.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn look_again(&self) -> Result<(), Error> {
        self.ask(|reply| Command::Look { reply }).await
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counters.now()
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let sent = self.shared.commands.send(command(reply)).await;
        sent.map_err(|_| Error::Stopped)?;
        self.shared.wake();
        answer.await.unwrap_or(Err(Error::Stopped))
    }
}

impl Shared {
    fn wake(&self) {
        // A counter that is full has roused the thread already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The channel closes with this; the thread ends when it sees that.
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.commands, closed));
        self.wake();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // It panics only where a test would have.
            let _ = thread.join();
        }
    }
}
