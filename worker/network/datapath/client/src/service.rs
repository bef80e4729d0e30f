//! Keeps the process told: connects, starts, replaces, and says everything again when needed.

use crate::channel::Channel;
use crate::desired::{Desired, Saying, Subject};
use crate::message::{Answer, Ask, Empty, Hello, Request, Tell};
use crate::program::Program;
use crate::{
    BoundPorts, Error, GossipView, NetworkRecords, Options, PROTOCOL, PeerStates, RecordSet,
    SandboxId, SandboxView, Status, socket,
};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use types::NetworkId;

/// How long the process may take to answer a hello; it has at most its predecessor's things to take
/// over before.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before the process is tried again, doubled up to the maximum.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What a handle wants.
#[derive(Debug)]
pub(crate) enum Command {
    SetSandbox {
        id: SandboxId,
        namespace: Arc<OwnedFd>,
        view: SandboxView,
        reply: Reply<BoundPorts>,
    },
    RemoveSandbox {
        id: SandboxId,
        reply: Reply<()>,
    },
    SetNetwork {
        records: NetworkRecords,
        reply: Reply<()>,
    },
    UpdateNetwork {
        network: NetworkId,
        sets: Vec<RecordSet>,
        removed: Vec<String>,
        reply: Reply<()>,
    },
    RemoveNetwork {
        network: NetworkId,
        reply: Reply<()>,
    },
    SetGossip {
        view: GossipView,
        reply: Reply<()>,
    },
    ClearGossip(Reply<()>),
    SetTunnel {
        desired: Arc<tunnel::Desired>,
        reply: Reply<()>,
    },
    Complete(Reply<()>),
    Repeat(Reply<()>),
    Status(Reply<Option<Status>>),
    End(Reply<()>),
}

/// Who waits for an answer.
#[derive(Debug)]
enum Waiter {
    Done(Reply<()>),
    Bound(Reply<BoundPorts>),
    Status(Reply<Option<Status>>),
}

/// The part behind the handles.
#[derive(Debug)]
pub struct Service {
    options: Options,
    commands: mpsc::Receiver<Command>,
    peers: watch::Sender<PeerStates>,
    connections: watch::Sender<u64>,
    program: Option<Arc<Program>>,
    desired: Desired,
    channel: Option<Channel>,
    /// Requests without an answer yet, by id.
    asked: HashMap<u64, (Subject, Vec<Waiter>)>,
    last_id: u64,
    retry_at: Instant,
    retry_pause: Duration,
}

impl Service {
    pub(crate) fn new(
        options: Options,
        commands: mpsc::Receiver<Command>,
        peers: watch::Sender<PeerStates>,
        connections: watch::Sender<u64>,
    ) -> Self {
        Self {
            options,
            commands,
            peers,
            connections,
            program: None,
            desired: Desired::default(),
            channel: None,
            asked: HashMap::new(),
            last_id: 0,
            retry_at: Instant::now(),
            retry_pause: RETRY_MIN,
        }
    }

