//! The engine below balancer and mesh: one component's tables in one namespace, and their changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use crate::change::{Change, What, change_chain, change_elements, difference, encode, order};
use crate::compile::{
    ADDRESSES, Compiled, LIMITED, Layout, PICKERS, PORTS, UNSERVED_ADDRESSES, UNSERVED_PORTS,
    compile,
};
use crate::conntrack;
use crate::dump;
use crate::error::{Error, Result};
use crate::picker::Picker;
use crate::service::{Frontend, Service, Services};
use crate::socket::Socket;
use crate::table::{Chain, Elements, Family, Map, Ruleset, TableName, Value};

/// What an exchange with the kernel did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Steps done, of which each may hold many elements; zero if all was as it should be.
    pub changes: usize,
    /// Length of the transaction in bytes.
    pub bytes: usize,
    /// UDP flows forgotten whose backend was gone.
    pub flows_forgotten: usize,
    /// Whether the kernel was read back first, because this is the first exchange or because it
    /// did not hold what was last put there.
    pub was_compared: bool,
}

/// How the kernel differs from what should be there, as steps that would repair it. Empty if it
/// does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference(pub Vec<String>);

impl Difference {
    /// Whether the kernel holds what it should.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How many things stand in the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Tables.
    pub tables: usize,
    /// Chains.
    pub chains: usize,
    /// Rules.
    pub rules: usize,
    /// Elements of maps and sets.
    pub elements: usize,
}

/// How often the kernel's rules are read until two readings agree.
const READS_MAX: u32 = 20;

#[derive(Debug)]
pub(crate) struct Forwarder {
    socket: Socket,
    /// Names of all tables this component may make, in any family.
    owned: Vec<&'static str>,
    /// The table services go to.
    table: &'static str,
    seed: u64,
    base: Ruleset,
    services: Services,
    shared: Shared,
    /// Whether the kernel is known to hold `base` and `services`.
    is_installed: bool,
}

