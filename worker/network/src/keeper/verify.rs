//! The full pass: reads everything, repairs what differs, and says what it was.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use types::network::NetworkDriver;
use types::{NetworkId, TaskId};

use super::{Keeper, Reply, answer, tell};
use crate::desired::bridge_of;
use crate::machine::Refusal;
use crate::plan::{Change, Kind, plan};
use crate::records::Record;
use crate::state::LinkName;
use crate::verified::{Found, Verified};
use crate::view::View;
use crate::{Error, inside, namespace};

/// Rounds of one pass: a change may undo another, as a new bridge does with its ports.
const ROUNDS_MAX: usize = 3;

/// What a pass came upon.
#[derive(Debug, Default)]
pub(super) struct Passed {
    found: Vec<Found>,
    pub(super) refused: Vec<Refusal>,
    /// What is still different, besides what was refused.
    left: Vec<String>,
}

impl Keeper {
    /// Reads the kernel and makes it what it should be. Returns the differences that nobody had
    /// asked for, and what was refused.
    pub(super) fn pass(&mut self, view: &Arc<View>) -> Result<Passed, Error> {
        let start = Instant::now();
        let living = self.living();
        let mut passed = self.pass_links(view, &living)?;
        self.tell_carried(view, &living);
        self.filter(view, &living);
        // What happens to links is told by the kernel; what happens to the filter, and inside of
        // containers, is not.
        if Instant::now() >= self.filters_at {
            let (found, refused) = self.repair_filters();
            let found = found.into_iter().map(|what| Found {
                kind: Kind::Filter,
                network: None,
                what,
            });
            passed.found.extend(found);
            passed.left.extend(refused);
            self.repair_inside(&living, &mut passed);
            self.filters_at = Instant::now() + self.options.pass_period;
        }
        self.tell_repairs(&passed.found);
        self.counters.count_pass(start.elapsed());
        self.pass_at = Instant::now() + self.options.pass_period;
        Ok(passed)
    }

    fn pass_links(&mut self, view: &Arc<View>, living: &[Record]) -> Result<Passed, Error> {
        let expected = self.assumed.take();
        let mut passed = Passed::default();
        let mut again = BTreeSet::new();
        self.seal(view);
        for round in 0..=ROUNDS_MAX {
            let observed = self.machine.observe();
            let observed = observed.map_err(Error::kernel("read the node's links"))?;
            let underlay = self.find_underlay(view, &observed);
            let mtu_changed = underlay != std::mem::replace(&mut self.underlay, underlay);
            self.note_subnets(&observed);
            self.note_devices(&observed);
            let desired = self.desired(view, living);
            let changes = plan(&desired, &observed.state);
            if round == 0 {
                // What has only just been asked for is no fault of the kernel's.
                let asked = expected.as_ref().map(|expected| plan(&desired, expected));
                let networks = networks_of_links(view, living);
                let found = asked.map_or_else(Vec::new, |asked| {
                    let unasked = changes.iter().filter(|change| !asked.contains(change));
                    unasked.map(|change| found(change, &networks)).collect()
                });
                passed.found = found;
                if expected.is_none() || mtu_changed {
                    again.extend(living.iter().map(|record| record.sandbox.task));
                }
            }
            let is_done = changes.is_empty();
            if is_done || round == ROUNDS_MAX {
                // Whatever differs still will be looked at again soon.
                passed.left = changes.iter().map(ToString::to_string).collect();
                self.assumed = Some(if is_done { desired } else { observed.state });
                break;
            }
            again.extend(made_again(&changes, living));
            passed.refused = self.apply(&changes, living)?;
            self.assumed = Some(desired);
            if !passed.refused.is_empty() {
                break;
            }
        }
        for record in living
            .iter()
            .filter(|record| again.contains(&record.sandbox.task))
        {
            if let Err(error) = self.connect(record) {
                tell(&error);
            }
        }
        Ok(passed)
    }

