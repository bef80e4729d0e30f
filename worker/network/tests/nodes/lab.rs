//! Nodes and containers of a test: namespaces, and processes that hold them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use swarm_network::{Network, Options, Sandbox, View};
use tunnel::PrivateKey;
use types::network::{
    Affinity, EndpointMode, Network as NetworkObject, NetworkAttachment, NetworkDriver,
    NetworkSpec, PublishedPort, Subnet, VirtualIp,
};
use types::reach::{NetworkSettings, Peer, Reach, ServiceEndpoint, TaskEndpoint};
use types::{Meta, NetworkId, NodeId, ServiceId, TaskId};

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

static LABS: AtomicU32 = AtomicU32::new(0);

/// Says why nothing of this can run here, if so.
pub(crate) fn skip(name: &str) -> bool {
    let reason = if !rustix::process::geteuid().is_root() {
        "needs root"
    } else if Command::new("ip").arg("-V").output().is_err() {
        "needs the ip program (package iproute2)"
    } else {
        return false;
    };
    let _ = std::io::stdout().write_all(format!("skipped: {reason} ({name})\n").as_bytes());
    true
}

/// A namespace in which a process waits.
pub(crate) struct Namespace {
    process: Child,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let process = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let namespace = Self { process };
        let entered = || {
            let path = format!("/proc/{}/ns/net", namespace.pid());
            std::fs::read_link(path).is_ok_and(|link| link != own)
        };
        eventually("a namespace", || entered().then_some(()));
        namespace.ip("link set lo up");
        namespace
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Runs `work` inside, on a thread of its own.
    pub(crate) fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().unwrap()
    }

    /// The same, without waiting for it.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = std::fs::File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        std::thread::spawn(move || {
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(file.as_fd(), kind).unwrap();
            work()
        })
    }

    /// Runs a program inside. Returns its output.
    pub(crate) fn run(&self, program: &str, args: &str) -> String {
        let output = Command::new("nsenter")
            .args(["-t", &self.pid().to_string(), "-n", program])
            .args(args.split_ascii_whitespace())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args}: {errors}");
        text
    }

    pub(crate) fn ip(&self, args: &str) -> String {
        self.run("ip", args)
    }

    /// Sends some bytes to a listener in `server` and has them sent back, over TCP.
    pub(crate) fn reaches(&self, server: &Namespace, address: IpAddr) -> std::io::Result<IpAddr> {
        self.exchange(server, SocketAddr::new(address, 0), None)
    }

    /// The same with a listener on all addresses at a port, called at another address and port.
    pub(crate) fn calls(
        &self,
        server: &Namespace,
        port: u16,
        address: IpAddr,
        at: u16,
    ) -> std::io::Result<IpAddr> {
        let all = types::network::unspecified(address);
        let to = Some(SocketAddr::new(address, at));
        self.exchange(server, SocketAddr::new(all, port), to)
    }

    /// Returns the address the server saw.
    fn exchange(
        &self,
        server: &Namespace,
        listens: SocketAddr,
        calls: Option<SocketAddr>,
    ) -> std::io::Result<IpAddr> {
        /// More than fits any one packet.
        const BYTES: usize = 100_000;
        let listener = server.inside(move || TcpListener::bind(listens))?;
        let own = listener.local_addr()?;
        let to = calls.unwrap_or(own);
        let serving = server.spawn(move || -> std::io::Result<IpAddr> {
            let (mut stream, from) = listener.accept()?;
            let mut bytes = vec![0; BYTES];
            stream.read_exact(&mut bytes)?;
            stream.write_all(&bytes)?;
            Ok(from.ip())
        });
        let called = self.inside(move || -> std::io::Result<()> {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(&vec![7; BYTES])?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes)?;
            assert_eq!(bytes.len(), BYTES);
            Ok(())
        });
        if let Err(error) = called {
            // Ends the listener as well.
            let _ = server.inside(move || TcpStream::connect_timeout(&own, Duration::from_secs(1)));
            return Err(error);
        }
        serving.join().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until `found` finds something.
pub(crate) fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "no {what} after {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A node: a namespace, connected to the others, in which the network of a daemon works.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) index: u32,
    pub(crate) namespace: Namespace,
    pub(crate) data_path: Vec<IpAddr>,
    pub(crate) network: Option<Network>,
    /// Its key for encrypted networks.
    pub(crate) key: PrivateKey,
    dir: PathBuf,
}

