//! What daemon and process say to each other, as protobuf messages; and their meaning.
//!
//! A message is a [`Request`] or an [`Answer`]; on the socket it is framed by [`crate::channel`].
//! Unknown fields and requests are told apart by `PROTOCOL` and an answer that refuses them, so that
//! fields and requests can be added.

mod convert;
mod convert_tunnel;

pub use convert::Malformed;

/// Something the process is asked; the answer carries the same id.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Chosen by who asks; not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is asked. A kind this process does not know arrives as none.
    #[prost(oneof = "Ask", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14")]
    pub ask: Option<Ask>,
}

/// What the process is asked.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Ask {
    /// First on every connection. From then on only this connection may change anything.
    #[prost(message, tag = "2")]
    Hello(Hello),
    /// Serve a sandbox. Carries a descriptor of its network namespace.
    #[prost(message, tag = "3")]
    SetSandbox(Sandbox),
    /// Forget a sandbox, by id.
    #[prost(string, tag = "4")]
    RemoveSandbox(String),
    /// Learn names of a network.
    #[prost(message, tag = "5")]
    SetNetwork(Network),
    /// Forget a network, by id.
    #[prost(string, tag = "6")]
    RemoveNetwork(String),
    /// Gossip with these.
    #[prost(message, tag = "7")]
    SetGossip(Gossip),
    /// Forget all sandboxes and networks but these.
    #[prost(message, tag = "8")]
    Retain(Retain),
    /// Tell what is served.
    #[prost(message, tag = "9")]
    Status(Empty),
    /// Hand everything over to the process that asks: its requests follow as if a daemon sent them,
    /// then [`Tell::HandedOver`].
    #[prost(message, tag = "10")]
    HandOver(Empty),
    /// Everything is taken over: end.
    #[prost(message, tag = "11")]
    TakenOver(Empty),
    /// Nothing is to be served here any more: end.
    #[prost(message, tag = "12")]
    End(Empty),
    /// Carry encrypted networks, and no others.
    #[prost(message, tag = "13")]
    SetTunnel(Tunnel),
    /// During a hand-over, before the tunnel: a device of it, by name. Carries its descriptor.
    #[prost(string, tag = "14")]
    AdoptDevice(String),
}

/// What the process tells: an answer, or with id 0 something that happened.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    /// The request's, or 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is told.
    #[prost(oneof = "Tell", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub tell: Option<Tell>,
}

/// What the process tells.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Tell {
    /// It is done.
    #[prost(message, tag = "2")]
    Done(Empty),
    /// It is not done, and why.
    #[prost(string, tag = "3")]
    Refused(String),
    /// Answer to a hello.
    #[prost(message, tag = "4")]
    Welcome(Hello),
    /// Answer to a sandbox: DNS answers there.
    #[prost(message, tag = "5")]
    Bound(Bound),
    /// Answer to a question for the status.
    #[prost(message, tag = "6")]
    Status(Status),
    /// Happened: what gossip knows has changed. All peers are told.
    #[prost(message, tag = "7")]
    Peers(Peers),
    /// Happened: something an operator may want to know.
    #[prost(string, tag = "8")]
    Warning(String),
    /// During a hand-over: one of the things to take over. Descriptors come with a sandbox: its
    /// namespace, its UDP socket, its TCP listener; with gossip: its socket; with a device: its own.
    #[prost(message, tag = "9")]
    Item(Request),
    /// The hand-over is complete.
    #[prost(message, tag = "10")]
    HandedOver(Empty),
}

/// Nothing more to say.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// Who is speaking.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Hello {
    /// `PROTOCOL` of the speaker.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// Digest of the datapath program: the process's own, or the one the daemon came with.
    #[prost(string, tag = "2")]
    pub release: String,
}

/// A sandbox and what it may ask.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Sandbox {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Ids of its networks, in the order of asking.
    #[prost(string, repeated, tag = "2")]
    pub networks: Vec<String>,
    /// Servers as `address:port`.
    #[prost(string, repeated, tag = "3")]
    pub servers: Vec<String>,
    /// Whether they are asked from the sandbox's namespace.
    #[prost(bool, tag = "4")]
    pub asks_from_sandbox: bool,
    /// Whether names of one label are kept from them.
    #[prost(bool, tag = "5")]
    pub keeps_single_labels: bool,
    /// Port to answer at; 0 for any.
    #[prost(uint32, tag = "6")]
    pub dns_port: u32,
}

/// Ports that were bound.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Bound {
    /// For UDP.
    #[prost(uint32, tag = "1")]
    pub udp: u32,
    /// For TCP.
    #[prost(uint32, tag = "2")]
    pub tcp: u32,
}

/// Changes to the names of a network.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Network {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Sets that are new or changed.
    #[prost(message, repeated, tag = "3")]
    pub sets: Vec<Set>,
    /// Owners whose sets go.
    #[prost(string, repeated, tag = "4")]
    pub removed: Vec<String>,
    /// If present, all other owners' sets go, too.
    #[prost(message, optional, tag = "5")]
    pub retain: Option<Owners>,
}

/// Owners of record sets.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Owners {
    /// Each owner.
    #[prost(string, repeated, tag = "1")]
    pub owners: Vec<String>,
}

/// The names of one owner.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Set {
    /// The owner.
    #[prost(string, tag = "1")]
    pub owner: String,
    /// Index of the store.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Its names.
    #[prost(string, repeated, tag = "3")]
    pub names: Vec<String>,
    /// Virtual addresses, 4 or 16 bytes.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub virtual_ips: Vec<Vec<u8>>,
    /// Its tasks.
    #[prost(message, repeated, tag = "5")]
    pub tasks: Vec<Task>,
    /// Of all of it; only in a status.
    #[prost(uint64, tag = "6")]
    pub fingerprint: u64,
}