    /// Looks into every container, and sets up again what is missing there.
    fn repair_inside(&mut self, living: &[Record], passed: &mut Passed) {
        for record in living {
            let task = record.sandbox.task;
            match self.missing_inside(record) {
                Ok(missing) if missing.is_empty() => {}
                Ok(missing) => {
                    passed.found.extend(missing.into_iter().map(|what| Found {
                        kind: Kind::Inside,
                        network: None,
                        what: format!("inside of task {task}: {what}"),
                    }));
                    if let Err(error) = self.connect(record) {
                        let error = super::filter::chain(&error);
                        passed.left.push(format!("inside of task {task}: {error}"));
                    }
                }
                // It has ended meanwhile.
                Err(Error::Gone(_)) => {}
                Err(error) => {
                    let error = super::filter::chain(&error);
                    passed.left.push(format!("inside of task {task}: {error}"));
                }
            }
        }
    }

    fn missing_inside(&self, record: &Record) -> Result<Vec<String>, Error> {
        let task = record.sandbox.task;
        let process = record.process.ok_or(Error::Gone(task))?;
        let namespace = namespace::of_process(process.pid).map_err(|_| Error::Gone(task))?;
        let interfaces = record.sandbox.interfaces.iter();
        let mtus: Vec<u32> = interfaces.map(|one| self.mtu(one)).collect();
        let missing = inside::missing(&namespace, &record.sandbox, &mtus);
        let missing = missing.map_err(Error::kernel("read a container's interfaces"))?;
        if process.is_alive() {
            Ok(missing)
        } else {
            Err(Error::Gone(task))
        }
    }

    pub(super) fn verify(&mut self, replies: Vec<Reply<Verified>>) {
        if !replies.is_empty() {
            self.filters_at = Instant::now();
        }
        let result = match self.view.clone() {
            Some(view) => self.pass(&view).map(|mut passed| {
                passed.left.extend(self.missing_devices());
                passed.verified()
            }),
            None => Ok(Verified::default()),
        };
        match result {
            Ok(verified) => {
                for reply in replies {
                    answer(reply, Ok(verified.clone()));
                }
            }
            Err(error) => {
                tell(&error);
                self.pass_at = Instant::now() + Duration::from_secs(1);
                let text = error.to_string();
                for reply in replies {
                    let error = io::Error::other(text.clone());
                    answer(
                        reply,
                        Err(Error::kernel("verify the node's network")(error)),
                    );
                }
            }
        }
    }

    fn tell_repairs(&mut self, found: &[Found]) {
        for one in found {
            self.counters.count_repair(one.kind);
            self.tell_once(one.what.clone(), "repairing the node's network");
        }
        if found.is_empty() {
            self.told.clear();
        }
    }
}

impl Passed {
    fn verified(self) -> Verified {
        let refused = self.refused.iter();
        let refused = refused.map(|Refusal { change, errno }| format!("{change}: {errno}"));
        Verified {
            found: self.found,
            left: refused.chain(self.left).collect(),
        }
    }
}

fn found(change: &Change, networks: &BTreeMap<LinkName, NetworkId>) -> Found {
    Found {
        kind: change.kind(),
        network: networks.get(change.link()).copied(),
        what: change.to_string(),
    }
}

/// Which network a link is part of.
fn networks_of_links(view: &View, living: &[Record]) -> BTreeMap<LinkName, NetworkId> {
    let mut links = BTreeMap::new();
    for network in view.reach.networks.values() {
        if network.spec.driver != NetworkDriver::Overlay {
            continue;
        }
        links.insert(bridge_of(network), network.id);
        for subnet in &network.subnets {
            for is_ipv6 in [false, true] {
                links.insert(LinkName::tunnel(subnet.vni, is_ipv6), network.id);
            }
        }
    }
    for interface in living.iter().flat_map(|record| &record.sandbox.interfaces) {
        if let (Some(port), Some(network)) = (interface.port(), interface.network) {
            links.insert(port.clone(), network);
        }
    }
    links
}

/// Tasks whose interfaces are made afresh by these changes.
fn made_again(changes: &[Change], living: &[Record]) -> Vec<TaskId> {
    let is_made = |port: &LinkName| {
        changes
            .iter()
            .any(|change| matches!(change, Change::AddLink(name, _) if name == port))
    };
    let interfaces = living.iter().flat_map(|record| {
        record
            .sandbox
            .interfaces
            .iter()
            .map(|interface| (record.sandbox.task, interface))
    });
    let made = interfaces.filter(|(_, interface)| interface.port().is_some_and(is_made));
    made.map(|(task, _)| task).collect()
}
