//! Published ports are held on the node, so that no program of it takes one without noticing.
//!
//! What is sent there is translated before it gets to a socket: a program that listened at such a
//! port would wait for clients for ever, and one that did so before would lose them. A socket that
//! is bound and does not listen keeps the first from happening; that it cannot be bound tells the
//! second.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use nft::{Frontend, Protocol};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::listeners::{Listeners, program_of};

/// Receive buffer of a held UDP port: nobody reads what gets there untranslated.
const BUFFER_BYTES: usize = 1;

/// The ports that are held.
#[derive(Debug, Default)]
pub(crate) struct HeldPorts {
    sockets: BTreeMap<Frontend, OwnedFd>,
    /// Those a program has, which was told.
    taken: BTreeSet<Frontend>,
}

impl HeldPorts {
    /// Holds these in the namespace of the calling thread, and no others. Returns those a program
    /// turns out to have; each is told once, as long as it stays so.
    pub(crate) fn hold<'a>(
        &mut self,
        ports: impl Iterator<Item = &'a Frontend>,
    ) -> Vec<(Frontend, String)> {
        let wanted: BTreeSet<Frontend> = ports.copied().collect();
        self.sockets.retain(|held, _| wanted.contains(held));
        self.taken.retain(|taken| wanted.contains(taken));
        let mut told = Vec::new();
        for port in wanted {
            if self.sockets.contains_key(&port) {
                continue;
            }
            match bind(&port) {
                Ok(Some(socket)) => {
                    self.taken.remove(&port);
                    self.sockets.insert(port, socket);
                }
                // Not here, or not in this kernel: nobody can have it.
                Ok(None) => {}
                Err(Taken) => {
                    if self.taken.insert(port) {
                        told.push((port, program_at(&port)));
                    }
                }
            }
        }
        told
    }

    /// Whether a port is held at some address: no program can have come to it since.
    pub(crate) fn has(&self, protocol: types::network::Protocol, number: u16) -> bool {
        let mut held = self.sockets.keys().filter_map(|port| port.port);
        held.any(|port| port.number == number && noun(port.protocol) == protocol)
    }
}

/// Somebody has it.
struct Taken;

/// A socket that has the port; nothing where there is no such port.
fn bind(port: &Frontend) -> Result<Option<OwnedFd>, Taken> {
    let Some(number) = port.port else {
        return Ok(None);
    };
    let family = if port.address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let (kind, protocol) = match number.protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let bound = || -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, kind, flags, Some(protocol))?;
        if family == AddressFamily::INET6 {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        if kind == SocketType::DGRAM {
            sockopt::set_socket_recv_buffer_size(&socket, BUFFER_BYTES)?;
        }
        rustix::net::bind(&socket, &SocketAddr::new(port.address, number.number))?;
        Ok(socket)
    };
    match bound() {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::ADDRINUSE) => Err(Taken),
        Err(_) => Ok(None),
    }
}

/// The program that has a port.
fn program_at(port: &Frontend) -> String {
    let address = Some(port.address).filter(|address| !address.is_unspecified());
    let socket = port
        .port
        .and_then(|port| Listeners::read().at(noun(port.protocol), port.number, address));
    let program = socket.and_then(program_of);
    program.unwrap_or_else(|| "a program that this daemon cannot see".to_owned())
}

fn noun(protocol: Protocol) -> types::network::Protocol {
    match protocol {
        Protocol::Tcp => types::network::Protocol::Tcp,
        Protocol::Udp => types::network::Protocol::Udp,
        Protocol::Sctp => types::network::Protocol::Sctp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_and_a_free_port_is_held() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let port = Frontend::port(address.ip(), Protocol::Tcp, address.port());
        let has = |held: &HeldPorts| held.has(types::network::Protocol::Tcp, address.port());
        let mut held = HeldPorts::default();
        let told = held.hold([port].iter());
        let own = format!("(pid {})", std::process::id());
        assert!(told.len() == 1 && told[0].1.ends_with(&own), "{told:?}");
        assert!(held.hold([port].iter()).is_empty(), "it is told once");
        assert!(!has(&held));
        drop(listener);
        assert!(held.hold([port].iter()).is_empty());
        assert!(has(&held));
        std::net::TcpListener::bind(address).expect_err("it is held");
        held.hold([].iter());
        std::net::TcpListener::bind(address).expect("it is let go");
    }
}
