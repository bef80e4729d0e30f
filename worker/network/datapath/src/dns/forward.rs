//! Asking other servers for names that are not ours.

use super::answer::{Transport, UDP_BYTES_MAX};
use crate::namespace;
use datapath_client::{Forwarding, Origin, SERVERS_MAX};
use rand::RngExt;
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// How long one server is waited for (semantics S16.03).
pub const SERVER_TIMEOUT: Duration = Duration::from_secs(4);

/// Questions under way at once (semantics S16.03), and of one sandbox.
const QUESTIONS_MAX: usize = 1024;
const SANDBOX_QUESTIONS_MAX: usize = 256;

/// Where a packet's header says the response code, and the codes that mean another may know better.
const SERVER_FAILURE: u8 = 2;
const REFUSED: u8 = 5;

/// Limits what is under way for all sandboxes.
#[derive(Debug, Clone)]
pub struct Limits {
    all: std::sync::Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            all: std::sync::Arc::new(Semaphore::new(QUESTIONS_MAX)),
        }
    }
}

/// One sandbox's way to other servers.
#[derive(Debug)]
pub struct Forwarder {
    servers: Vec<SocketAddr>,
    /// The server that answered last: one that does not answer costs each sandbox one wait only.
    preferred: Cell<usize>,
    /// The namespace questions leave from, if not the node's.
    namespace: Option<Rc<OwnedFd>>,
    limits: Limits,
    own: std::sync::Arc<Semaphore>,
}

/// The right to have one question under way.
#[derive(Debug)]
pub struct Permit {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Forwarder {
    /// The way for a sandbox with that namespace.
    #[must_use]
    pub fn new(forwarding: &Forwarding, namespace: &Rc<OwnedFd>, limits: &Limits) -> Self {
        let servers = forwarding.servers.iter().take(SERVERS_MAX);
        Self {
            servers: servers.copied().collect(),
            preferred: Cell::new(0),
            namespace: match forwarding.origin {
                Origin::Node => None,
                Origin::Sandbox => Some(Rc::clone(namespace)),
            },
            limits: limits.clone(),
            own: std::sync::Arc::new(Semaphore::new(SANDBOX_QUESTIONS_MAX)),
        }
    }

    /// The right to ask, or `None` when there is nobody to ask or too much is under way.
    #[must_use]
    pub fn admit(&self) -> Option<Permit> {
        if self.servers.is_empty() {
            return None;
        }
        Some(Permit {
            _own: std::sync::Arc::clone(&self.own).try_acquire_owned().ok()?,
            _all: std::sync::Arc::clone(&self.limits.all)
                .try_acquire_owned()
                .ok()?,
        })
    }

    /// Asks one server after the other. `None` when none has an answer.
    ///
    /// The packet goes as it came but for its id, and so does the answer: options the client and the
    /// server agree on are theirs.
    pub async fn ask(
        &self,
        packet: &[u8],
        transport: Transport,
        random: &mut impl RngExt,
        _permit: &Permit,
    ) -> Option<Vec<u8>> {
        let question = question(packet)?;
        let (first, count) = (self.preferred.get(), self.servers.len());
        let mut last = None;
        for index in (first..first + count).map(|index| index % count) {
            let mut ours = packet.to_vec();
            ours[..2].copy_from_slice(&random.random::<[u8; 2]>());
            let deadline = Instant::now() + SERVER_TIMEOUT;
            let asked = timeout_at(deadline, self.ask_one(index, &ours, question, transport));
            let Ok(Ok(mut reply)) = asked.await else {
                continue;
            };
            reply[..2].copy_from_slice(&packet[..2]);
            if !matches!(reply[3] & 0xf, SERVER_FAILURE | REFUSED) {
                self.preferred.set(index);
                return Some(reply);
            }
            last = Some(reply);
        }
        last
    }

    async fn ask_one(
        &self,
        index: usize,
        packet: &[u8],
        question: &[u8],
        transport: Transport,
    ) -> io::Result<Vec<u8>> {
        let server = self.servers[index];
        match transport {
            Transport::Udp => self.ask_udp(server, packet, question).await,
            Transport::Tcp => self.ask_tcp(server, packet, question).await,
        }
    }

    async fn ask_udp(
        &self,
        server: SocketAddr,
        packet: &[u8],
        question: &[u8],
    ) -> io::Result<Vec<u8>> {
        // A socket for each question: its port is one more thing to guess for who forges answers.
        let open = move || {
            let socket = std::net::UdpSocket::bind((any(server), 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = match &self.namespace {
            None => open()?,
            Some(namespace) => namespace::within(namespace, open)?,
        };
        let socket = UdpSocket::from_std(socket)?;
        socket.connect(server).await?;
        socket.send(packet).await?;
        let mut reply = vec![0; UDP_BYTES_MAX + 1];
        loop {
            let count = socket.recv(&mut reply).await?;
            if !is_answer(&reply[..count], packet, question) {
                continue;
            }
            if count > UDP_BYTES_MAX {
                // More than we take: the client is to ask over TCP.
                reply.truncate(HEADER_BYTES + question.len());
                reply[2] |= TRUNCATED;
                reply[6..HEADER_BYTES].fill(0);
            } else {
                reply.truncate(count);
            }
            return Ok(reply);
        }
    }

    async fn ask_tcp(
        &self,
        server: SocketAddr,
        packet: &[u8],
        question: &[u8],
    ) -> io::Result<Vec<u8>> {
        let open = move || -> io::Result<std::net::TcpStream> {
            let domain = socket2::Domain::for_address(server);
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        };
        let socket = match &self.namespace {
            None => open()?,
            Some(namespace) => namespace::within(namespace, open)?,
        };
        let mut stream: TcpStream = tokio::net::TcpSocket::from_std_stream(socket)
            .connect(server)
            .await?;
        let length = u16::try_from(packet.len()).map_err(|_| ErrorKind::InvalidInput)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(packet).await?;
        let length = stream.read_u16().await?;
        let mut reply = vec![0; usize::from(length)];
        stream.read_exact(&mut reply).await?;
        if is_answer(&reply, packet, question) {
            Ok(reply)
        } else {
            Err(ErrorKind::InvalidData.into())
        }
    }
}

const HEADER_BYTES: usize = 12;
const TRUNCATED: u8 = 0x02;

fn any(server: SocketAddr) -> IpAddr {
    match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The bytes of a packet's first question.
fn question(packet: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER_BYTES;
    loop {
        match *packet.get(at)? {
            0 => break,
            length @ 1..=63 => at += 1 + usize::from(length),
            // A first name has nothing to point back to.
            64.. => return None,
        }
    }
    // The end of the name, type and class.
    packet.get(HEADER_BYTES..at + 5)
}

/// Whether a packet answers ours: same id, same question.
fn is_answer(reply: &[u8], packet: &[u8], asked: &[u8]) -> bool {
    reply.len() >= HEADER_BYTES
        && reply[..2] == packet[..2]
        && reply[2] & 0x80 != 0
        && question(reply).is_some_and(|question| question.eq_ignore_ascii_case(asked))
}