    /// Runs until it is told to stop or all handles are gone. The process goes on.
    pub async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.serve() => {}
        }
    }

    async fn serve(&mut self) {
        // A process of a daemon before this one may be there already.
        self.establish().await;
        loop {
            let is_wanting = self.channel.is_none() && self.desired.is_something();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                frame = receive(&mut self.channel), if self.channel.is_some() => match frame {
                    Ok(answer) => self.hear(answer),
                    Err(error) => {
                        tracing::warn!(%error, "the datapath process is gone");
                        self.lose();
                    }
                },
                () = sleep_until(self.retry_at), if is_wanting => self.establish().await,
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        let (sayings, waiter) = match command {
            Command::SetSandbox {
                id,
                namespace,
                view,
                reply,
            } => {
                let saying = self.desired.set_sandbox(id, namespace, view);
                (vec![saying], Waiter::Bound(reply))
            }
            Command::RemoveSandbox { id, reply } => {
                (vec![self.desired.remove_sandbox(&id)], Waiter::Done(reply))
            }
            Command::SetNetwork { records, reply } => {
                (self.desired.set_network(records), Waiter::Done(reply))
            }
            Command::UpdateNetwork {
                network,
                sets,
                removed,
                reply,
            } => {
                let sayings = self.desired.update_network(network, sets, removed);
                (sayings, Waiter::Done(reply))
            }
            Command::RemoveNetwork { network: id, reply } => {
                (vec![self.desired.remove_network(id)], Waiter::Done(reply))
            }
            Command::SetGossip { view, reply } => {
                (vec![self.desired.set_gossip(view)], Waiter::Done(reply))
            }
            Command::ClearGossip(reply) => {
                let sayings = self.desired.clear_gossip().into_iter().collect::<Vec<_>>();
                let waiter = Waiter::Done(reply);
                if sayings.is_empty() {
                    return waiter.tell(&Tell::Done(Empty {}));
                }
                (sayings, waiter)
            }
            Command::SetTunnel { desired, reply } => {
                (vec![self.desired.set_tunnel(desired)], Waiter::Done(reply))
            }
            Command::Complete(reply) => (vec![self.desired.complete()], Waiter::Done(reply)),
            Command::Repeat(reply) => (self.repetition(), Waiter::Done(reply)),
            Command::Status(reply) => (vec![whole(Ask::Status(Empty {}))], Waiter::Status(reply)),
            Command::End(reply) => {
                self.desired = Desired::default();
                self.peers.send_replace(PeerStates::new());
                (vec![whole(Ask::End(Empty {}))], Waiter::Done(reply))
            }
        };
        if self.channel.is_some() {
            return self.say_for(sayings, waiter).await;
        }
        if !self.desired.is_something() {
            // Nobody serves, and nobody needs to.
            return waiter.tell(&Tell::Done(Empty {}));
        }
        // Saying everything includes what is new.
        let last = sayings.into_iter().next_back();
        self.last_id += 1;
        let subject = last.map_or(Subject::Whole, |saying| saying.subject);
        self.asked.insert(self.last_id, (subject, vec![waiter]));
        if self.retry_at <= Instant::now() {
            self.establish().await;
        }
    }

    /// Everything, and a question whose answer comes after all that.
    fn repetition(&self) -> Vec<Saying> {
        let mut sayings = self.desired.say_all();
        sayings.push(whole(Ask::Status(Empty {})));
        sayings
    }

    /// Says something, the last of which `waiter` waits for.
    async fn say_for(&mut self, sayings: Vec<Saying>, waiter: Waiter) {
        let mut waiter = Some(waiter);
        let count = sayings.len();
        for (index, saying) in sayings.into_iter().enumerate() {
            let waiters = if index + 1 == count {
                waiter.take().into_iter().collect()
            } else {
                Vec::new()
            };
            if let Err(error) = self.say(saying, waiters).await {
                tracing::warn!(%error, "the datapath process is gone");
                // Everything is said again to the next one.
                return self.lose();
            }
        }
    }

    async fn say(&mut self, saying: Saying, waiters: Vec<Waiter>) -> io::Result<()> {
        let Some(channel) = &mut self.channel else {
            return Err(ErrorKind::NotConnected.into());
        };
        self.last_id += 1;
        self.asked.insert(self.last_id, (saying.subject, waiters));
        let request = Request {
            id: self.last_id,
            ask: Some(saying.ask),
        };
        let descriptors: Vec<_> = saying.descriptor.iter().map(|fd| fd.as_fd()).collect();
        channel.send(&request, &descriptors).await
    }

    fn hear(&mut self, answer: Answer) {
        match (answer.id, answer.tell) {
            (0, Some(Tell::Peers(peers))) => match peers.parse() {
                Ok(states) => {
                    self.peers.send_if_modified(|known| {
                        let is_new = *known != states;
                        *known = states;
                        is_new
                    });
                }
                Err(error) => tracing::warn!(%error, "the datapath process tells of odd peers"),
            },
            (0, Some(Tell::Warning(text))) => tracing::warn!(warning = text, "datapath"),
            (id, tell) => {
                let Some((subject, waiters)) = self.asked.remove(&id) else {
                    return;
                };
                let tell = tell.unwrap_or_else(|| Tell::Refused(String::from("no answer")));
                if let (Tell::Refused(reason), []) = (&tell, &*waiters) {
                    tracing::warn!(?subject, reason, "the datapath process refuses");
                }
                for waiter in waiters {
                    waiter.tell(&tell);
                }
            }
        }
    }

    /// Gives up the connection; the next one is tried at once.
    fn lose(&mut self) {
        self.channel = None;
        self.retry_at = Instant::now();
        self.retry_pause = RETRY_MIN;
    }

    /// Connects to the process, starting it if that is needed, and says everything.
    async fn establish(&mut self) {
        match self.connect().await {
            Ok(None) => {}
            Ok(Some(channel)) => {
                self.channel = Some(channel);
                match self.say_again().await {
                    Ok(()) => {
                        self.retry_pause = RETRY_MIN;
                        self.connections.send_modify(|count| *count += 1);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the datapath process is gone");
                        self.put_off(&error.to_string());
                    }
                }
            }
            Err(reason) => {
                tracing::warn!(reason, "cannot reach the datapath process");
                self.put_off(&reason);
            }
        }
    }

    /// Tells everyone who waits that it failed for now.
    fn put_off(&mut self, reason: &str) {
        self.channel = None;
        self.retry_at = Instant::now() + self.retry_pause;
        self.retry_pause = (self.retry_pause * 2).min(RETRY_MAX);
        for (_, (_, waiters)) in self.asked.drain() {
            for waiter in waiters {
                waiter.fail(Error::Unreachable {
                    socket: self.options.socket.clone(),
                    reason: reason.to_owned(),
                });
            }
        }
    }

    /// Says everything, also for those who wait for something said on an earlier connection.
    async fn say_again(&mut self) -> io::Result<()> {
        let mut waiting: HashMap<Subject, Vec<Waiter>> = HashMap::new();
        for (_, (subject, waiters)) in self.asked.drain() {
            waiting.entry(subject).or_default().extend(waiters);
        }
        let mut sayings = self.desired.say_all();
        sayings.reverse();
        // In order again; of several about the same the last one carries those who wait.
        let mut last = Vec::new();
        for saying in sayings {
            let waiters = waiting.remove(&saying.subject).unwrap_or_default();
            last.push((saying, waiters));
        }
        for (saying, waiters) in last.into_iter().rev() {
            self.say(saying, waiters).await?;
        }
        for waiter in waiting.into_values().flatten() {
            // What is no longer desired was not said again. Removals come with completeness, and
            // whoever waits for a status asks once more.
            match waiter {
                Waiter::Status(_) => {
                    self.say(whole(Ask::Status(Empty {})), vec![waiter]).await?;
                }
                Waiter::Done(_) | Waiter::Bound(_) => waiter.tell(&Tell::Done(Empty {})),
            }
        }
        Ok(())
    }

    /// A connection on which the hellos have been said. `None` when there is no process and no need
    /// for one.
    async fn connect(&mut self) -> Result<Option<Channel>, String> {
        let program = self.load().await.map_err(|error| describe(&error))?;
        let found = match socket::connect(&self.options.socket) {
            Ok(stream) => stream,
            Err(error) if is_nobody(&error) => {
                if !self.desired.is_something() {
                    return Ok(None);
                }
                self.start(&program, false).await?
            }
            Err(error) => return Err(error.to_string()),
        };
        let (channel, release) = greet(found, &program).await?;
        if release == program.release() {
            return Ok(Some(channel));
        }
        tracing::info!(
            from = release,
            to = program.release(),
            "replacing the datapath process"
        );
        drop(channel);
        let successor = self.start(&program, true).await?;
        let (channel, _) = greet(successor, &program).await?;
        Ok(Some(channel))
    }

    async fn load(&mut self) -> Result<Arc<Program>, Error> {
        if let Some(program) = &self.program {
            return Ok(Arc::clone(program));
        }
        let source = self.options.program.clone();
        let program = tokio::task::spawn_blocking(move || Program::load(&source)).await;
        let program = Arc::new(program.map_err(|_| Error::Ended)??);
        self.program = Some(Arc::clone(&program));
        Ok(program)
    }

    async fn start(
        &self,
        program: &Arc<Program>,
        takes_over: bool,
    ) -> Result<std::os::unix::net::UnixStream, String> {
        let (program, socket) = (Arc::clone(program), self.options.socket.clone());
        tokio::task::spawn_blocking(move || program.start(&socket, takes_over))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| format!("start it: {error}"))
    }
}

