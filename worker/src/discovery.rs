//! Has names answered inside of containers, by the process that outlives the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datapath_client::resolv_conf::ResolvConf;
use datapath_client::{Datapath, NetworkRecords, RecordSet, SandboxView, TaskRecord};
use network::{NAMES_PORT, Sandbox};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use types::container_spec::DnsConfig;
use types::network::EndpointMode;
use types::reach::{Reach, ServiceEndpoint, TaskEndpoint};
use types::{Network, NetworkId, TaskId};

use crate::networks::{asked, of_machine};

mod check;

use check::Checked;

/// How long a container's start waits for the process; it is told later all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// Checks that may wait.
const CHECKS_MAX: usize = 16;

/// A question whether the process answers what it was told.
struct Check {
    /// Containers it should answer in.
    sandboxes: BTreeSet<TaskId>,
    reply: oneshot::Sender<Checked>,
}

/// Names of services and tasks, and in which containers they are answered.
pub(crate) struct Discovery {
    datapath: Datapath,
    reach: watch::Sender<Arc<Reach>>,
    checks: mpsc::Sender<Check>,
    /// Differences found by checks.
    repairs: AtomicU64,
    /// Containers in which the process was asked to answer.
    answered: Mutex<BTreeSet<TaskId>>,
    _ends: DropGuard,
}

impl Discovery {
    /// Has this process answer. Needs an async runtime.
    pub(crate) fn start(datapath: Datapath, tracker: &TaskTracker) -> Self {
        let (reach, told) = watch::channel(Arc::default());
        let (checks, asked) = mpsc::channel(CHECKS_MAX);
        let stop = CancellationToken::new();
        let teller = tell(datapath.clone(), told, asked);
        let stopped = stop.clone();
        tracker.spawn(async move {
            stopped.run_until_cancelled(teller).await;
        });
        Self {
            datapath,
            reach,
            checks,
            repairs: AtomicU64::new(0),
            answered: Mutex::default(),
            _ends: stop.drop_guard(),
        }
    }

    /// Takes over what names there are.
    pub(crate) fn set_reach(&self, reach: Arc<Reach>) {
        self.reach.send_replace(reach);
    }

    /// Answers in a container, if it is on a network of the user's, and asks others as `dns` says.
    /// One whose names are not answered is better than none, so that a failure is told and no more.
    pub(crate) async fn add(&self, sandbox: &Sandbox, pid: i32, dns: &DnsConfig) {
        let networks = sandbox.named_networks();
        if networks.is_empty() {
            return;
        }
        let is_outward = sandbox
            .interfaces
            .iter()
            .any(|one| !one.gateways.is_empty());
        let view = SandboxView {
            networks,
            forwarding: ResolvConf::forwarding(&of_machine(), &asked(dns), is_outward),
            dns_port: NAMES_PORT,
        };
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).map(OwnedFd::from);
        let (Ok(id), Ok(namespace)) = (sandbox.task.as_str().parse(), namespace) else {
            return;
        };
        self.answered().insert(sandbox.task);
        let added = self.datapath.set_sandbox(id, Arc::new(namespace), view);
        match tokio::time::timeout(PATIENCE, added).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(task = %sandbox.task, %error, "names are not answered in a container");
            }
            Err(_) => {
                tracing::warn!(task = %sandbox.task, "names are not answered in a container yet");
            }
        }
    }

    /// Stops answering in a container.
    pub(crate) async fn remove(&self, task: TaskId) {
        let Ok(id) = task.as_str().parse() else {
            return;
        };
        self.answered().remove(&task);
        let removed = tokio::time::timeout(PATIENCE, self.datapath.remove_sandbox(id)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%task, %error, "names are still answered in a container");
        }
    }

    /// Stops answering in all containers but those of these tasks.
    pub(crate) async fn retain(&self, known: &BTreeSet<TaskId>) {
        let gone: Vec<TaskId> = self.answered().difference(known).copied().collect();
        for task in gone {
            self.remove(task).await;
        }
    }

    /// Compares what the process answers with what it was told last, and tells it again if that is
    /// something else.
    pub(crate) async fn check(&self) -> Checked {
        let sandboxes = self.answered().clone();
        let (reply, answer) = oneshot::channel();
        let over = || Checked {
            left: vec!["names: nobody tells them any more".to_owned()],
            ..Checked::default()
        };
        if self.checks.send(Check { sandboxes, reply }).await.is_err() {
            return over();
        }
        let checked = answer.await.unwrap_or_else(|_| over());
        self.repairs
            .fetch_add(checked.found.len() as u64, Ordering::Relaxed);
        checked
    }

    /// Differences found by checks since the daemon was started.
    pub(crate) fn repairs(&self) -> u64 {
        self.repairs.load(Ordering::Relaxed)
    }

    fn answered(&self) -> MutexGuard<'_, BTreeSet<TaskId>> {
        // Nothing panics while it holds the lock; each change is a single one.
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what a daemon before this one had answered and this one has not asked for again.
    pub(crate) async fn complete(&self) {
        let completed = tokio::time::timeout(PATIENCE, self.datapath.complete()).await;
        if let Ok(Err(error)) = completed {
            tracing::warn!(%error, "the datapath process does not know what is over");
        }
    }
}

