//! The engine below balancer and mesh: one component's tables in one namespace, and their changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use crate::change::{Change, What, change_chain, change_elements, difference, encode, order};
use crate::compile::{
    ADDRESSES, BACKENDS, Compiled, PORTS, UNSERVED_ADDRESSES, UNSERVED_PORTS, compile,
};
use crate::conntrack;
use crate::dump;
use crate::error::{Error, Result};
use crate::service::{Frontend, Service, Services};
use crate::socket::Socket;
use crate::table::{Elements, Ruleset, Value};

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
        self.plan_services(&changed, &mut changes);
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
        let mut changes = Vec::new();
        self.plan_services(&changed, &mut changes);
        self.install(changes, &changed, None)
    }

    fn plan_services(
        &self,
        changed: &BTreeMap<Frontend, Option<Service>>,
        changes: &mut Vec<Change>,
    ) {
        for (frontend, after) in changed {
            let before = self.services.get(frontend);
            plan(
                self.table,
                self.seed,
                frontend,
                (before, after.as_ref()),
                changes,
            );
        }
        order(changes);
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
        applied.flows_forgotten = self.forget_stale(&before)?;
        Ok(applied)
    }

    fn compare_and_install(&mut self, base: Ruleset, services: Services) -> Result<Applied> {
        let changed = changed_services(&self.services, &services);
        self.is_installed = false;
        self.install(Vec::new(), &changed, Some(base.clone()))
            .inspect(|_| self.base = base)
    }

    /// Reads what the kernel holds and makes it this.
    fn put_right(&mut self, base: &Ruleset, services: &Services) -> Result<Applied> {
        let found = dump::read(&mut self.socket, &self.owned)?;
        let desired = desired(base, services, self.table, self.seed);
        let changes = difference(&found, &desired);
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
        let found = dump::read(&mut self.socket, &self.owned)?;
        let desired = desired(&self.base, &self.services, self.table, self.seed);
        let changes = difference(&found, &desired);
        Ok(Difference(changes.iter().map(Change::to_string).collect()))
    }

    /// Makes the kernel hold what was last put there; says what differed.
    pub(crate) fn repair(&mut self) -> Result<Difference> {
        let found = dump::read(&mut self.socket, &self.owned)?;
        let desired = desired(&self.base, &self.services, self.table, self.seed);
        let changes = difference(&found, &desired);
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

/// The steps from one state of a service to another; nothing of any other service is touched.
pub(crate) fn plan(
    table: &str,
    seed: u64,
    frontend: &Frontend,
    (before, after): (Option<&Service>, Option<&Service>),
    changes: &mut Vec<Change>,
) {
    let before = before.map(|service| compile(frontend, service, seed));
    let after = after.map(|service| compile(frontend, service, seed));
    let Some(either) = after.as_ref().or(before.as_ref()) else {
        return;
    };
    let name = (either.family, table.to_owned());
    let none = Elements::new();
    let backends = |compiled: &Option<Compiled>| compiled.as_ref().map(|c| c.backends.clone());
    let (old, new) = (backends(&before), backends(&after));
    change_elements(
        &name,
        BACKENDS,
        old.as_ref().unwrap_or(&none),
        new.as_ref().unwrap_or(&none),
        changes,
    );
    for map in [ADDRESSES, PORTS, UNSERVED_ADDRESSES, UNSERVED_PORTS] {
        let entry = |compiled: &Option<Compiled>| {
            let here = compiled.as_ref().filter(|compiled| compiled.entry.0 == map);
            here.map_or_else(Elements::new, |compiled| {
                let chain = Value::Goto(compiled.chain.clone());
                Elements::from([(compiled.entry.1.clone(), chain)])
            })
        };
        change_elements(&name, map, &entry(&before), &entry(&after), changes);
    }
    let chain = &either.chain;
    if let Some(after) = &after {
        let found = before.as_ref().map(|before| &before.rules);
        change_chain(&name, chain, found, &after.rules, changes);
    } else {
        for what in [
            What::FlushChain(chain.clone()),
            What::RemoveChain(chain.clone()),
        ] {
            let table = name.clone();
            changes.push(Change { table, what });
        }
    }
}

/// All that should stand in the kernel.
pub(crate) fn desired(base: &Ruleset, services: &Services, table: &str, seed: u64) -> Ruleset {
    let mut desired = base.clone();
    for (frontend, service) in services {
        let compiled = compile(frontend, service, seed);
        let table = desired.table(compiled.family, table);
        let chain = Value::Goto(compiled.chain.clone());
        let (map, key) = compiled.entry;
        if let Some(map) = table.maps.get_mut(map) {
            map.elements.insert(key, chain);
        }
        if let Some(map) = table.maps.get_mut(BACKENDS) {
            map.elements.extend(compiled.backends);
        }
        table.chains.insert(compiled.chain, compiled.rules);
    }
    desired
}
