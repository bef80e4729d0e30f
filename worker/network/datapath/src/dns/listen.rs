//! The sockets of a sandbox's DNS.

use crate::namespace;
use datapath_client::{BoundPorts, DNS_ADDRESS};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Connections that wait to be taken up.
const BACKLOG: i32 = 64;

/// Where queries of a sandbox arrive.
#[derive(Debug)]
pub struct Sockets {
    /// Packets.
    pub udp: std::net::UdpSocket,
    /// Connections.
    pub tcp: std::net::TcpListener,
}

impl Sockets {
    /// Listens inside a namespace.
    ///
    /// # Errors
    /// When the port is taken there.
    pub fn open(namespace: &OwnedFd, port: u16) -> io::Result<Self> {
        namespace::within(namespace, || {
            let udp = socket(Type::DGRAM, Protocol::UDP, port)?;
            let tcp = socket(Type::STREAM, Protocol::TCP, port)?;
            tcp.listen(BACKLOG)?;
            Ok(Self {
                udp: udp.into(),
                tcp: tcp.into(),
            })
        })
    }

    /// The ports.
    ///
    /// # Errors
    /// The system's.
    pub fn ports(&self) -> io::Result<BoundPorts> {
        Ok(BoundPorts {
            udp: self.udp.local_addr()?.port(),
            tcp: self.tcp.local_addr()?.port(),
        })
    }
}

fn socket(kind: Type, protocol: Protocol, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    // Only the sandbox itself asks: whatever else is made to arrive at this address is not heard.
    socket.bind_device(Some(b"lo"))?;
    if kind == Type::STREAM {
        // Connections of an earlier process may linger.
        socket.set_reuse_address(true)?;
    }
    // The loopback device may not be up yet.
    socket.set_freebind_v4(true)?;
    socket.bind(&SockAddr::from(SocketAddr::from((DNS_ADDRESS, port))))?;
    Ok(socket)
}