impl Forwarder {
    pub(crate) fn open(
        namespace: Option<BorrowedFd<'_>>,
        owned: &[&'static str],
        table: &'static str,
        seed: u64,
    ) -> Result<Self> {
        let socket = match namespace {
            Some(namespace) => Socket::open_in(namespace)?,
            None => Socket::open()?,
        };
        Ok(Self {
            socket,
            owned: owned.to_vec(),
            table,
            seed,
            base: Ruleset::default(),
            services: Services::new(),
            shared: Shared::new(),
            is_installed: false,
        })
    }

    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// Makes the kernel hold this base and these services, whatever it holds now, changing only
    /// what differs.
    pub(crate) fn replace(&mut self, base: Ruleset, services: Services) -> Result<Applied> {
        for (frontend, service) in &services {
            service.check(frontend)?;
        }
        if !self.is_installed {
            return self.compare_and_install(base, services);
        }
        let changed = changed_services(&self.services, &services);
        let mut changes = difference(&self.base, &base);
        if is_rebuilding(&changes) {
            return self.compare_and_install(base, services);
        }
        changes.extend(self.plan_services(&changed));
        order(&mut changes);
        self.install(changes, &changed, Some(base))
    }

    /// Changes these services; `None` takes one away. `base` is asked for only the first time.
    pub(crate) fn change_over(
        &mut self,
        base: impl FnOnce() -> Ruleset,
        changed: BTreeMap<Frontend, Option<Service>>,
    ) -> Result<Applied> {
        for (frontend, service) in &changed {
            if let Some(service) = service {
                service.check(frontend)?;
            }
        }
        if !self.is_installed {
            let mut services = self.services.clone();
            merge(&mut services, &changed);
            return self.compare_and_install(base(), services);
        }
        let changes = self.plan_services(&changed);
        self.install(changes, &changed, None)
    }

    fn plan_services(&self, changed: &BTreeMap<Frontend, Option<Service>>) -> Vec<Change> {
        let changed: Vec<_> = changed
            .iter()
            .map(|(frontend, after)| (frontend, self.services.get(frontend), after.as_ref()))
            .collect();
        plan(self.table, self.seed, &changed, &self.shared)
    }

    /// Does the steps; if the kernel refuses because it does not hold what was put there, compares
    /// with all it should hold and repairs that.
    fn install(
        &mut self,
        changes: Vec<Change>,
        changed: &BTreeMap<Frontend, Option<Service>>,
        base: Option<Ruleset>,
    ) -> Result<Applied> {
        let transaction = encode(&changes);
        let bytes = transaction.len();
        let result = if self.is_installed {
            transaction.commit(&mut self.socket)
        } else {
            Err(Error::Unanswered)
        };
        let mut applied = match result {
            Ok(()) => {
                self.base = base.unwrap_or_else(|| std::mem::take(&mut self.base));
                Applied {
                    changes: changes.len(),
                    bytes,
                    ..Applied::default()
                }
            }
            Err(error) if self.is_installed && !error.may_be_surprise() => return Err(error),
            Err(_) => {
                let mut services = self.services.clone();
                merge(&mut services, changed);
                let base = base.unwrap_or_else(|| self.base.clone());
                self.put_right(&base, &services)?
            }
        };
        // The kernel holds it from here on, whatever becomes of the flows.
        self.is_installed = true;
        let before: Vec<(Frontend, Option<Service>)> = changed
            .iter()
            .map(|(frontend, after)| {
                let before = match after {
                    Some(after) => self.services.insert(*frontend, after.clone()),
                    None => self.services.remove(frontend),
                };
                (*frontend, before)
            })
            .collect();
        self.recount(&before);
        applied.flows_forgotten = self.forget_stale(&before)?;
        Ok(applied)
    }

    /// Keeps the count of services that share chains, after these were as they are no more.
    fn recount(&mut self, before: &[(Frontend, Option<Service>)]) {
        for (frontend, before) in before {
            let after = self.services.get(frontend);
            for (service, difference) in [(before.as_ref(), -1), (after, 1)] {
                let compiled = service.map(|service| compile(frontend, service, self.seed));
                if let Some(share) = compiled.and_then(|compiled| compiled.shares()) {
                    *self.shared.entry(share).or_default() += difference;
                }
            }
        }
        self.shared.retain(|_, services| *services > 0);
    }

    fn compare_and_install(&mut self, base: Ruleset, services: Services) -> Result<Applied> {
        let changed = changed_services(&self.services, &services);
        self.is_installed = false;
        self.install(Vec::new(), &changed, Some(base.clone()))
            .inspect(|_| self.base = base)
    }

    /// Reads what the kernel holds and makes it this.
    fn put_right(&mut self, base: &Ruleset, services: &Services) -> Result<Applied> {
        let changes = self.compare(base, services)?;
        let transaction = encode(&changes);
        let bytes = transaction.len();
        transaction.commit(&mut self.socket)?;
        Ok(Applied {
            changes: changes.len(),
            bytes,
            flows_forgotten: 0,
            was_compared: true,
        })
    }

    /// What would make the kernel hold this. While the kernel enlarges a map, which it does on its
    /// own after many elements were added, it may pass over some when it is read: a difference
    /// counts only once it was seen twice.
    fn compare(&mut self, base: &Ruleset, services: &Services) -> Result<Vec<Change>> {
        let desired = desired(base, services, self.table, self.seed);
        let mut last = None;
        for _ in 0..READS_MAX {
            let found = dump::read(&mut self.socket, &self.owned)?;
            let changes = difference(&found, &desired);
            if changes.is_empty() || last.as_ref() == Some(&changes) {
                return Ok(changes);
            }
            last = Some(changes);
        }
        Err(Error::Unstable {
            what: "reading rules",
            tries: READS_MAX,
        })
    }

    fn forget_stale(&mut self, before: &[(Frontend, Option<Service>)]) -> Result<usize> {
        let services = &self.services;
        let suspects: Vec<_> = before
            .iter()
            .map(|(frontend, before)| (frontend, before.as_ref(), services.get(frontend)))
            .filter(|(frontend, before, after)| conntrack::may_go_stale(frontend, *before, *after))
            .collect();
        if suspects.is_empty() {
            return Ok(0);
        }
        conntrack::forget(&mut self.socket, |flow| {
            suspects
                .iter()
                .any(|(frontend, before, after)| flow.is_stale(frontend, *before, *after))
        })
    }

    /// Forgets every connection this address answers, of any protocol.
    pub(crate) fn forget_backend(&mut self, address: IpAddr) -> Result<usize> {
        conntrack::forget(&mut self.socket, |flow| {
            flow.answers == address && flow.called != address
        })
    }

    /// How the kernel differs from what was last put there.
    pub(crate) fn verify(&mut self) -> Result<Difference> {
        let (base, services) = (self.base.clone(), self.services.clone());
        let changes = self.compare(&base, &services)?;
        Ok(Difference(changes.iter().map(Change::to_string).collect()))
    }

    /// Makes the kernel hold what was last put there; says what differed.
    pub(crate) fn repair(&mut self) -> Result<Difference> {
        let (base, services) = (self.base.clone(), self.services.clone());
        let changes = self.compare(&base, &services)?;
        encode(&changes).commit(&mut self.socket)?;
        self.is_installed = true;
        Ok(Difference(changes.iter().map(Change::to_string).collect()))
    }

    /// Counts what stands in the kernel.
    pub(crate) fn size(&mut self) -> Result<Size> {
        let found = dump::read(&mut self.socket, &self.owned)?;
        let mut size = Size::default();
        for table in found.tables.values() {
            size.tables += 1;
            size.chains += table.chains.len();
            size.rules += table.chains.values().map(|c| c.rules.len()).sum::<usize>();
            size.elements += table.maps.values().map(|m| m.elements.len()).sum::<usize>();
        }
        Ok(size)
    }

    /// Takes away all tables, also those a predecessor left.
    pub(crate) fn clear(&mut self) -> Result<Applied> {
        self.compare_and_install(Ruleset::default(), Services::new())
    }
}

/// A table made anew takes its services with it.
fn is_rebuilding(changes: &[Change]) -> bool {
    changes
        .iter()
        .any(|change| matches!(change.what, What::DropTable | What::AddTable))
}

fn changed_services(before: &Services, after: &Services) -> BTreeMap<Frontend, Option<Service>> {
    let frontends: BTreeSet<&Frontend> = before.keys().chain(after.keys()).collect();
    frontends
        .into_iter()
        .filter(|frontend| before.get(frontend) != after.get(frontend))
        .map(|frontend| (*frontend, after.get(frontend).cloned()))
        .collect()
}

fn merge(services: &mut Services, changed: &BTreeMap<Frontend, Option<Service>>) {
    for (frontend, service) in changed {
        match service {
            Some(service) => services.insert(*frontend, service.clone()),
            None => services.remove(frontend),
        };
    }
}

/// The steps from some states of services to others; nothing of any other service is touched but
/// chains it shares with them.
fn plan(
    table: &str,
    seed: u64,
    changed: &[(&Frontend, Option<&Service>, Option<&Service>)],
    shared: &Shared,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut shared_after = Shared::new();
    for (frontend, before, after) in changed {
        let before = before.map(|service| compile(frontend, service, seed));
        let after = after.map(|service| compile(frontend, service, seed));
        for (compiled, difference) in [(&before, -1), (&after, 1)] {
            let Some((family, picker)) = compiled.as_ref().and_then(Compiled::shares) else {
                continue;
            };
            let count = shared.get(&(family, picker)).copied().unwrap_or(0);
            *shared_after.entry((family, picker)).or_insert(count) += difference;
        }
        plan_one(table, before.as_ref(), after.as_ref(), &mut changes);
    }
    for ((family, picker), services) in shared_after {
        let name = (family, table.to_owned());
        let before = shared.get(&(family, picker)).copied().unwrap_or(0);
        plan_picker(&name, picker, (before, services), &mut changes);
    }
    order(&mut changes);
    changes
}

/// How many services share a picking chain.
type Shared = BTreeMap<(Family, Picker), isize>;

fn plan_picker(
    table: &TableName,
    picker: Picker,
    (before, after): (isize, isize),
    changes: &mut Vec<Change>,
) {
    let chain = |services: isize| {
        let services = usize::try_from(services).unwrap_or(0);
        (services > 0).then(|| picker.chain(table.0, services))
    };
    let what = match (before > 0, after > 0) {
        (false, true) => {
            let shape = Layout::of(table.0).backends_shape();
            Some(What::AddMap(picker.to_string(), shape))
        }
        (true, false) => Some(What::RemoveMap(picker.to_string())),
        (true, true) | (false, false) => None,
    };
    changes.extend(what.map(|what| Change {
        table: table.clone(),
        what,
    }));
    let element = |services| {
        let elements: Elements = picker_element(picker).into();
        if services > 0 {
            elements
        } else {
            Elements::new()
        }
    };
    change_elements(table, PICKERS, &element(before), &element(after), changes);
    plan_chain(
        table,
        &picker.to_string(),
        chain(before).as_ref(),
        chain(after).as_ref(),
        changes,
    );
}

/// What leads from a picking chain's number to it.
fn picker_element(picker: Picker) -> [(Vec<u8>, Value); 1] {
    let key = picker.number().to_ne_bytes().to_vec();
    [(key, Value::Goto(picker.to_string()))]
}

fn plan_chain(
    table: &TableName,
    chain: &str,
    before: Option<&Chain>,
    after: Option<&Chain>,
    changes: &mut Vec<Change>,
) {
    if let Some(after) = after {
        change_chain(table, chain, before, after, changes);
    } else if before.is_some() {
        let chain = chain.to_owned();
        for what in [What::FlushChain(chain.clone()), What::RemoveChain(chain)] {
            let table = table.clone();
            changes.push(Change { table, what });
        }
    }
}

/// What is the service's own.
fn plan_one(
    table: &str,
    before: Option<&Compiled>,
    after: Option<&Compiled>,
    changes: &mut Vec<Change>,
) {
    let Some(either) = after.or(before) else {
        return;
    };
    let name = (either.family, table.to_owned());
    for compiled in [before, after].into_iter().flatten() {
        let Some(picker) = compiled.picker else {
            continue;
        };
        let here = |other: Option<&Compiled>| {
            other
                .filter(|other| other.picker == Some(picker))
                .map_or_else(Elements::new, |other| other.backends.clone())
        };
        change_elements(
            &name,
            &picker.to_string(),
            &here(before),
            &here(after),
            changes,
        );
        if before.map(|b| b.picker) == after.map(|a| a.picker) {
            break;
        }
    }
    for map in [
        ADDRESSES,
        PORTS,
        LIMITED,
        UNSERVED_ADDRESSES,
        UNSERVED_PORTS,
    ] {
        let entry = |compiled: Option<&Compiled>| {
            let here = compiled.filter(|compiled| compiled.entry.0 == map);
            here.map_or_else(Elements::new, |compiled| {
                let (_, key, value) = compiled.entry.clone();
                Elements::from([(key, value)])
            })
        };
        change_elements(&name, map, &entry(before), &entry(after), changes);
    }
    let guard = |compiled: Option<&Compiled>| compiled.and_then(|c| c.guard.clone());
    let (before, after) = (guard(before), guard(after));
    if let Some((chain, _)) = after.as_ref().or(before.as_ref()) {
        let rules = |guard: &Option<(String, Chain)>| guard.as_ref().map(|(_, c)| c.clone());
        let (before, after) = (rules(&before), rules(&after));
        plan_chain(&name, chain, before.as_ref(), after.as_ref(), changes);
    }
}

/// All that should stand in the kernel.
fn desired(base: &Ruleset, services: &Services, name: &str, seed: u64) -> Ruleset {
    let mut desired = base.clone();
    let mut shared = Shared::new();
    for (frontend, service) in services {
        let compiled = compile(frontend, service, seed);
        if let Some(share) = compiled.shares() {
            *shared.entry(share).or_default() += 1;
        }
        let table = desired.table(compiled.family, name);
        let (map, key, value) = compiled.entry;
        if let Some(map) = table.maps.get_mut(map) {
            map.elements.insert(key, value);
        }
        if let Some(picker) = compiled.picker {
            let shape = Layout::of(compiled.family).backends_shape();
            let map = table.maps.entry(picker.to_string()).or_insert_with(|| Map {
                shape,
                elements: Elements::new(),
            });
            map.elements.extend(compiled.backends);
        }
        table.chains.extend(compiled.guard);
    }
    for ((family, picker), services) in shared {
        let chain = picker.chain(family, services.unsigned_abs());
        let table = desired.table(family, name);
        if let Some(map) = table.maps.get_mut(PICKERS) {
            map.elements.extend(picker_element(picker));
        }
        table.chains.insert(picker.to_string(), chain);
    }
    desired
}