/// A task's place.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Task {
    /// Its names.
    #[prost(string, repeated, tag = "1")]
    pub names: Vec<String>,
    /// Addresses, 4 or 16 bytes.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub addresses: Vec<Vec<u8>>,
    /// Its node's id; empty when unknown.
    #[prost(string, tag = "3")]
    pub node: String,
    /// Whether the service's names lead to it.
    #[prost(bool, tag = "4")]
    pub is_serving: bool,
}

/// What gossip needs.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Gossip {
    /// This node's id.
    #[prost(string, tag = "1")]
    pub node: String,
    /// Where packets are awaited.
    #[prost(string, tag = "2")]
    pub listen: String,
    /// Where others send theirs.
    #[prost(string, tag = "3")]
    pub advertise: String,
    /// The others.
    #[prost(message, repeated, tag = "4")]
    pub peers: Vec<Peer>,
    /// Keys, the sealing one first.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub keys: Vec<Vec<u8>>,
}

/// Another node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Peer {
    /// Its id.
    #[prost(string, tag = "1")]
    pub node: String,
    /// Where it awaits packets.
    #[prost(string, tag = "2")]
    pub address: String,
    /// 0 unknown, 1 up, 2 down. Only told, not asked.
    #[prost(uint32, tag = "3")]
    pub liveness: u32,
}

/// What gossip knows.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Peers {
    /// Each peer of the view.
    #[prost(message, repeated, tag = "1")]
    pub peers: Vec<Peer>,
}

/// What encrypted networks need. None of them, and nothing is carried.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Tunnel {
    /// This node's index.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// This node's private keys of 32 bytes, the one to send with first.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub keys: Vec<Vec<u8>>,
    /// The other nodes.
    #[prost(message, repeated, tag = "3")]
    pub peers: Vec<TunnelPeer>,
    /// The networks, a segment each.
    #[prost(message, repeated, tag = "4")]
    pub networks: Vec<TunnelNetwork>,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the keys.
        f.debug_struct("Tunnel")
            .field("index", &self.index)
            .field("peers", &self.peers)
            .field("networks", &self.networks)
            .finish_non_exhaustive()
    }
}

/// A node at the other end.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TunnelPeer {
    /// Its index.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// Where its packets go, 4 or 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub address: Vec<u8>,
    /// The UDP port there.
    #[prost(uint32, tag = "3")]
    pub port: u32,
    /// Its public keys of 32 bytes, the one to send to first.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub keys: Vec<Vec<u8>>,
}

/// A VXLAN segment.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TunnelNetwork {
    /// Its identifier.
    #[prost(uint32, tag = "1")]
    pub vni: u32,
    /// Its TAP device.
    #[prost(string, tag = "2")]
    pub device: String,
    /// Bytes of its packets.
    #[prost(uint32, tag = "3")]
    pub mtu: u32,
    /// Who is on it.
    #[prost(message, repeated, tag = "4")]
    pub stations: Vec<Station>,
}

/// A holder of addresses.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Station {
    /// Its MAC address of 6 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub mac: Vec<u8>,
    /// Its addresses, 4 or 16 bytes.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub addresses: Vec<Vec<u8>>,
    /// Index of its node; 0 for this one.
    #[prost(uint32, tag = "3")]
    pub peer: u32,
}

/// What is carried.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TunnelStatus {
    /// Identifiers of the segments.
    #[prost(uint32, repeated, tag = "1")]
    pub vnis: Vec<u32>,
    /// Indices of the nodes that packets can be sealed for at once.
    #[prost(uint32, repeated, tag = "2")]
    pub ready: Vec<u32>,
    /// Indices of the others: they have not answered, or had nothing to say for minutes.
    #[prost(uint32, repeated, tag = "3")]
    pub unready: Vec<u32>,
    /// Packets sealed and sent.
    #[prost(uint64, tag = "4")]
    pub sealed: u64,
    /// Frames opened and passed on.
    #[prost(uint64, tag = "5")]
    pub opened: u64,
    /// Frames for nobody known.
    #[prost(uint64, tag = "6")]
    pub unknown: u64,
    /// Frames from a node that does not hold their source.
    #[prost(uint64, tag = "7")]
    pub spoofed: u64,
    /// Packets that could not be read, opened or sent.
    #[prost(uint64, tag = "8")]
    pub failed: u64,
}

/// What stays.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Retain {
    /// Ids of sandboxes.
    #[prost(string, repeated, tag = "1")]
    pub sandboxes: Vec<String>,
    /// Ids of networks.
    #[prost(string, repeated, tag = "2")]
    pub networks: Vec<String>,
    /// Whether gossip goes on.
    #[prost(bool, tag = "3")]
    pub gossip: bool,
}

/// What is served.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// Ids of sandboxes.
    #[prost(string, repeated, tag = "1")]
    pub sandboxes: Vec<String>,
    /// Networks: id and sets, of which only owner, version and fingerprint are filled in.
    #[prost(message, repeated, tag = "2")]
    pub networks: Vec<Network>,
    /// What gossip knows.
    #[prost(message, optional, tag = "3")]
    pub peers: Option<Peers>,
    /// Questions answered from own records.
    #[prost(uint64, tag = "4")]
    pub answered: u64,
    /// Questions passed on.
    #[prost(uint64, tag = "5")]
    pub forwarded: u64,
    /// Questions that failed.
    #[prost(uint64, tag = "6")]
    pub failed: u64,
    /// What is carried of encrypted networks, if there are any.
    #[prost(message, optional, tag = "7")]
    pub tunnel: Option<TunnelStatus>,
}
