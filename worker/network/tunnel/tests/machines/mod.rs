//! Machines as network namespaces with a cable between them, each with its end of a tunnel.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tunnel::{Desired, EncryptedNetwork, PeerNode, PrivateKey, Station, Tunnel};
use types::network::endpoint_mac;

const DEVICE: &str = "swt4096";
const VNI: u32 = 4096;
/// The cable's 1500 bytes less IPv6, UDP, WireGuard, and IPv4, UDP, VXLAN and Ethernet inside.
const MTU: u32 = 1500 - 40 - 8 - 32 - 36 - 14;

static RUNS: AtomicU32 = AtomicU32::new(0);

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// The address of a machine on the encrypted network.
pub(crate) fn inner(index: u32, v6: bool) -> IpAddr {
    let last = u8::try_from(index).unwrap();
    match v6 {
        false => Ipv4Addr::new(10, 9, 0, last).into(),
        true => Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, last.into()).into(),
    }
}

fn outer(index: u32, v6: bool) -> IpAddr {
    let last = u8::try_from(index).unwrap();
    match v6 {
        false => Ipv4Addr::new(10, 77, 0, last).into(),
        true => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last.into()).into(),
    }
}

fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => panic!(
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(_) => false,
    }
}

pub(crate) struct Machines {
    pub(crate) a: Machine,
    pub(crate) b: Machine,
    v6: bool,
}

pub(crate) struct Machine {
    name: String,
    index: u32,
    namespace: File,
    pub(crate) keys: Vec<PrivateKey>,
    pub(crate) stations_of_a_belong_to: Option<u32>,
    tunnel: Option<Tunnel>,
}

impl Machines {
    /// Two machines and a cable. None, and a word about it, where they cannot be made.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !ip("-V") {
            println!("skipped: needs root and iproute2");
            return None;
        }
        let run = format!(
            "{}x{}",
            std::process::id(),
            RUNS.fetch_add(1, Ordering::Relaxed)
        );
        let (a, b) = (Machine::new(test, &run, 1), Machine::new(test, &run, 2));
        let (na, nb) = (&a.name, &b.name);
        assert!(ip(&format!(
            "link add under0 netns {na} type veth peer name under0 netns {nb}"
        )));
        for machine in [&a, &b] {
            let (name, index) = (&machine.name, machine.index);
            ip(&format!(
                "-n {name} addr add {}/24 dev under0",
                outer(index, false)
            ));
            ip(&format!(
                "-n {name} addr add {}/64 dev under0 nodad",
                outer(index, true)
            ));
            ip(&format!("-n {name} link set under0 up"));
            ip(&format!("-n {name} link set lo up"));
        }
        Some(Self { a, b, v6: false })
    }

    /// Starts both ends and gives them addresses on the network.
    pub(crate) fn connect(&mut self, v6: bool) {
        self.v6 = v6;
        for machine in [&mut self.a, &mut self.b] {
            let tunnel = machine.run(|| Tunnel::start(tunnel::PORT).unwrap());
            machine.tunnel = Some(tunnel);
        }
        self.update();
        for machine in [&self.a, &self.b] {
            let (name, index) = (&machine.name, machine.index);
            let mac = endpoint_mac(inner(index, false));
            let mac: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
            ip(&format!(
                "-n {name} link set {DEVICE} address {} mtu {MTU}",
                mac.join(":")
            ));
            ip(&format!(
                "-n {name} addr add {}/24 dev {DEVICE}",
                inner(index, false)
            ));
            ip(&format!(
                "-n {name} addr add {}/64 dev {DEVICE} nodad",
                inner(index, true)
            ));
            ip(&format!("-n {name} link set {DEVICE} up"));
        }
    }

    /// Tells both ends what is so now.
    pub(crate) fn update(&self) {
        for (machine, other) in [(&self.a, &self.b), (&self.b, &self.a)] {
            let desired = machine.desired(other, self.v6);
            let tunnel = machine.tunnel();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    enter(&machine.namespace);
                    let errors = tunnel.update(&desired);
                    assert!(errors.is_empty(), "{errors:?}");
                });
            });
        }
    }
}

impl Machine {
    fn new(test: &str, run: &str, index: u32) -> Self {
        let name = format!("swt{test}{run}n{index}");
        assert!(ip(&format!("netns add {name}")));
        Self {
            namespace: File::open(format!("/run/netns/{name}")).unwrap(),
            name,
            index,
            keys: vec![PrivateKey::generate()],
            stations_of_a_belong_to: None,
            tunnel: None,
        }
    }

    fn desired(&self, other: &Self, v6: bool) -> Desired {
        let station = |index: u32, peer| Station {
            mac: endpoint_mac(inner(index, false)),
            addresses: vec![inner(index, false), inner(index, true)],
            peer,
        };
        let holder = self.stations_of_a_belong_to.unwrap_or(other.index);
        Desired {
            index: self.index,
            keys: self.keys.clone(),
            peers: vec![PeerNode {
                index: other.index,
                address: outer(other.index, v6),
                port: tunnel::PORT,
                keys: other.keys.iter().map(PrivateKey::public).collect(),
            }],
            networks: vec![EncryptedNetwork {
                vni: VNI,
                device: DEVICE.to_owned(),
                mtu: MTU,
                stations: vec![
                    station(self.index, None),
                    station(other.index, Some(holder)),
                ],
            }],
        }
    }

    pub(crate) fn tunnel(&self) -> &Tunnel {
        self.tunnel.as_ref().expect("connected")
    }

    pub(crate) fn stop(&mut self) {
        self.tunnel = None;
    }

    /// Runs something in the machine on a thread of its own.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = self.namespace.try_clone().unwrap();
        std::thread::spawn(move || {
            enter(&namespace);
            body()
        })
    }

    pub(crate) fn run<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(body).join().unwrap()
    }

    /// Sees every packet on the cable from now on.
    pub(crate) fn capture(&self) -> Capture {
        Capture(self.run(|| {
            use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};
            // ETH_P_ALL in network order: every protocol.
            let all = Protocol::from_raw(u32::from(3u16.to_be()).try_into().unwrap());
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(all)).unwrap()
        }))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.tunnel = None;
        ip(&format!("netns del {}", self.name));
    }
}

fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// A socket that hears every device of its machine.
pub(crate) struct Capture(OwnedFd);

#[derive(Debug)]
pub(crate) struct Seen(Vec<u8>);

impl Capture {
    /// The packets seen on the cable so far: those with its own MAC addresses, not the network's.
    pub(crate) fn packets(&self) -> Vec<Seen> {
        let mut packets = vec![];
        let mut buffer = vec![0; 70_000];
        while let Ok((len, _)) =
            rustix::net::recv(&self.0, &mut buffer, rustix::net::RecvFlags::empty())
        {
            let frame = buffer[..len].to_vec();
            // The TAP device's own frames begin with the MAC addresses of the network.
            let inner = |mac: &[u8]| mac[..2] == [0x02, 0x42];
            if !inner(&frame[..6]) && !inner(&frame[6..12]) {
                packets.push(Seen(frame));
            }
        }
        packets
    }
}

impl Seen {
    pub(crate) fn contains(&self, part: &[u8]) -> bool {
        self.0.windows(part.len()).any(|window| window == part)
    }

    /// True for ARP, and for ICMPv6 and multicast as machines send by themselves.
    pub(crate) fn is_resolution(&self) -> bool {
        let kind = &self.0[12..14];
        kind == [0x08, 0x06] || (kind == [0x86, 0xdd] && matches!(self.0[20], 58 | 0))
    }
}
