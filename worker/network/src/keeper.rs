//! Keeps the kernel as it should be: one thread that owns everything.
//!
//! Wakes for requests, for a new view, when the kernel tells of a change, and from time to time.
//! Requests and views are carried out as the difference to what was last carried out; a pass reads
//! the kernel and repairs what is not as it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::{mpsc, oneshot, watch};
use types::TaskId;
use types::network::{NetworkAttachment, PublishedPort};

use crate::counters::Counters;
use crate::desired::{Inputs, Sealed, desired};
use crate::held::HeldPorts;
use crate::inside;
use crate::machine::{Inside, Machine, Refusal};
use crate::mtu::{MTU_DEFAULT, Underlay, path};
use crate::namespace;
use crate::network::Adjusted;
use crate::observe::Observed;
use crate::plan::{Change, plan};
use crate::records::{Record, Records};
use crate::sandbox::{Interface, Sandbox};
use crate::socket::Notifications;
use crate::state::{LinkKind, LinkName, State};
use crate::verified::Verified;
use crate::view::View;
use crate::{Error, Options};

mod adjust;
mod connect;
mod encryption;
mod filter;
mod reserve;
mod verify;

use filter::Filters;

/// How soon after a change of our own the kernel is read: what it tells of it is passed over, and
/// with it what others did at the same moment.
const CONFIRM_DELAY: Duration = Duration::from_secs(5);

/// Differences that are remembered as told.
const TOLD_MAX: usize = 1000;

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What the keeper is asked to do; see [`crate::Network`].
#[derive(Debug)]
pub(crate) enum Command {
    Reserve {
        task: TaskId,
        attachments: Vec<NetworkAttachment>,
        host_ports: Vec<PublishedPort>,
        reply: Reply<Sandbox>,
    },
    Attach {
        task: TaskId,
        pid: u32,
        reply: Reply<()>,
    },
    Adjust {
        task: TaskId,
        attachments: Vec<NetworkAttachment>,
        reply: Reply<Adjusted>,
    },
    Release {
        task: TaskId,
        reply: Reply<()>,
    },
    Retain {
        known: BTreeSet<TaskId>,
        reply: Reply<Vec<(Sandbox, u32)>>,
    },
    Verify {
        reply: Reply<Verified>,
    },
    Look {
        reply: Reply<()>,
    },
}

/// Owns the network of this node.
pub(crate) struct Keeper {
    options: Options,
    commands: mpsc::Receiver<Command>,
    views: watch::Receiver<Option<Arc<View>>>,
    wake: Arc<OwnedFd>,
    counters: Arc<Counters>,
    machine: Machine,
    notifications: Notifications,
    records: Records,
    /// What managers told, as far as carried out or about to be.
    view: Option<Arc<View>>,
    underlay: Underlay,
    /// Subnets the machine uses for other things.
    machine_subnets: Vec<IpNet>,
    /// What the kernel was last made to hold; `None` before the first pass.
    assumed: Option<State>,
    /// When the kernel is to be read next.
    pass_at: Instant,
    /// When the packet filter is to be compared next.
    filters_at: Instant,
    /// Differences that were told and have not gone away since.
    told: BTreeSet<String>,
    filters: Filters,
    /// Published ports, kept from programs of the node.
    held: HeldPorts,
    seal: Option<nft::sealed::Seal>,
    sealed: Sealed,
    /// What is to be carried of encrypted networks.
    carried: watch::Sender<Option<Arc<tunnel::Desired>>>,
}

impl Keeper {
    pub(crate) fn open(
        options: Options,
        commands: mpsc::Receiver<Command>,
        views: watch::Receiver<Option<Arc<View>>>,
        wake: Arc<OwnedFd>,
        counters: Arc<Counters>,
        carried: watch::Sender<Option<Arc<tunnel::Desired>>>,
    ) -> Result<Self, Error> {
        let socket = || Error::kernel("open a routing socket");
        Ok(Self {
            records: Records::open(&options.state_dir)?,
            machine: Machine::open().map_err(socket())?,
            notifications: Notifications::open().map_err(socket())?,
            options,
            commands,
            views,
            wake,
            counters,
            view: None,
            underlay: Underlay::default(),
            machine_subnets: Vec::new(),
            assumed: None,
            pass_at: Instant::now(),
            filters_at: Instant::now(),
            told: BTreeSet::new(),
            filters: Filters::default(),
            held: HeldPorts::default(),
            seal: None,
            sealed: Sealed::default(),
            carried,
        })
    }

