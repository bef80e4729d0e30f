//! The networks of this node's tasks: which a task is put on, and what it is told of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use container::spec::{Dns, HostEntry};
use datapath_client::resolv_conf::ResolvConf;
use datapath_client::{Datapath, ProgramSource};
use executor::Error;
use network::{Adjusted, DEFAULT_BRIDGE, Network, Sandbox, View};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use types::check::{Difference, NetworkCheck};
use types::container_spec::DnsConfig;
use types::network::NetworkAttachment;
use types::node::NodeNetwork;
use types::reach::Reach;
use types::{NodeId, Task, TaskId};

use crate::KeyTiming;
use crate::discovery::Discovery;
use crate::encryption::Encryption;
use crate::gossip::{self, Gossip, Lost};

/// Characters of a task's id that make its default host name; Docker's number.
const HOSTNAME_ID_BYTES: usize = 12;

/// The networks of this node's tasks.
pub(crate) struct Networks {
    network: Network,
    known: Arc<Mutex<Known>>,
    process: Option<Process>,
}

/// Settings of [`Networks`].
pub(crate) struct Options {
    /// On disk: who has which addresses.
    pub(crate) state_dir: PathBuf,
    /// In memory, and there already: keys.
    pub(crate) run_dir: PathBuf,
    /// The program of the process that outlives the daemon.
    pub(crate) datapath: Option<ProgramSource>,
    pub(crate) key_timing: KeyTiming,
}

/// What the process that outlives the daemon does.
struct Process {
    discovery: Discovery,
    gossip: Gossip,
    encryption: Encryption,
    /// Ends the talk with it, not the process.
    _ends: DropGuard,
}

/// What has been told so far.
#[derive(Default)]
struct Known {
    node: Option<NodeId>,
    data_path: Vec<IpAddr>,
    /// `None` until that has been told, be it that there is nothing.
    reach: Option<Arc<Reach>>,
    /// Nodes that gossip holds for dead.
    lost: Arc<BTreeSet<NodeId>>,
}

impl Networks {
    /// Reads what is remembered. Blocks for some milliseconds.
    pub(crate) fn open(options: Options, tracker: &TaskTracker) -> Result<Self, crate::Error> {
        let Options {
            state_dir,
            run_dir,
            datapath,
            key_timing,
        } = options;
        let socket = state_dir.join("datapath.sock");
        let network = Network::open(network::Options::new(state_dir));
        let network = network.map_err(|error| crate::Error::Network(Box::new(error)))?;
        let known = Arc::new(Mutex::new(Known::default()));
        let process = datapath.map(|program| {
            let options = datapath_client::Options { program, socket };
            let (datapath, service) = Datapath::new(options);
            let stop = CancellationToken::new();
            tracker.spawn(service.run(stop.clone()));
            let (told, known) = (network.clone(), Arc::clone(&known));
            let heed = move |lost| {
                let mut known = lock(&known);
                known.lost = lost;
                known.tell(&told);
            };
            let keys = (run_dir.as_path(), key_timing);
            Process {
                discovery: Discovery::start(datapath.clone(), tracker),
                gossip: Gossip::start(datapath.clone(), tracker, heed),
                encryption: Encryption::start(network.clone(), datapath, keys, tracker),
                _ends: stop.drop_guard(),
            }
        });
        Ok(Self {
            network,
            known,
            process,
        })
    }

    /// How others reach this node.
    pub(crate) fn describe(&self) -> NodeNetwork {
        let encryption = self.process.as_ref().map(|process| &process.encryption);
        NodeNetwork {
            data_path: self.known().data_path.clone(),
            wireguard_keys: encryption.map_or_else(Vec::new, Encryption::describe),
        }
    }

    /// Waits until that has changed.
    pub(crate) async fn described_anew(&self) {
        match &self.process {
            Some(process) => process.encryption.described_anew().await,
            None => std::future::pending().await,
        }
    }

    /// Takes note of which keys of this node managers know.
    pub(crate) fn set_known(&self, keys: Vec<[u8; 32]>) {
        if let Some(process) = &self.process {
            process.encryption.set_known(keys);
        }
    }

