//! Why something of the network cannot be done.

use std::path::PathBuf;

use ipnet::IpNet;
use types::network::NetworkDriver;
use types::{NetworkId, TaskId};

use crate::state::LinkName;

/// Why something of the network cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory cannot be used.
    #[error("{doing} {}", path.display())]
    File {
        /// Verb phrase.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused something as a whole.
    #[error("{doing}")]
    Kernel {
        /// Verb phrase.
        doing: &'static str,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused one change.
    #[error("{change}")]
    Change {
        /// What was to be done.
        change: String,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The node does not know yet which one it is.
    #[error("this node knows nothing of networks yet")]
    NoView,
    /// The packet filter refused something.
    #[error("set up a container's packet filter")]
    Filter(#[source] Box<nft::Error>),
    /// A port of the node is asked for twice.
    #[error("port {port}/{protocol} of this node is taken by task {holder}")]
    PortTaken {
        /// The port.
        port: u16,
        /// Its protocol.
        protocol: types::network::Protocol,
        /// Who has it.
        holder: TaskId,
    },
    /// A program of the node listens at a port that is asked for.
    #[error(
        "port {port}/{protocol} of this node is in use by {program}: publish another port, or stop \
         what listens there"
    )]
    PortInUse {
        /// The port.
        port: u16,
        /// Its protocol.
        protocol: types::network::Protocol,
        /// What is known of the program.
        program: String,
    },
    /// Managers have not told of a network yet.
    #[error("network {0} is not known to this node yet")]
    UnknownNetwork(NetworkId),
    /// A device network without a device.
    #[error("network {0:?} names no device of the node: give it --opt parent=DEVICE")]
    NoParent(String),
    /// The device is not there.
    #[error("network {network:?} needs the device {parent:?}, which this node does not have")]
    UnknownParent {
        /// The network.
        network: String,
        /// The device.
        parent: String,
    },
    /// The driver has no such mode.
    #[error("{option} {mode:?} of network {network:?} is none of {allowed}")]
    Mode {
        /// The network.
        network: String,
        /// The option's name.
        option: &'static str,
        /// What was asked.
        mode: String,
        /// What could be asked.
        allowed: &'static str,
    },
    /// The kernel is built without the driver.
    #[error("the kernel of this node has no {0}")]
    Unsupported(&'static str),
    /// Nothing is attached to such a network.
    #[error("network {0:?} of driver {1} has no interfaces")]
    NotAttachable(String, NetworkDriver),
    /// No address was given on a network.
    #[error("the task has no address on network {0:?}")]
    NoAddress(String),
    /// Every pool the node could choose from is in use on it.
    #[error("no subnet is left for a network of this node: give it --subnet")]
    NoSubnet,
    /// Every address of a subnet is in use.
    #[error("no address is left in {0}")]
    Exhausted(IpNet),
    /// Every port the node could choose is taken.
    #[error("no port of this node is left")]
    NoPort,
    /// Nothing was reserved for the task.
    #[error("nothing was reserved for task {0}")]
    NotReserved(TaskId),
    /// The container has ended meanwhile.
    #[error("the container of task {0} is gone")]
    Gone(TaskId),
    /// A bridge is missing that should be there.
    #[error("link {0} is missing")]
    MissingLink(LinkName),
    /// The network has been stopped.
    #[error("the network is shutting down")]
    Stopped,
}

impl Error {
    pub(crate) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }

    pub(crate) fn kernel(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Kernel { doing, source }
    }
}
