//! A routing socket of the kernel (rtnetlink) that sends many requests at once.
//!
//! Synchronous on purpose: every request is answered by the kernel before `send` returns, so there
//! is nothing to wait for, and a batch of a hundred changes costs two system calls. A socket
//! belongs for good to the network namespace of the thread that opened it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Requests in one system call; the answers to them have to fit the receive buffer.
const BATCH_MAX: usize = 128;

/// Bytes the kernel may keep for us: room for the complaints about a whole batch.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// The kernel fills at most 32 KiB of a dump at once.
const READ_BYTES: usize = 64 << 10;

/// A dump that changed while it was read is read again, but not for ever.
const DUMP_ATTEMPTS_MAX: usize = 5;

/// A change the kernel is asked to make.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) message: RouteNetlinkMessage,
    /// `NLM_F_CREATE` and the like.
    pub(crate) flags: u16,
}

impl Request {
    /// Whether it is about addresses of IPv6.
    pub(crate) fn is_ipv6(&self) -> bool {
        let family = match &self.message {
            RouteNetlinkMessage::NewAddress(message) => message.header.family,
            RouteNetlinkMessage::NewRoute(message) => message.header.address_family,
            RouteNetlinkMessage::NewRule(message) => message.header.family,
            RouteNetlinkMessage::NewNeighbour(message) => message.header.family,
            _ => return false,
        };
        family == netlink_packet_route::AddressFamily::Inet6
    }
}

/// A routing socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    received: Vec<u8>,
}

/// What came back for one request.
struct Answer {
    sequence: u32,
    kind: AnswerKind,
}

