//! A lab: a hub network, nodes on it, and the promise that all of it disappears.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::net::{inside, ip};
use crate::{Node, Programs, http};

/// Labs made by this process so far, so that their names differ.
static LABS: AtomicU32 = AtomicU32::new(0);

/// Last part of the hub's own addresses.
const HUB: u8 = 254;

/// How long a page may take to come.
const FETCH_MAX: Duration = Duration::from_secs(2);

/// How a lab is made.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// What it runs.
    pub programs: Programs,
    /// Where state and logs go; a fresh directory below is made and removed.
    pub parent_dir: PathBuf,
    /// More options for every daemon.
    pub daemon_args: Vec<String>,
    /// Keep directory, namespaces and processes on drop, for a person to look at.
    pub keep: bool,
}

impl LabOptions {
    /// A lab of these programs below the system's temporary directory.
    #[must_use]
    pub fn new(programs: Programs) -> Self {
        Self {
            programs,
            parent_dir: std::env::temp_dir(),
            daemon_args: vec![],
            keep: false,
        }
    }
}

/// A hub network with nodes on it.
pub struct Lab {
    name: String,
    dir: PathBuf,
    options: LabOptions,
    nodes: Vec<Node>,
}

impl Lab {
    /// Makes the hub network and a directory; no nodes yet.
    ///
    /// # Errors
    /// When namespaces or directories cannot be made.
    pub fn new(options: LabOptions) -> Result<Self> {
        if let Some(reason) = crate::unavailable() {
            bail!("a lab cannot run here: {reason}");
        }
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = format!("swl{}x{number}", std::process::id());
        let dir = options.parent_dir.join(&name);
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let lab = Self {
            name,
            dir,
            options,
            nodes: Vec::new(),
        };
        let hub = lab.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "add", "br0", "type", "bridge"])?;
        ip(&[
            "-n",
            &hub,
            "link",
            "set",
            "br0",
            "type",
            "bridge",
            "forward_delay",
            "0",
        ])?;
        ip(&["-n", &hub, "addr", "add", "10.77.0.254/24", "dev", "br0"])?;
        add_address_v6(&hub, "br0", address_v6(HUB))?;
        ip(&["-n", &hub, "link", "set", "br0", "up"])?;
        ip(&["-n", &hub, "link", "set", "lo", "up"])?;
        Ok(lab)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    /// Directory of the lab: each node's state and logs lie in one below.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The programs it runs.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.options.programs
    }

    /// Adds a machine, switched on, its daemon not yet started.
    ///
    /// # Errors
    /// When its network or first process cannot be made.
    pub fn add_node(&mut self) -> Result<usize> {
        let index = self.nodes.len();
        let number = u8::try_from(index + 1).context("a lab has at most 253 nodes")?;
        let address = IpAddr::V4(Ipv4Addr::new(10, 77, 0, number));
        let node = Node::new(
            &self.name,
            &self.hub(),
            number,
            address,
            &self.dir,
            &self.options,
        )?;
        self.nodes.push(node);
        self.nodes[index].power_on()?;
        Ok(index)
    }

    /// The node with this number, from 0.
    #[must_use]
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// The same, to switch it on and off.
    pub fn node_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }

    /// Every node.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// First process of each machine, as this machine counts them: killing them ends the lab.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(Node::pid).collect()
    }

    /// Names of all network namespaces of the lab.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        let nodes = self.nodes.iter().map(|node| node.namespace().to_owned());
        nodes.chain([self.hub()]).collect()
    }

    /// Body of a page fetched from a client outside the cluster.
    ///
    /// # Errors
    /// When there is no connection, no answer in 2 s, or a status other than 200.
    pub fn fetch(&self, address: IpAddr, port: u16, path: &str) -> Result<String> {
        inside(&self.hub(), || {
            http::get(SocketAddr::new(address, port), path, FETCH_MAX)
        })
    }

    /// Does something on a thread in the hub's network namespace, outside of the cluster.
    ///
    /// # Errors
    /// What the work fails with.
    pub fn outside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        inside(&self.hub(), work)
    }

    /// The same on a thread that goes on by itself.
    pub fn stay_outside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> std::thread::JoinHandle<Result<T>> {
        crate::net::stay_inside(&self.hub(), work)
    }

    /// The hub's own addresses, as nodes see a client there.
    #[must_use]
    pub fn outside_addresses(&self) -> [IpAddr; 2] {
        [Ipv4Addr::new(10, 77, 0, HUB).into(), address_v6(HUB).into()]
    }

    /// Gives the hub this many more addresses, for as many clients.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn more_outside_addresses(&self, count: u8) -> Result<Vec<IpAddr>> {
        let first = (HUB - 1).checked_sub(count);
        let first = first.context("more addresses than the network has")?;
        (first..HUB - 1)
            .map(|number| {
                let address = Ipv4Addr::new(10, 77, 0, number);
                let text = format!("{address}/24");
                ip(&["-n", &self.hub(), "addr", "add", &text, "dev", "br0"])?;
                Ok(address.into())
            })
            .collect()
    }

    /// Makes a swarm: the first node inits, the next `managers - 1` join as managers, the rest as
    /// workers.
    ///
    /// # Errors
    /// When a daemon does not start or a command fails.
    pub fn form_swarm(&mut self, managers: usize, workers: usize) -> Result<()> {
        for _ in 0..managers + workers {
            let index = self.add_node()?;
            self.nodes[index].start_daemon()?;
        }
        let first = &self.nodes[0];
        let advertise = first.address().to_string();
        first.ctl(&["init", "--advertise-addr", &advertise])?;
        let manager_token = first.ctl(&["join-token", "-q", "manager"])?;
        let worker_token = first.ctl(&["join-token", "-q", "worker"])?;
        for (index, node) in self.nodes.iter().enumerate().skip(1) {
            let token = if index < managers {
                &manager_token
            } else {
                &worker_token
            };
            let advertise = node.address().to_string();
            let remote = format!("{}:2377", first.address());
            node.ctl(&[
                "join",
                "--token",
                token.trim(),
                "--advertise-addr",
                &advertise,
                &remote,
            ])?;
        }
        Ok(())
    }
}

