//! A node with sandboxes, and clients that ask in them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use datapath::namespace::within;
use datapath_client::{
    Datapath, NetworkRecords, Options, ProgramSource, RecordSet, SandboxId, SandboxView, TaskRecord,
};
use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::NetworkId;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_swarm-datapath");

/// Why these tests cannot run here.
pub(crate) fn cannot_run() -> bool {
    let can = rustix::process::geteuid().is_root() && new_namespace().is_ok();
    if !can {
        skip("network namespaces need root");
    }
    !can
}

/// Says why the running test cannot run here, past the capture of its output.
pub(crate) fn skip(reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    let _ = std::io::stdout().write_all(format!("skipped: {reason} ({name})\n").as_bytes());
}

/// A fresh network namespace with its loopback device up.
pub(crate) fn new_namespace() -> std::io::Result<OwnedFd> {
    std::thread::spawn(|| {
        #[expect(
            deprecated,
            reason = "safe here: a thread of its own that shares no descriptors"
        )]
        rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET)?;
        let status = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()?;
        if !status.success() {
            return Err(std::io::Error::other("ip link set lo up failed"));
        }
        Ok(std::fs::File::open("/proc/thread-self/ns/net")?.into())
    })
    .join()
    .expect("the thread does not panic")
}

/// A directory for the socket, and the certainty that the process ends.
pub(crate) struct Machine {
    dir: TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("datapath.sock")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The process that serves now.
    pub(crate) fn process(&self) -> Option<Pid> {
        let stream = datapath_client::connect(&self.socket()).ok()?;
        let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
        Some(peer.pid)
    }

    /// A daemon that starts the program in `program`.
    pub(crate) fn daemon_with(&self, program: &Path) -> Daemon {
        let (handle, service) = Datapath::new(Options {
            program: ProgramSource::Path(program.to_owned()),
            socket: self.socket(),
        });
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(service.run(shutdown.clone()));
        Daemon {
            handle,
            shutdown,
            tasks,
        }
    }

    pub(crate) fn daemon(&self) -> Daemon {
        self.daemon_with(Path::new(PROGRAM))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(pid) = self.process() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The daemon's side of the process.
pub(crate) struct Daemon {
    pub(crate) handle: Datapath,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Daemon {
    /// Stops, as a daemon that is stopped does.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    pub(crate) async fn add(&self, id: &str, networks: &[u128], namespace: &Arc<OwnedFd>) {
        self.add_with(id, view(networks), namespace).await;
    }

    pub(crate) async fn add_with(&self, id: &str, view: SandboxView, namespace: &Arc<OwnedFd>) {
        let id: SandboxId = id.parse().unwrap();
        let set = self.handle.set_sandbox(id, Arc::clone(namespace), view);
        let ports = tokio::time::timeout(PATIENCE, set).await.unwrap().unwrap();
        assert!(ports.udp != 0 && ports.tcp != 0);
    }
}

pub(crate) fn view(networks: &[u128]) -> SandboxView {
    SandboxView {
        networks: networks
            .iter()
            .map(|n| NetworkId::from_number(*n))
            .collect(),
        dns_port: 53,
        ..SandboxView::default()
    }
}

/// One service with a virtual address and some tasks.
pub(crate) fn records(network: u128, name: &str, service: &str, tasks: u8) -> NetworkRecords {
    let n = u8::try_from(network).unwrap();
    let task = |i: u8| TaskRecord {
        names: vec![format!("{service}.{i}")],
        addresses: vec![
            [10, n, 1, i].into(),
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 1, i.into()]),
        ],
        node: None,
        is_serving: true,
    };
    NetworkRecords {
        network: NetworkId::from_number(network),
        name: name.to_owned(),
        sets: vec![RecordSet {
            owner: format!("owner-of-{service}"),
            version: 1,
            names: vec![service.to_owned()],
            virtual_ips: vec![[10, n, 0, 1].into()],
            tasks: (1..=tasks).map(task).collect(),
        }],
    }
}

pub(crate) fn query(name: &str, record_type: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    message
}

/// Asks in a sandbox as a program there would, waiting for an answer once.
pub(crate) fn ask(namespace: &OwnedFd, query: &Message) -> Message {
    let socket = within(namespace, || UdpSocket::bind("127.0.0.1:0")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
        .send_to(&query.to_vec().unwrap(), "127.0.0.11:53")
        .unwrap();
    let mut packet = [0; 4096];
    let (length, from) = socket.recv_from(&mut packet).unwrap();
    assert_eq!(from, "127.0.0.11:53".parse().unwrap());
    let reply = Message::from_vec(&packet[..length]).unwrap();
    assert_eq!(reply.metadata.id, query.metadata.id);
    reply
}

pub(crate) fn ask_tcp(namespace: &OwnedFd, query: &Message) -> Message {
    let mut stream = within(namespace, || TcpStream::connect("127.0.0.11:53")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let packet = query.to_vec().unwrap();
    stream
        .write_all(&u16::try_from(packet.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(&packet).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut packet = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut packet).unwrap();
    Message::from_vec(&packet).unwrap()
}

/// The addresses a name leads to, sorted.
pub(crate) fn addresses(namespace: &OwnedFd, name: &str) -> Vec<String> {
    data(&ask(namespace, &query(name, RecordType::A)))
}

pub(crate) fn data(reply: &Message) -> Vec<String> {
    let mut data: Vec<_> = reply
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    data.sort();
    data
}

/// Waits until something holds.
pub(crate) async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} does not come to be");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A path that leads to a descriptor of this process.
pub(crate) fn descriptor_path(fd: &OwnedFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd())
}