enum AnswerKind {
    /// The end: of a dump, or an acknowledgement.
    End,
    Failed(Errno),
    Message(Box<RouteNetlinkMessage>),
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            fd: open(0, SocketFlags::CLOEXEC)?,
            sequence: 0,
            received: Vec::with_capacity(READ_BYTES),
        })
    }

    /// Makes the changes, in order, and goes on after one that fails. Returns which failed.
    ///
    /// # Errors
    /// When the kernel cannot be talked to.
    pub(crate) fn execute(&mut self, requests: &[Request]) -> io::Result<Vec<(usize, Errno)>> {
        let mut failed = Vec::new();
        for (number, batch) in requests.chunks(BATCH_MAX).enumerate() {
            let first = self.sequence.wrapping_add(1);
            let mut bytes = Vec::with_capacity(batch.len() * 160);
            for (at, request) in batch.iter().enumerate() {
                // Failures are told anyway; one acknowledgement tells that all is done.
                let ack = if at + 1 == batch.len() { NLM_F_ACK } else { 0 };
                self.write(&mut bytes, request, ack);
            }
            let last = self.sequence;
            self.send(&bytes)?;
            let mut is_done = false;
            while !is_done {
                for answer in self.receive()?.0 {
                    let at = answer.sequence.wrapping_sub(first) as usize;
                    if at >= batch.len() {
                        continue;
                    }
                    if let AnswerKind::Failed(errno) = answer.kind {
                        failed.push((number * BATCH_MAX + at, errno));
                    }
                    is_done |= answer.sequence == last;
                }
            }
        }
        Ok(failed)
    }

    /// Makes one change.
    pub(crate) fn execute_one(&mut self, request: Request) -> io::Result<()> {
        match self.execute(std::slice::from_ref(&request))?.pop() {
            Some((_, errno)) => Err(errno.into()),
            None => Ok(()),
        }
    }

    /// Reads everything of a kind.
    pub(crate) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let request = Request {
            message,
            flags: NLM_F_DUMP,
        };
        for _ in 0..DUMP_ATTEMPTS_MAX {
            let (messages, was_interrupted) = self.ask(&request)?;
            if !was_interrupted {
                return Ok(messages);
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Reads one thing.
    pub(crate) fn get(&mut self, message: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        let request = Request {
            message,
            flags: NLM_F_ACK,
        };
        let (mut messages, _) = self.ask(&request)?;
        messages.pop().ok_or_else(|| Errno::NODATA.into())
    }

    fn ask(&mut self, request: &Request) -> io::Result<(Vec<RouteNetlinkMessage>, bool)> {
        let mut bytes = Vec::new();
        self.write(&mut bytes, request, 0);
        self.send(&bytes)?;
        let mut messages = Vec::new();
        let mut was_interrupted = false;
        loop {
            let (answers, interrupted) = self.receive()?;
            was_interrupted |= interrupted;
            for answer in answers {
                if answer.sequence != self.sequence {
                    continue;
                }
                match answer.kind {
                    AnswerKind::End => return Ok((messages, was_interrupted)),
                    AnswerKind::Failed(errno) => return Err(errno.into()),
                    AnswerKind::Message(message) => messages.push(*message),
                }
            }
        }
    }

    fn write(&mut self, bytes: &mut Vec<u8>, request: &Request, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | request.flags | flags;
        header.sequence_number = self.sequence;
        let payload = NetlinkPayload::InnerMessage(request.message.clone());
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let start = bytes.len();
        // Messages begin at multiples of four.
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        let sent = rustix::net::sendto(&self.fd, bytes, SendFlags::empty(), &kernel)?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(Errno::MSGSIZE.into())
        }
    }

    /// The answers that are there, at least one, and whether a dump was disturbed.
    fn receive(&mut self) -> io::Result<(Vec<Answer>, bool)> {
        self.received.clear();
        loop {
            let flags = RecvFlags::empty();
            match rustix::net::recv(&self.fd, spare_capacity(&mut self.received), flags) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let mut answers = Vec::new();
        let mut was_interrupted = false;
        let mut rest = self.received.as_slice();
        while rest.len() >= size_of::<u32>() {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let broken = || io::Error::new(io::ErrorKind::InvalidData, "a broken netlink message");
            let one = rest
                .get(..length)
                .filter(|one| !one.is_empty())
                .ok_or_else(broken)?;
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(one)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            was_interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            answers.extend(Answer::of(message));
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok((answers, was_interrupted))
    }
}

impl Answer {
    fn of(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Self> {
        let kind = match message.payload {
            NetlinkPayload::Done(_) => AnswerKind::End,
            NetlinkPayload::Error(error) => match error.code {
                None => AnswerKind::End,
                Some(code) => AnswerKind::Failed(Errno::from_raw_os_error(code.get().abs())),
            },
            NetlinkPayload::InnerMessage(message) => AnswerKind::Message(Box::new(message)),
            // Nothing, something lost, or a kind that is not known yet.
            _ => return None,
        };
        Some(Self {
            sequence: message.header.sequence_number,
            kind,
        })
    }
}

/// Hears of changes to links, addresses and neighbours, whoever makes them.
#[derive(Debug)]
pub(crate) struct Notifications {
    fd: OwnedFd,
}

impl Notifications {
    /// Listens in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        // RTMGRP_LINK, _NEIGH, _IPV4_IFADDR and _IPV6_IFADDR (linux/rtnetlink.h).
        const GROUPS: u32 = 0x1 | 0x4 | 0x10 | 0x100;
        let fd = open(GROUPS, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        Ok(Self { fd })
    }

    /// Takes what has come. Returns whether anything had; what it was does not matter.
    pub(crate) fn drain(&self) -> bool {
        let mut bytes = [0; 16 << 10];
        let mut any = false;
        loop {
            match rustix::net::recv(&self.fd, &mut bytes[..], RecvFlags::empty()) {
                Ok(_) => any = true,
                // Some were lost: all the more reason to look.
                Err(Errno::NOBUFS) => any = true,
                Err(Errno::INTR) => {}
                Err(_) => return any,
            }
        }
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open(groups: u32, flags: SocketFlags) -> io::Result<OwnedFd> {
    // Protocol 0 is NETLINK_ROUTE.
    let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    // Refused in a user namespace, where the usual size has to do.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER_BYTES);
    rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
    Ok(fd)
}