/// Some nodes on one wire.
pub(crate) struct Lab {
    pub(crate) nodes: Vec<Node>,
    pub(crate) networks: Vec<Arc<NetworkObject>>,
    pub(crate) tasks: Vec<TaskEndpoint>,
    pub(crate) services: Vec<ServiceEndpoint>,
    pub(crate) containers: Vec<(TaskId, Namespace)>,
    /// Holds the wire.
    hub: Namespace,
    _dir: tempfile::TempDir,
}

impl Lab {
    /// `underlay` says of which families the nodes have addresses: `4`, `6` or `46`.
    pub(crate) fn new(nodes: u32, underlay: &str) -> Self {
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        let hub = Namespace::new();
        hub.ip("link add wire type bridge");
        hub.ip("link set wire up");
        let mut all = Vec::new();
        for index in 1..=nodes {
            let namespace = Namespace::new();
            namespace.ip(&format!(
                "link add port{index} netns {} type veth peer name eth0",
                hub.pid()
            ));
            hub.ip(&format!("link set port{index} master wire up"));
            namespace.ip("link set eth0 up");
            let mut data_path = Vec::new();
            if underlay.contains('4') {
                namespace.ip(&format!("address add 10.99.{number}.{index}/24 dev eth0"));
                data_path.push(format!("10.99.{number}.{index}").parse().unwrap());
            }
            if underlay.contains('6') {
                namespace.ip(&format!(
                    "address add fd99:{number}::{index}/64 dev eth0 nodad"
                ));
                data_path.push(format!("fd99:{number}::{index}").parse().unwrap());
            }
            all.push(Node {
                id: NodeId::from_number(u128::from(index)),
                index,
                namespace,
                data_path,
                network: None,
                key: PrivateKey::generate(),
                dir: dir.path().join(index.to_string()),
            });
        }
        let mut lab = Self {
            nodes: all,
            networks: Vec::new(),
            tasks: Vec::new(),
            services: Vec::new(),
            containers: Vec::new(),
            hub,
            _dir: dir,
        };
        for node in 0..lab.nodes.len() {
            lab.start(node);
        }
        lab
    }

    /// Starts the network of a node, as its daemon would.
    pub(crate) fn start(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let mut options = Options::new(node.dir.clone());
        options.pass_period = Duration::from_secs(1);
        options.pass_delay = Duration::from_millis(50);
        node.network = Some(node.namespace.inside(|| Network::open(options)).unwrap());
    }

    /// Stops it without any word, as `kill -9` would.
    pub(crate) fn stop(&mut self, node: usize) {
        self.nodes[node].network = None;
    }

    pub(crate) fn network(&self, node: usize) -> &Network {
        self.nodes[node].network.as_ref().unwrap()
    }

    /// Adds an overlay whose subnets have these ranges; an IPv4 and an IPv6 one in one text share an
    /// identifier.
    pub(crate) fn add_overlay(
        &mut self,
        subnets: &[&str],
        change: impl FnOnce(&mut NetworkSpec),
    ) -> NetworkId {
        let number = self.networks.len() as u32 + 1;
        let mut all = Vec::new();
        for (at, ranges) in subnets.iter().enumerate() {
            for range in ranges.split_ascii_whitespace() {
                let subnet: ipnet::IpNet = range.parse().unwrap();
                let gateway = subnet.hosts().next().unwrap();
                all.push(Subnet {
                    subnet,
                    gateway,
                    vni: 4096 + number * 10 + at as u32,
                });
            }
        }
        self.add_network(NetworkDriver::Overlay, all, change)
    }

    pub(crate) fn add_network(
        &mut self,
        driver: NetworkDriver,
        subnets: Vec<Subnet>,
        change: impl FnOnce(&mut NetworkSpec),
    ) -> NetworkId {
        let number = self.networks.len() as u128 + 1;
        let id = NetworkId::from_number(number);
        let mut spec = NetworkSpec {
            name: format!("net{number}"),
            driver,
            ..NetworkSpec::default()
        };
        spec.ipv6 = subnets.iter().any(|subnet| subnet.gateway.is_ipv6());
        change(&mut spec);
        let network = NetworkObject {
            id,
            meta: Meta::default(),
            spec,
            subnets,
        };
        self.networks.push(Arc::new(network));
        id
    }