    /// Compares everything with what managers told, and repairs what differs.
    pub(crate) async fn check(&self) -> Result<NetworkCheck, Error> {
        let reach = self.known().reach.clone().unwrap_or_default();
        let verified = self.network.verify().await;
        let verified = verified.map_err(|error| Error::temporary(&error))?;
        let found = verified.found.into_iter().map(|one| Difference {
            kind: one.kind.to_string(),
            network: one.network,
            what: one.what,
        });
        let counts = self.network.counts();
        let repairs = counts.repairs.into_iter();
        let mut check = NetworkCheck {
            networks: reach.networks.keys().copied().collect(),
            found: found.collect(),
            left: verified.left,
            passes: counts.passes,
            pass_last_us: u64::try_from(counts.pass_last.as_micros()).unwrap_or(u64::MAX),
            repairs: repairs.map(|(kind, n)| (kind.to_string(), n)).collect(),
            refusals: counts.refusals,
        };
        if let Some(discovery) = self.discovery() {
            let names = discovery.check().await;
            check.found.extend(names.found);
            check.left.extend(names.left);
            let counted = ("name".to_owned(), discovery.repairs());
            check.repairs.extend([counted]);
        }
        Ok(check)
    }

    fn discovery(&self) -> Option<&Discovery> {
        self.process.as_ref().map(|process| &process.discovery)
    }

    pub(crate) fn set_place(&self, node: NodeId, data_path: Vec<IpAddr>) {
        let mut known = self.known();
        known.node = Some(node);
        known.data_path = data_path;
        self.tell(&known);
    }

    pub(crate) fn set_reach(&self, reach: Arc<Reach>) {
        let mut known = self.known();
        if let Some(discovery) = self.discovery() {
            discovery.set_reach(Arc::clone(&reach));
        }
        // What managers tell begins with settings: none are told when the node has left.
        if let (Some(process), None) = (&self.process, &reach.settings) {
            process.encryption.leave();
        }
        known.reach = Some(reach);
        self.tell(&known);
    }

    fn tell(&self, known: &Known) {
        known.tell(&self.network);
        if let (Some(process), Some(reach)) = (&self.process, &known.reach) {
            let wanted = gossip::wanted(known.node, &known.data_path, reach);
            process.gossip.set(wanted);
        }
    }

    /// Peers that gossip holds for dead, as it changes.
    pub(crate) fn lost_peers(&self) -> watch::Receiver<Lost> {
        let none = || watch::channel(None).1;
        let gossip = self.process.as_ref().map(|process| &process.gossip);
        gossip.map_or_else(none, Gossip::lost)
    }

    /// Decides on a task's interfaces; `None` when it has none.
    pub(crate) async fn reserve(&self, task: &Task) -> Result<Option<Sandbox>, Error> {
        // Ports of a task in the machine's own network are its program's.
        let alone = |target: &str| matches!(target, "host" | "none");
        if task.spec.networks.iter().any(|one| alone(&one.target)) {
            return Ok(None);
        }
        let attachments = attachments(task);
        if attachments.is_empty() && task.host_ports.is_empty() {
            return Ok(None);
        }
        let ports = task.host_ports.clone();
        let reserved = self.network.reserve(task.id, attachments, ports).await;
        reserved.map(Some).map_err(refused)
    }

    /// Connects a task's container, and has names answered in it as `dns` asks.
    pub(crate) async fn attach(
        &self,
        sandbox: &Sandbox,
        pid: i32,
        dns: &DnsConfig,
    ) -> Result<(), Error> {
        let number = u32::try_from(pid).unwrap_or_default();
        let attached = self.network.attach(sandbox.task, number).await;
        attached.map_err(refused)?;
        if let Some(discovery) = self.discovery() {
            discovery.add(sandbox, pid, dns).await;
        }
        Ok(())
    }

    /// Puts a task whose container runs on the networks it is on by now, and has names answered
    /// there.
    pub(crate) async fn adjust(&self, task: &Task, pid: i32) -> Result<(), Error> {
        let places = attachments(task);
        let dns = &task.spec.container.dns;
        match self.network.adjust(task.id, places.clone()).await {
            Ok(Adjusted::Same) => Ok(()),
            Ok(Adjusted::Unknown) if places.is_empty() => Ok(()),
            Ok(Adjusted::Unknown) => {
                let reserved = self.network.reserve(task.id, places, Vec::new()).await;
                self.attach(&reserved.map_err(refused)?, pid, dns).await
            }
            Ok(Adjusted::Changed(sandbox)) => {
                if let Some(discovery) = self.discovery() {
                    discovery.add(&sandbox, pid, dns).await;
                }
                Ok(())
            }
            Err(error) => Err(refused(error)),
        }
    }

    /// Takes a task off its networks. Nothing to do is success.
    pub(crate) async fn release(&self, task: TaskId) -> Result<(), Error> {
        // It holds on to the container's namespace.
        if let Some(discovery) = self.discovery() {
            discovery.remove(task).await;
        }
        let released = self.network.release(task).await;
        released.map_err(|error| Error::temporary(&error))
    }

