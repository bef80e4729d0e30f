//! Looking at the network from inside of a task: names, connections, datagrams, addresses.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::net::within;
use crate::{Lab, Node, http, wait_for};

/// Where names are answered in a container.
pub const DNS_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);

/// How long one question, connection or datagram may take.
pub const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Largest answer asked for over UDP, in bytes.
const DNS_BYTES_MAX: u16 = 4096;

/// A running task, seen from inside of its network namespace.
#[derive(Debug)]
pub struct Probe {
    /// Id of the task.
    pub task: String,
    /// `SERVICE.SLOT`, as `service ps` has it.
    pub name: String,
    /// Number of its node in the lab, from 0.
    pub node: usize,
    /// First process of its container, as this machine counts.
    pub pid: u32,
    namespace: File,
}

/// What DNS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it went.
    pub code: ResponseCode,
    /// Addresses and names of the answer, sorted.
    pub data: Vec<String>,
}

impl Probe {
    /// Probes of all tasks of a service, waiting until this many run and no other is left.
    /// `manager` is the number of the node asked.
    ///
    /// # Errors
    /// When they do not all run within `limit`.
    pub fn of_service(
        lab: &Lab,
        manager: usize,
        service: &str,
        count: usize,
        limit: Duration,
    ) -> Result<Vec<Self>> {
        wait_for(&format!("{count} tasks of {service}"), limit, || {
            let format = "{{.ID}} {{.Name}} {{.Node}} {{.DesiredState}} {{.CurrentState}}";
            let list = ["service", "ps", "--no-trunc", "--format", format, service];
            let list = lab.node(manager).ctl(&list)?;
            let mut probes = Vec::new();
            for line in list.lines() {
                let words: Vec<&str> = line.split(' ').collect();
                let [task, name, node, desired, current, ..] = words[..] else {
                    continue;
                };
                if desired == "Running" && current == "Running" {
                    let node = lab.nodes().iter().position(|one| one.name() == node);
                    let node = node.context("a task's node is one of the lab's")?;
                    probes.push(Self::of_task(lab, node, task, name)?);
                } else if !["Complete", "Failed", "Shutdown", "Rejected", "Orphaned"]
                    .contains(&current)
                {
                    return Ok(Err(list));
                }
            }
            Ok(if probes.len() == count {
                Ok(probes)
            } else {
                Err(list)
            })
        })
    }

    /// Probe of a task by its id, on the node that runs it.
    ///
    /// # Errors
    /// When it has no container there.
    pub fn of_task(lab: &Lab, node: usize, task: &str, name: &str) -> Result<Self> {
        let pid = lab.node(node).container_pid(task)?;
        let path = format!("/proc/{pid}/ns/net");
        Ok(Self {
            task: task.to_owned(),
            name: name.to_owned(),
            node,
            pid,
            namespace: File::open(&path).with_context(|| format!("opening {path}"))?,
        })
    }

    /// Does something inside, on a thread of its own.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        within(&self.namespace, work).with_context(|| format!("in {} ({})", self.name, self.task))
    }

    /// Asks DNS for a name; once more over TCP when the answer is cut short.
    ///
    /// # Errors
    /// When there is no answer in time or it is not one.
    pub fn ask(&self, name: &str, of: RecordType) -> Result<Answer> {
        self.within(|| ask(name, of))
            .with_context(|| format!("asking for {name} {of}"))
    }

    /// All addresses of a name, of both families, sorted; empty when there is no such name.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub fn addresses_of(&self, name: &str) -> Result<Vec<IpAddr>> {
        let mut addresses = Vec::new();
        for of in [RecordType::A, RecordType::AAAA] {
            let answer = self.ask(name, of)?;
            let parsed = answer.data.iter().map(|address| Ok(address.parse()?));
            addresses.extend(parsed.collect::<Result<Vec<IpAddr>>>()?);
        }
        addresses.sort();
        Ok(addresses)
    }

    /// Names of an address, with their final dots, sorted; empty when it has none.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub fn names_of(&self, address: IpAddr) -> Result<Vec<String>> {
        let name = Name::from(address);
        Ok(self.ask(&name.to_ascii(), RecordType::PTR)?.data)
    }

    /// Body of a page fetched from inside.
    ///
    /// # Errors
    /// When there is no connection, no answer in time, or a status other than 200.
    pub fn get(&self, address: SocketAddr, path: &str) -> Result<String> {
        self.within(|| http::get(address, path, ANSWER_MAX))
    }

    /// What the example service says of itself and of us: `host` (the first 12 characters of its
    /// task's id), `version`, `client` (our address).
    ///
    /// # Errors
    /// When it does not answer.
    pub fn who(&self, address: SocketAddr) -> Result<BTreeMap<String, String>> {
        Ok(who(&self.get(address, "/who")?))
    }

    /// A TCP connection made from inside.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        self.within(|| {
            let stream = TcpStream::connect_timeout(&address, ANSWER_MAX)
                .with_context(|| format!("connecting to {address}"))?;
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            stream.set_write_timeout(Some(ANSWER_MAX))?;
            Ok(stream)
        })
    }

    /// The same, asked by a datagram.
    ///
    /// # Errors
    /// When no answer comes in time.
    pub fn who_udp(&self, address: SocketAddr) -> Result<BTreeMap<String, String>> {
        self.within(|| who_udp(address))
    }

    /// Addresses of its interfaces but loopback, as `(interface, address, prefix length)`.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn addresses(&self) -> Result<Vec<(String, IpAddr, u8)>> {
        let list = self.ip(&["-o", "addr", "show", "scope", "global"])?;
        let lines = list.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (interface, address) = (words.get(1), words.get(3));
            let (interface, address) = interface.zip(address).context("ip prints four words")?;
            let (address, prefix) = address.split_once('/').unwrap_or((address, "0"));
            Ok(((*interface).to_owned(), address.parse()?, prefix.parse()?))
        });
        lines.collect()
    }

    /// Its address in a subnet given as `10.0.9.0/24` or `fd00::/64`.
    ///
    /// # Errors
    /// When it has none, or the subnet is not one.
    pub fn address_in(&self, subnet: &str) -> Result<IpAddr> {
        let (network, prefix) = subnet.split_once('/').context("NETWORK/PREFIX")?;
        let (network, prefix): (IpAddr, u32) = (network.parse()?, prefix.parse()?);
        let addresses = self.addresses()?;
        let found = addresses
            .iter()
            .find(|(_, address, _)| is_in(*address, network, prefix));
        let (_, address, _) =
            found.with_context(|| format!("{} has {addresses:?}, none in {subnet}", self.name))?;
        Ok(*address)
    }

    /// What `ip` with these words prints inside.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, words: &[&str]) -> Result<String> {
        self.within(|| {
            let output = Command::new("ip").args(words).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "ip {words:?}: {}", said.trim());
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        })
    }
}