    /// Works until the last handle is gone.
    pub(crate) fn run(mut self) {
        loop {
            self.wait();
            let mut attached = Vec::new();
            let mut released = Vec::new();
            let mut retaining = Vec::new();
            let mut verifying = Vec::new();
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Reserve {
                        task,
                        attachments,
                        host_ports,
                        reply,
                    }) => {
                        self.take_view();
                        answer(reply, self.reserve(task, &attachments, host_ports));
                    }
                    Ok(Command::Adjust {
                        task,
                        attachments,
                        reply,
                    }) => {
                        self.take_view();
                        answer(reply, self.adjust(task, &attachments));
                    }
                    Ok(Command::Attach { task, pid, reply }) => attached.push((task, pid, reply)),
                    Ok(Command::Release { task, reply }) => {
                        let removed = self.records.remove(task);
                        released.push((reply, removed.map(drop)));
                    }
                    Ok(Command::Retain { known, reply }) => {
                        let retained = self.retain(&known);
                        retaining.push((reply, retained));
                    }
                    Ok(Command::Verify { reply }) => verifying.push(reply),
                    Ok(Command::Look { reply }) => {
                        self.pass_at = Instant::now();
                        answer(reply, Ok(()));
                    }
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            }
            self.take_view();
            self.attach(attached);
            if !released.is_empty() || !retaining.is_empty() {
                self.advance();
            }
            for (reply, result) in retaining {
                answer(reply, result.map(|()| self.processes()));
            }
            for (reply, result) in released {
                answer(reply, result);
            }
            if !verifying.is_empty() || self.is_pass_due() {
                self.verify(verifying);
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&mut self) {
        let left = self.pass_at.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut ready = [
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(&self.notifications, PollFlags::IN),
        ];
        // Interrupted is as good as woken.
        let _ = poll(&mut ready, Some(&timeout));
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        if self.notifications.drain() {
            let soon = Instant::now() + self.options.pass_delay;
            self.pass_at = self.pass_at.min(soon);
        }
    }

    fn is_pass_due(&self) -> bool {
        self.view.is_some() && Instant::now() >= self.pass_at
    }

    fn take_view(&mut self) {
        if !self.views.has_changed().unwrap_or(false) {
            return;
        }
        let view = self.views.borrow_and_update().clone();
        if view.is_some() {
            self.view = view;
            self.advance();
        }
    }

    /// Containers that live, with the namespaces they are in.
    fn living(&self) -> Vec<Record> {
        let records = self.records.all().values();
        let lives = |record: &&Record| record.process.is_some_and(|process| process.is_alive());
        records.filter(lives).cloned().collect()
    }

    /// Containers that live, with the first process of each.
    fn processes(&self) -> Vec<(Sandbox, u32)> {
        let living = self.living().into_iter();
        living
            .filter_map(|record| Some((record.sandbox, record.process?.pid)))
            .collect()
    }

    /// What the kernel should hold, for these containers.
    fn desired(&self, view: &View, living: &[Record]) -> State {
        let sandboxes: Vec<&Sandbox> = living.iter().map(|record| &record.sandbox).collect();
        let mut desired = desired(self.inputs(view, &sandboxes));
        if !inside::has_ipv6() {
            desired.without_ipv6();
        }
        if inside::filters_bridged() {
            desired.without_isolation();
        }
        desired
    }

