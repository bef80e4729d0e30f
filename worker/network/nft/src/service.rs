//! What is balanced to where: the nouns a caller describes its wishes in.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{Error, Result};

/// Services by what clients call.
pub type Services = BTreeMap<Frontend, Service>;

/// Slots of one service at most. A service with more backends, or finer weights, is refused or
/// rounded: see [`Backend::weight`].
pub const SLOTS_MAX: usize = 4096;

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The number in an IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A port of a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Which protocol.
    pub protocol: Protocol,
    /// 1 to 65535.
    pub number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.protocol, self.number)
    }
}

/// What a client calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// A virtual address; for a published port an address of the node, or the unspecified one of
    /// a family for all the node has in it.
    pub address: IpAddr,
    /// A port, or none for everything sent to the address: every port of every protocol, and ping.
    pub port: Option<Port>,
}

impl Frontend {
    /// A virtual address with all its ports, as a service's on an overlay network.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self {
            address,
            port: None,
        }
    }

    /// One port of an address.
    #[must_use]
    pub fn port(address: IpAddr, protocol: Protocol, number: u16) -> Self {
        let port = Some(Port { protocol, number });
        Self { address, port }
    }

    /// A port on every address the node has, one frontend for each family.
    #[must_use]
    pub fn published(protocol: Protocol, number: u16) -> [Self; 2] {
        [
            Self::port(Ipv4Addr::UNSPECIFIED.into(), protocol, number),
            Self::port(Ipv6Addr::UNSPECIFIED.into(), protocol, number),
        ]
    }

    /// Whether UDP packets can be for it.
    pub(crate) fn carries_udp(&self) -> bool {
        self.port.is_none_or(|port| port.protocol == Protocol::Udp)
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address.is_unspecified(), self.port) {
            (true, Some(port)) => write!(f, "published-{port}"),
            (_, Some(port)) => write!(f, "{}-{port}", self.address),
            (_, None) => write!(f, "{}", self.address),
        }
    }
}

/// Where connections to a frontend go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// In any order; an address (with its port) stands once.
    pub backends: Vec<Backend>,
    /// Which clients come back to the same backend.
    pub affinity: Affinity,
    /// While there are backends on this node that take connections, only those do.
    pub prefers_local: bool,
    /// Names of the interfaces connections may come in by; empty for any. A port limited to
    /// interfaces does not answer the node's own processes.
    pub interfaces: Vec<String>,
}

/// An address that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// Of the frontend's family.
    pub address: IpAddr,
    /// The port to translate to; none keeps the port that was called.
    pub port: Option<u16>,
    /// Its share of new connections in proportion to the others'. Zero takes it out of rotation:
    /// it gets no new connections, and those it has go on. Shares are exact as long as the
    /// weights, divided by what divides them all, add up to [`SLOTS_MAX`] or less.
    pub weight: u32,
    /// Whether it is on this node.
    pub is_local: bool,
}

impl Backend {
    /// A backend of weight one, elsewhere, called at the port the client called.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self {
            address,
            port: None,
            weight: 1,
            is_local: false,
        }
    }

    /// The same, called at this port.
    #[must_use]
    pub fn with_port(self, port: u16) -> Self {
        let port = Some(port);
        Self { port, ..self }
    }

    /// The same with this weight.
    #[must_use]
    pub fn with_weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// The same, on this node.
    #[must_use]
    pub fn local(self) -> Self {
        let is_local = true;
        Self { is_local, ..self }
    }
}

/// Whether a client comes back to the backend it had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Backends take turns.
    #[default]
    None,
    /// Connections from one source address go to one backend, the same on every node, as long as
    /// it serves. When backends come or go only few clients move.
    SourceAddress,
}

impl Service {
    /// A service of these backends.
    #[must_use]
    pub fn new(backends: impl IntoIterator<Item = Backend>) -> Self {
        Self {
            backends: backends.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The same, sticking to backends by source address.
    #[must_use]
    pub fn sticky(self) -> Self {
        let affinity = Affinity::SourceAddress;
        Self { affinity, ..self }
    }

    /// Whether this address is a backend, in rotation or not.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.backends
            .iter()
            .any(|backend| backend.address == address)
    }

    /// Backends that take new connections.
    pub(crate) fn serving(&self) -> Vec<&Backend> {
        let all = || self.backends.iter().filter(|backend| backend.weight > 0);
        let prefers = self.prefers_local && all().any(|backend| backend.is_local);
        all()
            .filter(|backend| backend.is_local || !prefers)
            .collect()
    }

    /// Says what the kernel could not express.
    pub(crate) fn check(&self, frontend: &Frontend) -> Result<()> {
        let invalid = |field, value: String, allowed| {
            Err(Error::Invalid {
                field,
                value,
                allowed,
            })
        };
        if frontend.port.is_some_and(|port| port.number == 0) {
            let allowed = "a port is 1 to 65535";
            return invalid("port of a frontend", "0".to_owned(), allowed);
        }
        if self.backends.len() > SLOTS_MAX {
            let count = self.backends.len().to_string();
            return invalid("number of backends", count, "at most 4096");
        }
        for backend in &self.backends {
            if backend.address.is_ipv4() != frontend.address.is_ipv4() {
                let allowed = "a backend's address is of its frontend's family";
                return invalid("address of a backend", backend.address.to_string(), allowed);
            }
            if backend.port == Some(0) {
                let allowed = "a port is 1 to 65535";
                return invalid("port of a backend", "0".to_owned(), allowed);
            }
            if frontend.port.is_none() && backend.port.is_some() {
                let allowed = "only a frontend with a port can be given another one";
                return invalid("port of a backend", format!("{:?}", backend.port), allowed);
            }
        }
        for name in &self.interfaces {
            check_interface(name)?;
        }
        Ok(())
    }
}

/// Interface names are 1 to 15 bytes without a slash or a space.
pub(crate) fn check_interface(name: &str) -> Result<()> {
    let fits = (1..=15).contains(&name.len());
    if fits && !name.contains(['/', '\0', ' ']) {
        return Ok(());
    }
    Err(Error::Invalid {
        field: "name of an interface",
        value: name.to_owned(),
        allowed: "1 to 15 bytes without slash or space",
    })
}