/// Tells the names of each network, whenever they change.
async fn tell(
    datapath: Datapath,
    mut reach: watch::Receiver<Arc<Reach>>,
    mut checks: mpsc::Receiver<Check>,
) {
    let mut told: BTreeMap<NetworkId, NetworkRecords> = BTreeMap::new();
    loop {
        let check = tokio::select! {
            biased;
            changed = reach.changed() => match changed {
                Ok(()) => None,
                Err(_) => return,
            },
            Some(check) = checks.recv() => Some(check),
        };
        if let Some(check) = check {
            let checked = check::check(&datapath, &told, &check.sandboxes).await;
            // Whoever asked may have gone.
            let _ = check.reply.send(checked);
            continue;
        }
        let now = Arc::clone(&reach.borrow_and_update());
        let wanted = records(&now);
        for gone in told.keys().filter(|network| !wanted.contains_key(network)) {
            if let Err(error) = datapath.remove_network(*gone).await {
                tracing::warn!(network = %gone, %error, "the names of a network were not forgotten");
            }
        }
        for (network, records) in &wanted {
            if told.get(network) == Some(records) {
                continue;
            }
            if let Err(error) = datapath.set_network(records.clone()).await {
                tracing::warn!(%network, %error, "the names of a network were not told");
            }
        }
        told = wanted;
    }
}

/// The names in each network but that of published ports.
pub(crate) fn records(reach: &Reach) -> BTreeMap<NetworkId, NetworkRecords> {
    let networks = reach
        .networks
        .values()
        .filter(|network| !network.spec.ingress);
    networks
        .map(|network| (network.id, records_of(network, reach)))
        .collect()
}

fn records_of(network: &Network, reach: &Reach) -> NetworkRecords {
    let mut sets: BTreeMap<String, RecordSet> = BTreeMap::new();
    // A name that leads nowhere here would hide the one in another network.
    let on_it = |service: &&Arc<ServiceEndpoint>| is_on(network.id, service);
    for service in reach.services.values().filter(on_it) {
        let set = service_set(network.id, service);
        sets.insert(set.owner.clone(), set);
    }
    for task in reach.tasks.values() {
        let Some(mut record) = task_record(network.id, task) else {
            continue;
        };
        let owner = task.service.to_string();
        let service = reach.services.get(&task.service);
        if service.is_none_or(|service| !is_on(network.id, service)) {
            // Connected by itself: so are its aliases.
            let places = task.attachments.iter();
            let here = places.filter(|place| place.network == network.id);
            record
                .names
                .extend(here.flat_map(|place| place.aliases.iter().cloned()));
        }
        if let Some(service) = service.filter(|one| one.mode == EndpointMode::Dnsrr) {
            let set = service_set(network.id, service);
            sets.entry(owner.clone()).or_insert(set);
        }
        let set = sets.entry(owner.clone()).or_insert_with(|| RecordSet {
            owner,
            version: 0,
            names: Vec::new(),
            virtual_ips: Vec::new(),
            tasks: Vec::new(),
        });
        set.tasks.push(record);
    }
    let sets = sets
        .into_values()
        .filter(|set| !set.names.is_empty() || !set.tasks.is_empty());
    NetworkRecords {
        network: network.id,
        name: network.spec.name.clone(),
        sets: sets.collect(),
    }
}

/// Whether a service is on a network by its own: one that clients spread over themselves shows it
/// by its tasks alone.
fn is_on(network: NetworkId, service: &ServiceEndpoint) -> bool {
    let mut addresses = service.virtual_ips.iter();
    let mut aliases = service.aliases.iter();
    addresses.any(|one| one.network == network) || aliases.any(|(of, _)| *of == network)
}

fn service_set(network: NetworkId, service: &ServiceEndpoint) -> RecordSet {
    let addresses = service
        .virtual_ips
        .iter()
        .filter(|one| one.network == network);
    let aliases = service.aliases.iter().filter(|(of, _)| *of == network);
    let names = std::iter::once(&service.name).chain(aliases.map(|(_, name)| name));
    RecordSet {
        owner: service.service.to_string(),
        version: 0,
        names: names.cloned().collect(),
        virtual_ips: match service.mode {
            EndpointMode::Vip => addresses.map(|one| one.address.addr()).collect(),
            EndpointMode::Dnsrr => Vec::new(),
        },
        tasks: Vec::new(),
    }
}

fn task_record(network: NetworkId, task: &TaskEndpoint) -> Option<TaskRecord> {
    let attachment = task.attachments.iter().find(|one| one.network == network)?;
    let full = format!("{}.{}", task.name, task.task);
    let mut names = vec![full, task.name.clone(), task.task.as_str()[..12].to_owned()];
    names.extend((!task.hostname.is_empty()).then(|| task.hostname.clone()));
    Some(TaskRecord {
        names,
        addresses: attachment.addresses.iter().map(|one| one.addr()).collect(),
        node: Some(task.node),
        is_serving: task.serving,
    })
}

#[cfg(test)]
mod tests;