impl Node {
    /// First process of a task's container, as this machine (not the node) counts.
    ///
    /// # Errors
    /// When the node has no such container.
    pub fn container_pid(&self, task: &str) -> Result<u32> {
        let entries = std::fs::read_dir("/proc").context("reading /proc")?;
        let pids = entries.flatten().filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
            let cgroup = format!("/{}/{task}", self.cgroup_parent());
            groups.lines().find(|line| line.ends_with(&cgroup))?;
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("NSpid:"))?;
            (line.split_whitespace().next_back()? == "1").then_some(pid)
        });
        match pids.collect::<Vec<_>>()[..] {
            [pid] => Ok(pid),
            ref pids => bail!("containers of task {task} on {}: {pids:?}", self.name()),
        }
    }
}

fn is_in(address: IpAddr, network: IpAddr, prefix: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & mask == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & mask == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

fn ask(name: &str, of: RecordType) -> Result<Answer> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name)?, of));
    let mut edns = Edns::new();
    edns.set_max_payload(DNS_BYTES_MAX);
    query.set_edns(edns);
    let bytes = query.to_vec()?;

    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    socket.connect(DNS_SERVER)?;
    socket.send(&bytes)?;
    let mut packet = vec![0; usize::from(u16::MAX)];
    let length = socket.recv(&mut packet).context("waiting for the answer")?;
    let mut reply = Message::from_vec(&packet[..length])?;
    if reply.metadata.truncation {
        let mut stream = TcpStream::connect_timeout(&DNS_SERVER, ANSWER_MAX)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let length = u16::try_from(bytes.len())?.to_be_bytes();
        std::io::Write::write_all(&mut stream, &[&length[..], &bytes].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        packet.resize(u16::from_be_bytes(length).into(), 0);
        stream.read_exact(&mut packet)?;
        reply = Message::from_vec(&packet)?;
    }
    ensure!(
        reply.metadata.id == query.metadata.id,
        "the answer to another question"
    );
    let mut data = Vec::new();
    for record in &reply.answers {
        data.push(match &record.data {
            RData::A(address) => address.0.to_string(),
            RData::AAAA(address) => address.0.to_string(),
            RData::PTR(name) => name.0.to_ascii(),
            other => bail!("an answer of another kind: {other}"),
        });
    }
    data.sort();
    Ok(Answer {
        code: reply.metadata.response_code,
        data,
    })
}

/// What the example service says of itself and of whoever asks, asked by a datagram from the
/// network namespace this thread is in.
///
/// # Errors
/// When no answer comes in time.
pub fn who_udp(address: SocketAddr) -> Result<BTreeMap<String, String>> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    socket.connect(address)?;
    socket.send(b"who?")?;
    let mut packet = [0; 4096];
    let length = socket
        .recv(&mut packet)
        .with_context(|| format!("waiting for a datagram from {address}"))?;
    let answer = String::from_utf8_lossy(&packet[..length]);
    Ok(who(&answer))
}

/// Reads the `name=value` words the example service tells with who answers whom.
#[must_use]
pub fn who(text: &str) -> BTreeMap<String, String> {
    let words = text
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    words
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