impl Waiter {
    /// Who waits no longer is not told.
    fn tell(self, tell: &Tell) {
        let refused = |reason: &str| Error::Refused(reason.to_owned());
        match (self, tell) {
            (Self::Done(reply), Tell::Refused(reason)) => drop(reply.send(Err(refused(reason)))),
            (Self::Bound(reply), Tell::Refused(reason)) => drop(reply.send(Err(refused(reason)))),
            (Self::Status(reply), Tell::Refused(reason)) => drop(reply.send(Err(refused(reason)))),
            (Self::Done(reply), _) => drop(reply.send(Ok(()))),
            (Self::Bound(reply), Tell::Bound(bound)) => {
                let port = |port: u32| u16::try_from(port).unwrap_or_default();
                let ports = BoundPorts {
                    udp: port(bound.udp),
                    tcp: port(bound.tcp),
                };
                drop(reply.send(Ok(ports)));
            }
            (Self::Bound(reply), _) => drop(reply.send(Err(refused("the sandbox was removed")))),
            (Self::Status(reply), Tell::Status(status)) => {
                let status = status.parse().map(Some);
                drop(reply.send(status.map_err(|error| refused(&error.to_string()))));
            }
            (Self::Status(reply), _) => drop(reply.send(Ok(None))),
        }
    }