    /// Publishes the port of the first service's tasks at every node, and gives it these addresses.
    pub(crate) fn publish(&mut self, addresses: &[(NetworkId, &str)], published: u16, target: u16) {
        self.services.push(ServiceEndpoint {
            service: ServiceId::from_number(1),
            name: "web".to_owned(),
            mode: EndpointMode::Vip,
            affinity: Affinity::None,
            ports: vec![PublishedPort {
                published_port: published,
                target_port: target,
                ..PublishedPort::default()
            }],
            virtual_ips: addresses
                .iter()
                .map(|(network, address)| VirtualIp {
                    network: *network,
                    address: address.parse().unwrap(),
                })
                .collect(),
            aliases: vec![],
        });
    }

    /// Connects another machine to the wire. Returns its address.
    pub(crate) fn connect(&self, machine: &Namespace, number: u8) -> IpAddr {
        machine.ip(&format!(
            "link add port{number} netns {} type veth peer name eth0",
            self.hub.pid()
        ));
        self.hub
            .ip(&format!("link set port{number} master wire up"));
        let IpAddr::V4(node) = self.nodes[0].data_path[0] else {
            panic!("an IPv4 wire")
        };
        let [a, b, c, _] = node.octets();
        machine.ip(&format!("address add {a}.{b}.{c}.{number}/24 dev eth0"));
        machine.ip("link set eth0 up");
        IpAddr::from([a, b, c, number])
    }

    /// Tells every node of everything, as managers do.
    pub(crate) fn tell(&self) {
        for node in &self.nodes {
            let Some(network) = &node.network else {
                continue;
            };
            network.set_view(Arc::new(self.view(node)));
        }
    }

    pub(crate) fn view(&self, node: &Node) -> View {
        let peer = |node: &Node| Peer {
            node: node.id,
            index: node.index,
            data_path: node.data_path.clone(),
            wireguard_keys: vec![node.key.public().0],
            alive: true,
        };
        let reach = Reach {
            settings: Some(NetworkSettings {
                index: node.index,
                data_path_port: 4789,
                gossip_keys: vec![],
            }),
            networks: self
                .networks
                .iter()
                .map(|one| (one.id, Arc::clone(one)))
                .collect(),
            tasks: self
                .tasks
                .iter()
                .map(|one| (one.task, Arc::new(one.clone())))
                .collect(),
            services: self
                .services
                .iter()
                .map(|one| (one.service, Arc::new(one.clone())))
                .collect(),
            peers: self
                .nodes
                .iter()
                .map(|node| (node.id, Arc::new(peer(node))))
                .collect(),
        };
        View::new(node.id, node.data_path.clone(), Arc::new(reach))
    }

    /// Runs a task on a node, on these networks with these addresses. Returns the container.
    pub(crate) async fn run(
        &mut self,
        node: usize,
        attachments: &[(NetworkId, &str)],
    ) -> (usize, Sandbox) {
        let task = TaskId::from_number(self.tasks.len() as u128 + 1);
        let attachments: Vec<NetworkAttachment> = attachments
            .iter()
            .map(|(network, addresses)| NetworkAttachment {
                network: *network,
                addresses: addresses
                    .split_ascii_whitespace()
                    .map(|address| address.parse().unwrap())
                    .collect(),
                aliases: vec![],
            })
            .collect();
        self.tasks.push(TaskEndpoint {
            task,
            service: ServiceId::from_number(1),
            slot: 1,
            node: self.nodes[node].id,
            name: format!("task.{}", self.tasks.len()),
            hostname: String::new(),
            attachments: attachments.clone(),
            serving: true,
            weight: 1,
        });
        self.tell();
        let container = Namespace::new();
        let sandbox = self
            .network(node)
            .reserve(task, attachments, vec![])
            .await
            .unwrap();
        self.network(node)
            .attach(task, container.pid())
            .await
            .unwrap();
        self.containers.push((task, container));
        (self.containers.len() - 1, sandbox)
    }

    pub(crate) fn container(&self, at: usize) -> &Namespace {
        &self.containers[at].1
    }

    /// Waits until a node has nothing left to repair.
    pub(crate) async fn settle(&self, node: usize) {
        let start = Instant::now();
        loop {
            let differences = self.network(node).verify().await.unwrap();
            if differences.is_empty() {
                return;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "still different: {differences:?}"
            );
        }
    }
}

/// What a container's interface is like, as the `ip` program tells.
pub(crate) fn shows(namespace: &Namespace, args: &str, text: &str) -> bool {
    namespace.ip(args).contains(text)
}
