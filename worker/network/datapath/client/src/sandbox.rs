//! A sandbox as the datapath process sees it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use types::NetworkId;

/// Servers asked for one name at most (semantics S16.03).
pub const SERVERS_MAX: usize = 3;

/// Longest id of a sandbox in bytes.
const ID_BYTES_MAX: usize = 128;

/// What a sandbox is called: its task's id, or a name such as `ingress`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SandboxId(String);

/// A text that cannot be the id of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sandbox id {0:?} is not 1-{ID_BYTES_MAX} bytes of text")]
pub struct ParseSandboxIdError(String);

impl SandboxId {
    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SandboxId {
    type Err = ParseSandboxIdError;

    fn from_str(text: &str) -> Result<Self, ParseSandboxIdError> {
        if (1..=ID_BYTES_MAX).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseSandboxIdError(text.to_owned()))
        }
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a sandbox may ask, and where its other questions go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxView {
    /// The networks it is on. A name that several of them know is the first one's.
    pub networks: Vec<NetworkId>,
    /// Where names none of them knows are asked for.
    pub forwarding: Forwarding,
    /// Port DNS answers at, UDP and TCP; 0 lets the kernel choose, for a sandbox that translates
    /// port 53 because its program listens there itself.
    pub dns_port: u16,
}

/// Where the names a sandbox's networks do not know are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// The servers, at most [`SERVERS_MAX`] of them are used. Without any, such names fail at once.
    pub servers: Vec<SocketAddr>,
    /// From where they are asked.
    pub origin: Origin,
    /// Whether names of one label are kept from them: the user set `ndots` above 0, so that the
    /// client goes on with its search list.
    pub keeps_single_labels: bool,
}

/// In which network namespace a question leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// The node's, for a sandbox that may reach the world.
    #[default]
    Node,
    /// The sandbox's own, for one that may not: then a server on one of its networks can answer,
    /// and nothing leaks past the networks' borders (CVE-2024-29018).
    Sandbox,
}

/// Ports on which a sandbox's DNS answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundPorts {
    /// For UDP.
    pub udp: u16,
    /// For TCP.
    pub tcp: u16,
}