/// The address of IPv6 whose owner has this number in IPv4.
pub(crate) fn address_v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number.into())
}

/// Adds it where the kernel has IPv6; nobody else has it, which need not be found out.
pub(crate) fn add_address_v6(namespace: &str, link: &str, address: Ipv6Addr) -> Result<()> {
    if !Path::new("/proc/sys/net/ipv6").exists() {
        return Ok(());
    }
    let address = format!("{address}/64");
    ip(&[
        "-n", namespace, "addr", "add", &address, "dev", link, "nodad",
    ])
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.options.keep {
            for node in &mut self.nodes {
                node.leave_running();
            }
            return;
        }
        let panicking = std::thread::panicking();
        for node in &mut self.nodes {
            node.power_off();
            if panicking {
                // A failed test shows what its daemons last said.
                eprintln!("--- {} ---\n{}", node.name(), node.log_tail(40));
            }
            node.remove();
        }
        drop(ip(&["netns", "del", &self.hub()]));
        remove_cgroups(&self.name);
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("removing {}: {error}", self.dir.display());
        }
    }
}

/// Removes the lab's cgroups in every hierarchy, deepest first.
fn remove_cgroups(name: &str) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for mount in mounts.lines() {
        let mut fields = mount.split(' ').skip(1);
        let (Some(point), Some(kind)) = (fields.next(), fields.next()) else {
            continue;
        };
        if kind == "cgroup" || kind == "cgroup2" {
            remove_cgroup(&Path::new(point).join(name));
        }
    }
}

fn remove_cgroup(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    // Processes just killed may linger in it for a moment.
    for _ in 0..200 {
        match std::fs::remove_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(()) | Err(_) => return,
        }
    }
    eprintln!("the cgroup {} is still in use", dir.display());
}
