//! The connections of daemons to a shim.

use crate::control::{LINE_BYTES_MAX, Reply, Request, line};
use rustix::io::Errno;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// The most connections at once; one daemon needs a few. More wait until there is room.
const CLIENTS_MAX: usize = 64;

/// All connections.
#[derive(Default)]
pub(super) struct Clients {
    clients: Vec<Client>,
    next_id: u64,
}

/// One connection.
struct Client {
    id: u64,
    stream: UnixStream,
    /// The beginning of a request.
    begun: Vec<u8>,
    /// How many of its requests wait for the container's end.
    waits: usize,
}

/// A request, and who is to get the answer.
pub(super) type Asked = (u64, Request);

impl Clients {
    pub(super) fn streams(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.clients.iter().map(|client| client.stream.as_fd())
    }

    pub(super) fn has_room(&self) -> bool {
        self.clients.len() < CLIENTS_MAX
    }

    /// Takes up everyone who wants to connect and may, as long as there is room.
    pub(super) fn accept(&mut self, listener: &UnixListener) {
        while self.has_room()
            && let Ok((stream, _)) = listener.accept()
        {
            let own = rustix::process::geteuid();
            let is_own = rustix::net::sockopt::socket_peercred(&stream)
                .is_ok_and(|peer| peer.uid == own || peer.uid.is_root());
            if is_own && stream.set_nonblocking(true).is_ok() {
                let id = self.next_id;
                self.next_id += 1;
                self.clients.push(Client {
                    id,
                    stream,
                    begun: Vec::new(),
                    waits: 0,
                });
            }
        }
    }

    /// Reads what there is of requests.
    pub(super) fn read(&mut self) -> Vec<Asked> {
        let mut asked = Vec::new();
        self.clients
            .retain_mut(|client| client.read(&mut asked).is_ok());
        asked
    }

    /// Answers one client. One that does not take its answer is dropped.
    pub(super) fn answer(&mut self, id: u64, reply: &Reply) {
        let line = line(reply);
        self.clients
            .retain_mut(|client| client.id != id || client.stream.write_all(&line).is_ok());
    }

    /// Notes that a client is to be told the container's end.
    pub(super) fn wait(&mut self, id: u64) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.id == id) {
            client.waits += 1;
        }
    }

    /// Tells the end to everyone who asked for it.
    pub(super) fn tell_end(&mut self, reply: &Reply) {
        let line = line(reply);
        for client in &mut self.clients {
            for _ in 0..client.waits {
                // Who is gone finds the exit in the container's directory.
                let _ = client.stream.write_all(&line);
            }
        }
    }
}

impl Client {
    /// An error means that the connection is over.
    fn read(&mut self, asked: &mut Vec<Asked>) -> std::io::Result<()> {
        let mut buffer = [0; 512];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.begun.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
                Err(error) => return Err(error),
            }
            if self.begun.len() > LINE_BYTES_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
        }
        let rest = match self.begun.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => self.begun.split_off(end + 1),
            None => return Ok(()),
        };
        let lines = std::mem::replace(&mut self.begun, rest);
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            asked.push((self.id, serde_json::from_slice(line)?));
        }
        Ok(())
    }
}