    fn fail(self, error: Error) {
        match self {
            Self::Done(reply) => drop(reply.send(Err(error))),
            Self::Bound(reply) => drop(reply.send(Err(error))),
            Self::Status(reply) => drop(reply.send(Err(error))),
        }
    }
}

fn whole(ask: Ask) -> Saying {
    Saying {
        subject: Subject::Whole,
        ask,
        descriptor: None,
    }
}

/// Whether a connection failed because no process listens there.
fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused
    )
}

fn describe(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

async fn receive(channel: &mut Option<Channel>) -> io::Result<Answer> {
    match channel {
        Some(channel) => match channel.receive().await? {
            Some(frame) => frame.decode(),
            None => Err(ErrorKind::UnexpectedEof.into()),
        },
        None => std::future::pending().await,
    }
}

/// Says hello and waits for the welcome. Returns the release of the process, too.
async fn greet(
    stream: std::os::unix::net::UnixStream,
    program: &Program,
) -> Result<(Channel, String), String> {
    let greet = async {
        let mut channel = Channel::new(tokio::net::UnixStream::from_std(stream)?);
        let hello = Request {
            id: 1,
            ask: Some(Ask::Hello(Hello {
                protocol: PROTOCOL,
                release: program.release().to_owned(),
            })),
        };
        channel.send(&hello, &[]).await?;
        loop {
            let Some(frame) = channel.receive().await? else {
                return Err(ErrorKind::UnexpectedEof.into());
            };
            match frame.decode::<Answer>()?.tell {
                Some(Tell::Welcome(welcome)) => return Ok((channel, welcome.release)),
                Some(Tell::Refused(reason)) => return Err(io::Error::other(reason)),
                // Something that happened.
                Some(_) | None => {}
            }
        }
    };
    match timeout(HELLO_TIMEOUT, greet).await {
        Ok(result) => result.map_err(|error| format!("say hello: {error}")),
        Err(_) => Err(String::from("it does not answer a hello")),
    }
}
