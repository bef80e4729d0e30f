//! Virtual addresses of services, translated in the namespace of the task that calls them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use crate::compile::Layout;
use crate::error::{Error, Result};
use crate::forwarder::{Applied, Difference, Forwarder, Size};
use crate::service::{Frontend, Service, Services};
use crate::table::{Hook, Ruleset};

/// The balancer's table, in the families `ip` and `ip6`.
const TABLE: &str = "swarm-balancer";

/// Where iptables translates destinations too (`NF_IP_PRI_NAT_DST`).
pub(crate) const PRIORITY_TRANSLATE: i32 = -100;

/// Just before that, and after the kernel knows which connection a packet belongs to.
pub(crate) const PRIORITY_REFUSE: i32 = PRIORITY_TRANSLATE - 1;

/// Balances what the processes of one network namespace send to virtual addresses.
///
/// Calls block for as long as the kernel takes, from a quarter of a millisecond for one service to
/// some tenths of a second for ten thousand. Each is one transaction: all of it is done or nothing,
/// and packets meet either the old state or the new one.
#[derive(Debug)]
pub struct Balancer {
    forwarder: Forwarder,
}

impl Balancer {
    /// A balancer for this network namespace. Nothing changes there before the first call of
    /// [`Self::replace`], which takes over what an earlier process left.
    ///
    /// `seed` decides which backend a service begins with: give each namespace one of its own,
    /// always the same, so that not all begin with the same backend.
    pub fn open(namespace: BorrowedFd<'_>, seed: u64) -> Result<Self> {
        Self::open_at(Some(namespace), seed)
    }

    /// A balancer for the network namespace of the calling thread.
    pub fn open_here(seed: u64) -> Result<Self> {
        Self::open_at(None, seed)
    }

    fn open_at(namespace: Option<BorrowedFd<'_>>, seed: u64) -> Result<Self> {
        let forwarder = Forwarder::open(namespace, &[TABLE], TABLE, seed)?;
        Ok(Self { forwarder })
    }

    /// Makes these the services, and no others. Only what differs is sent to the kernel.
    pub fn replace(&mut self, services: Services) -> Result<Applied> {
        check_all(
            services
                .iter()
                .map(|(frontend, service)| (frontend, Some(service))),
        )?;
        self.forwarder.replace(base(), services)
    }

    /// Changes these services; `None` takes one away. The others are not looked at.
    pub fn change(&mut self, changed: BTreeMap<Frontend, Option<Service>>) -> Result<Applied> {
        check_all(
            changed
                .iter()
                .map(|(frontend, service)| (frontend, service.as_ref())),
        )?;
        self.forwarder.change_over(base, changed)
    }

    /// The services as last put into the kernel.
    #[must_use]
    pub fn services(&self) -> &Services {
        self.forwarder.services()
    }

    /// Forgets all connections to a backend that is gone for good, so that their clients are told
    /// at once by whoever gets the next packet instead of waiting for an answer. Returns how many.
    pub fn forget_backend(&mut self, address: IpAddr) -> Result<usize> {
        self.forwarder.forget_backend(address)
    }

    /// How the kernel differs from what was last put there.
    pub fn verify(&mut self) -> Result<Difference> {
        self.forwarder.verify()
    }

    /// Makes the kernel hold again what was last put there; says what differed.
    pub fn repair(&mut self) -> Result<Difference> {
        self.forwarder.repair()
    }

    /// Counts what stands in the kernel.
    pub fn size(&mut self) -> Result<Size> {
        self.forwarder.size()
    }

    /// Takes everything away.
    pub fn clear(&mut self) -> Result<Applied> {
        self.forwarder.clear()
    }
}

fn check_all<'a>(
    services: impl Iterator<Item = (&'a Frontend, Option<&'a Service>)>,
) -> Result<()> {
    for (frontend, service) in services {
        if frontend.address.is_unspecified() {
            return Err(Error::Invalid {
                field: "address of a frontend",
                value: frontend.address.to_string(),
                allowed: "a virtual address; ports of the node itself are the mesh's",
            });
        }
        if let Some(name) = service.and_then(|service| service.interfaces.first()) {
            return Err(Error::Invalid {
                field: "interface of a service",
                value: name.clone(),
                allowed: "none: a virtual address is called from within",
            });
        }
    }
    Ok(())
}

/// The tables without services: what local processes send is looked up, by port first.
fn base() -> Ruleset {
    let mut base = Ruleset::default();
    for layout in [Layout::V4, Layout::V6] {
        let table = base.table(layout.family, TABLE);
        layout.skeleton(table);
        let hook = Hook::new("filter", Hook::OUTPUT, PRIORITY_REFUSE);
        table.chain("refuse-output", Some(hook), layout.to_refusal(false));
        let hook = Hook::new("nat", Hook::OUTPUT, PRIORITY_TRANSLATE);
        table.chain("output", Some(hook), layout.to_pickers(false));
    }
    base
}