    fn inputs<'a>(&'a self, view: &'a View, sandboxes: &'a [&'a Sandbox]) -> Inputs<'a> {
        Inputs {
            view,
            sandboxes,
            local: &self.records.subnets,
            underlay: self.underlay,
            sealed: &self.sealed,
        }
    }

    fn mtu(&self, interface: &Interface) -> u32 {
        match &self.view {
            Some(view) => self
                .inputs(view, &[])
                .mtu(interface.network, interface.mtu_asked),
            None => MTU_DEFAULT,
        }
    }

    /// Carries out what has changed since the last time, without reading the kernel. Returns what
    /// was refused.
    fn advance(&mut self) -> Vec<Refusal> {
        let Some(view) = self.view.clone() else {
            return Vec::new();
        };
        let Some(assumed) = self.assumed.take() else {
            // The first time there is no telling what is there.
            return match self.pass(&view) {
                Ok(passed) => passed.refused,
                Err(error) => {
                    tell(&error);
                    Vec::new()
                }
            };
        };
        let living = self.living();
        self.seal(&view);
        let desired = self.desired(&view, &living);
        let changes = plan(&desired, &assumed);
        let refusals = match self.apply(&changes, &living) {
            Ok(refusals) => refusals,
            Err(error) => {
                tell(&error);
                Vec::new()
            }
        };
        if !refusals.is_empty() {
            // Something is not as assumed: a pass finds out.
            self.pass_at = self.pass_at.min(Instant::now() + self.options.pass_delay);
        }
        self.assumed = Some(desired);
        self.tell_carried(&view, &living);
        self.filter(&view, &living);
        refusals
    }

    /// Makes changes outside of containers, and whatever has to follow inside of them.
    fn apply(&mut self, changes: &[Change], living: &[Record]) -> Result<Vec<Refusal>, Error> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let made: BTreeSet<&LinkName> = changes
            .iter()
            .filter_map(|change| match change {
                Change::AddLink(name, link) if link.kind == LinkKind::Veth => Some(name),
                _ => None,
            })
            .collect();
        let mut places: BTreeMap<&LinkName, (OwnedFd, &Interface)> = BTreeMap::new();
        for record in living {
            for interface in &record.sandbox.interfaces {
                let Some(port) = interface.port().filter(|port| made.contains(port)) else {
                    continue;
                };
                // One that has ended since is refused below.
                if let Some(process) = record.process
                    && let Ok(namespace) = namespace::of_process(process.pid)
                {
                    places.insert(port, (namespace, interface));
                }
            }
        }
        let inside = |port: &LinkName| {
            let (namespace, interface) = places.get(port)?;
            Some(Inside {
                namespace,
                name: &interface.name,
                mac: interface.mac,
            })
        };
        let refusals = self.machine.apply(changes, &inside);
        let refusals = refusals.map_err(Error::kernel("change the node's links"))?;
        if self.notifications.drain() {
            let delay = if self.awaits_devices() {
                // What was passed over may have been the word of one.
                self.options.pass_delay
            } else {
                CONFIRM_DELAY
            };
            self.pass_at = self.pass_at.min(Instant::now() + delay);
        }
        for Refusal { change, errno } in &refusals {
            self.counters.count_refusal();
            self.tell_once(format!("{change}: {errno}"), "the kernel refuses a change");
        }
        Ok(refusals)
    }

    /// The smallest MTU on the way to other nodes.
    fn find_underlay(&mut self, view: &View, observed: &Observed) -> Underlay {
        let own = |address: &IpNet| view.data_path.contains(&address.addr());
        let devices = observed
            .addresses
            .iter()
            .filter(|(address, ..)| own(address));
        let device = devices.map(|(.., mtu)| *mtu).min().unwrap_or(MTU_DEFAULT);
        let peers = view
            .reach
            .peers
            .iter()
            .filter(|(node, _)| **node != view.node);
        let paths: Vec<_> = peers
            .filter_map(|(_, peer)| path(&view.data_path, &peer.data_path))
            .collect();
        let mut underlay = Underlay {
            mtu: device,
            has_ipv6: view.data_path.iter().all(std::net::IpAddr::is_ipv6)
                && !view.data_path.is_empty(),
        };
        for (_, remote) in paths {
            underlay.has_ipv6 |= remote.is_ipv6();
            if let Some(mtu) = self.machine.route_mtu(remote) {
                underlay.mtu = underlay.mtu.min(mtu);
            }
        }
        underlay
    }

    fn note_subnets(&mut self, observed: &Observed) {
        let others = observed
            .addresses
            .iter()
            .filter(|(_, link, _)| !link.is_ours());
        self.machine_subnets = others.map(|(address, ..)| address.trunc()).collect();
    }

    /// Tells what may come again every few seconds, but only the first time.
    fn tell_once(&mut self, what: String, why: &'static str) {
        if self.told.len() < TOLD_MAX && !self.told.contains(&what) {
            tracing::warn!(%what, "{why}");
            self.told.insert(what);
        }
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T, Error>) {
    // Whoever asked may have gone.
    let _ = reply.send(result);
}

fn tell(error: &Error) {
    let error = filter::chain(error);
    tracing::warn!(error, "the node's network is not as it should be");
}
