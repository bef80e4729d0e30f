//! Connects containers: their interfaces, and all that is inside.

use std::io;

use netlink_packet_route::link::{
    InfoData, InfoIpVlan, InfoKind, InfoMacVlan, IpVlanMode, MacVlanMode,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use types::TaskId;

use super::{Keeper, Reply, answer};
use crate::machine::Refusal;
use crate::message::{self, Inner};
use crate::plan::Change;
use crate::records::{Process, Record};
use crate::sandbox::{Base, DeviceKind, Interface, Sandbox};
use crate::state::LinkName;
use crate::{Error, inside, namespace};

impl Keeper {
    /// Connects containers that were asked for at the same time.
    pub(super) fn attach(&mut self, attached: Vec<(TaskId, u32, Reply<()>)>) {
        if attached.is_empty() {
            return;
        }
        let mut waiting = Vec::new();
        for (task, pid, reply) in attached {
            match self.note_process(task, pid) {
                Ok(record) => waiting.push((record, reply)),
                Err(error) => answer(reply, Err(error)),
            }
        }
        let refusals = self.advance();
        for (record, reply) in waiting {
            let result = match refused_port(&record.sandbox, &refusals) {
                Some(error) => Err(error),
                None => self.connect(&record),
            };
            answer(reply, result);
        }
    }

    /// Remembers the container before anything is made for it.
    fn note_process(&mut self, task: TaskId, pid: u32) -> Result<Record, Error> {
        let record = self
            .records
            .all()
            .get(&task)
            .cloned()
            .ok_or(Error::NotReserved(task))?;
        let process = Process::of(pid).ok_or(Error::Gone(task))?;
        if record.process == Some(process) {
            return Ok(record);
        }
        let record = Record {
            process: Some(process),
            ..record
        };
        self.records.put(record.clone())?;
        Ok(record)
    }

    /// Sets up what is inside a container. What is there already stays.
    pub(super) fn connect(&mut self, record: &Record) -> Result<(), Error> {
        let task = record.sandbox.task;
        let process = record.process.ok_or(Error::Gone(task))?;
        let namespace = namespace::of_process(process.pid).map_err(|_| Error::Gone(task))?;
        if !process.is_alive() {
            return Err(Error::Gone(task));
        }
        for interface in &record.sandbox.interfaces {
            if let Base::Device { parent, kind, mode } = &interface.base {
                self.add_on_device(interface, &namespace, (parent, *kind, mode))?;
            }
        }
        let mtus: Vec<u32> = record
            .sandbox
            .interfaces
            .iter()
            .map(|one| self.mtu(one))
            .collect();
        let set_up = inside::set_up(&namespace, &record.sandbox, &mtus);
        set_up.map_err(Error::kernel("set up a container's interfaces"))?;
        self.filter_inside(record, &namespace)
            .map_err(|error| Error::Filter(Box::new(error)))?;
        Ok(())
    }

    fn add_on_device(
        &mut self,
        interface: &Interface,
        namespace: &OwnedFd,
        (parent, kind, mode): (&LinkName, DeviceKind, &str),
    ) -> Result<(), Error> {
        let network = interface
            .network
            .map_or_else(String::new, |id| self.network_name(id));
        let (info, data, driver) = match kind {
            DeviceKind::Macvlan => {
                let mode = macvlan_mode(mode).ok_or_else(|| Error::Mode {
                    network: network.clone(),
                    option: "macvlan_mode",
                    mode: mode.to_owned(),
                    allowed: "bridge, private, vepa, passthru",
                })?;
                let data = InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)]);
                (InfoKind::MacVlan, data, "macvlan")
            }
            DeviceKind::Ipvlan => {
                let mode = ipvlan_mode(mode).ok_or_else(|| Error::Mode {
                    network: network.clone(),
                    option: "ipvlan_mode",
                    mode: mode.to_owned(),
                    allowed: "l2, l3, l3s",
                })?;
                (
                    InfoKind::IpVlan,
                    InfoData::IpVlan(vec![InfoIpVlan::Mode(mode)]),
                    "ipvlan",
                )
            }
        };
        let unknown = |_| Error::UnknownParent {
            network,
            parent: parent.to_string(),
        };
        let device = self.machine.index(parent).map_err(unknown)?;
        let inner = Inner {
            name: &interface.name,
            mac: interface.mac,
            mtu: self.mtu(interface),
            namespace: namespace.as_fd(),
        };
        match self
            .machine
            .execute_one(message::add_on_device(device, info, data, &inner))
        {
            // Made before.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
                Err(Error::Unsupported(driver))
            }
            result => result.map_err(Error::kernel("make an interface on a device of the node")),
        }
    }

    fn network_name(&self, id: types::NetworkId) -> String {
        let view = self.view.as_ref();
        let network = view.and_then(|view| view.network(id));
        network.map_or_else(|| id.to_string(), |network| network.spec.name.clone())
    }
}

fn macvlan_mode(text: &str) -> Option<MacVlanMode> {
    Some(match text {
        "" | "bridge" => MacVlanMode::Bridge,
        "private" => MacVlanMode::Private,
        "vepa" => MacVlanMode::Vepa,
        "passthru" => MacVlanMode::Passthrough,
        _ => return None,
    })
}

fn ipvlan_mode(text: &str) -> Option<IpVlanMode> {
    Some(match text {
        "" | "l2" => IpVlanMode::L2,
        "l3" => IpVlanMode::L3,
        "l3s" => IpVlanMode::L3S,
        _ => return None,
    })
}

/// Why a container's interface could not be made.
pub(super) fn refused_port(sandbox: &Sandbox, refusals: &[Refusal]) -> Option<Error> {
    let is_own = |name: &LinkName| {
        sandbox
            .interfaces
            .iter()
            .any(|interface| match &interface.base {
                Base::Bridge { bridge, port, .. } => name == port || name == bridge,
                Base::Device { .. } => false,
            })
    };
    let refusal = refusals.iter().find(|refusal| match &refusal.change {
        Change::AddLink(name, _) | Change::SetLink(name, _) => is_own(name),
        _ => false,
    })?;
    Some(Error::Change {
        change: refusal.change.to_string(),
        source: refusal.errno.into(),
    })
}