    /// Releases all tasks but these, and goes on answering names in those that live, as `dns` says
    /// of each.
    pub(crate) async fn retain(
        &self,
        known: &BTreeSet<TaskId>,
        dns: impl Fn(TaskId) -> DnsConfig + Send,
    ) -> Result<(), Error> {
        let retained = self.network.retain(known.clone()).await;
        let living = retained.map_err(|error| Error::temporary(&error))?;
        if let Some(discovery) = self.discovery() {
            discovery.retain(known).await;
            for (sandbox, pid) in living {
                let pid = i32::try_from(pid).unwrap_or_default();
                let dns = dns(sandbox.task);
                discovery.add(&sandbox, pid, &dns).await;
            }
            discovery.complete().await;
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

impl Known {
    /// Before a node knows which one it is there is nothing to tell; nor before it was told of
    /// networks, lest a daemon that was restarted begins by tearing down what it had made.
    fn tell(&self, network: &Network) {
        if let (Some(node), Some(reach)) = (self.node, &self.reach) {
            let view = View::new(node, self.data_path.clone(), Arc::clone(reach));
            network.set_view(Arc::new(view.with_lost(Arc::clone(&self.lost))));
        }
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    // Nothing panics while it holds the lock; each change is a single one.
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The networks a task is on, with the bridge every node has when it asks for that by name.
pub(crate) fn attachments(task: &Task) -> Vec<NetworkAttachment> {
    let mut attachments = task.attachments.clone();
    let bridge = |target: &str| target == "bridge" || target == DEFAULT_BRIDGE.as_str();
    let asks = task.spec.networks.iter().find(|one| bridge(&one.target));
    let has = attachments.iter().any(|one| one.network == DEFAULT_BRIDGE);
    if let (Some(asked), false) = (asks, has) {
        let (network, addresses) = (DEFAULT_BRIDGE, Vec::new());
        let aliases = asked.aliases.clone();
        attachments.push(NetworkAttachment {
            network,
            addresses,
            aliases,
        });
    }
    attachments
}

/// Lines of `/etc/hosts`: the container's own name for its own addresses.
pub(crate) fn own_names(task: &Task, hostname: &str, sandbox: &Sandbox) -> Vec<HostEntry> {
    let own = if hostname.is_empty() {
        let id = task.id.to_string();
        id.chars().take(HOSTNAME_ID_BYTES).collect()
    } else {
        hostname.to_owned()
    };
    let addresses = sandbox.own_addresses().into_iter();
    addresses
        .map(|address| HostEntry {
            address,
            names: vec![own.clone()],
        })
        .collect()
}

/// Who is asked for names, by `/etc/resolv.conf`: ourselves on networks of the user's, else who the
/// user names, else who the machine asks, which is told by `None`.
pub(crate) fn resolver(
    task: &Task,
    sandbox: Option<&Sandbox>,
    machine: &ResolvConf,
) -> Option<Dns> {
    let is_answered = sandbox.is_some_and(|sandbox| !sandbox.named_networks().is_empty());
    let asked = asked(&task.spec.container.dns);
    let conf = if is_answered {
        ResolvConf::for_sandbox(machine, &asked)
    } else if asked == ResolvConf::default() {
        return None;
    } else {
        let mut machine = machine.clone();
        if !task.spec.networks.iter().any(|one| one.target == "host") {
            // Another machine, seen from inside.
            machine.servers.retain(|server| !server.is_loopback());
        }
        ResolvConf::without_us(&machine, &asked)
    };
    Some(Dns {
        nameservers: conf.servers,
        search: conf.search,
        options: conf.options,
    })
}

/// What a user asks for of names.
pub(crate) fn asked(dns: &DnsConfig) -> ResolvConf {
    ResolvConf {
        servers: dns.nameservers.clone(),
        search: dns.search.clone(),
        options: dns.options.clone(),
    }
}

/// What this machine asks for names. Blocks.
pub(crate) fn of_machine() -> ResolvConf {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    ResolvConf::parse(&text)
}

/// A task that cannot have its networks: another node may manage, unless it may pass here.
fn refused(error: network::Error) -> Error {
    match error {
        network::Error::UnknownNetwork(_)
        | network::Error::NoView
        | network::Error::Exhausted(_)
        | network::Error::Stopped => Error::temporary(&error),
        error => Error::fatal(&error),
    }
}

#[cfg(test)]
mod tests;
