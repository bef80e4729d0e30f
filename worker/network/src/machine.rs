//! Makes changes in the kernel.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::{RouteAttribute, RouteMetric};
use rustix::io::Errno;

use crate::message::{self, Inner};
use crate::observe::{self, Observed};
use crate::plan::Change;
use crate::socket::{Request, Socket};
use crate::state::{Link, LinkKind, LinkName};

/// The container's side of a port.
pub(crate) struct Inside<'a> {
    /// Its network namespace.
    pub(crate) namespace: &'a OwnedFd,
    pub(crate) name: &'a str,
    pub(crate) mac: types::network::Mac,
}

/// A change that was refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) change: Change,
    pub(crate) errno: Errno,
}

/// The kernel's network of this machine.
#[derive(Debug)]
pub(crate) struct Machine {
    socket: Socket,
    /// Numbers of links, as last seen.
    indices: BTreeMap<LinkName, u32>,
}

/// A request, which change it is part of, and which answers do not count as refusals.
struct Step<'a> {
    request: Request,
    change: &'a Change,
    passes: &'static [Errno],
}

impl Machine {
    /// The network of the calling thread's namespace.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::open()?,
            indices: BTreeMap::new(),
        })
    }

    /// Reads everything.
    pub(crate) fn observe(&mut self) -> io::Result<Observed> {
        let observed = observe::observe(&mut self.socket)?;
        self.indices.clone_from(&observed.indices);
        Ok(observed)
    }

    /// Makes the changes. Returns those that were refused; the others are made.
    pub(crate) fn apply<'a>(
        &mut self,
        changes: &[Change],
        inside: &dyn Fn(&LinkName) -> Option<Inside<'a>>,
    ) -> io::Result<Vec<Refusal>> {
        let mut refusals = Vec::new();
        self.delete_links(changes, &mut refusals)?;
        self.add_links(changes, &mut refusals)?;
        self.add_ports(changes, inside, &mut refusals)?;
        self.set_links(changes, &mut refusals)?;
        self.set_entries(changes, &mut refusals)?;
        Ok(refusals)
    }

    /// Makes an interface of a container on a device of the machine.
    pub(crate) fn execute_one(&mut self, request: Request) -> io::Result<()> {
        self.socket.execute_one(request)
    }

    /// The number of a link.
    pub(crate) fn index(&mut self, name: &LinkName) -> io::Result<u32> {
        if let Some(index) = self.indices.get(name) {
            return Ok(*index);
        }
        let index = observe::index_of(&mut self.socket, name)?;
        self.indices.insert(name.clone(), index);
        Ok(index)
    }

    /// The MTU that the route to an address tells, if it tells one.
    pub(crate) fn route_mtu(&mut self, address: IpAddr) -> Option<u32> {
        let route = self.socket.get(message::route_to(address)).ok()?;
        let RouteNetlinkMessage::NewRoute(route) = route else {
            return None;
        };
        route
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::Metrics(metrics) => {
                    metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    })
                }
                _ => None,
            })
    }

    fn run(&mut self, steps: Vec<Step<'_>>, refusals: &mut Vec<Refusal>) -> io::Result<()> {
        let requests: Vec<Request> = steps.iter().map(|step| step.request.clone()).collect();
        for (at, errno) in self.socket.execute(&requests)? {
            let step = &steps[at];
            if !step.passes.contains(&errno) {
                refusals.push(Refusal {
                    change: step.change.clone(),
                    errno,
                });
            }
        }
        Ok(())
    }

    fn delete_links(&mut self, changes: &[Change], refusals: &mut Vec<Refusal>) -> io::Result<()> {
        let mut steps = Vec::new();
        for change in changes {
            if let Change::DeleteLink(name) = change {
                let request = message::delete_link(name);
                steps.push(Step {
                    request,
                    change,
                    passes: &[Errno::NODEV],
                });
                self.indices.remove(name);
            }
        }
        self.run(steps, refusals)
    }

    fn add_links(&mut self, changes: &[Change], refusals: &mut Vec<Refusal>) -> io::Result<()> {
        let mut steps = Vec::new();
        for change in changes {
            if let Change::AddLink(name, link) = change
                && let Some(request) = message::add_link(name, &link.kind)
            {
                // Whoever has made it meanwhile, it is set up below and looked at in the next pass.
                steps.push(Step {
                    request,
                    change,
                    passes: &[Errno::EXIST],
                });
                self.indices.remove(name);
            }
        }
        self.run(steps, refusals)
    }

    fn add_ports<'a>(
        &mut self,
        changes: &[Change],
        inside: &dyn Fn(&LinkName) -> Option<Inside<'a>>,
        refusals: &mut Vec<Refusal>,
    ) -> io::Result<()> {
        let mut steps = Vec::new();
        for change in changes {
            let Change::AddLink(
                name,
                Link {
                    kind: LinkKind::Veth,
                    mtu,
                    port,
                    ..
                },
            ) = change
            else {
                continue;
            };
            let bridge = port.as_ref().map(|port| self.index(&port.bridge));
            match (inside(name), bridge) {
                (Some(inside), Some(Ok(bridge))) => {
                    let inner = Inner {
                        name: inside.name,
                        mac: inside.mac,
                        mtu: *mtu,
                        namespace: inside.namespace.as_fd(),
                    };
                    let request = message::add_veth(name, bridge, &inner);
                    steps.push(Step {
                        request,
                        change,
                        passes: &[Errno::EXIST],
                    });
                }
                (None, _) | (Some(_), None | Some(Err(_))) => {
                    let change = change.clone();
                    refusals.push(Refusal {
                        change,
                        errno: Errno::NODEV,
                    });
                }
            }
            self.indices.remove(name);
        }
        self.run(steps, refusals)
    }

    fn set_links(&mut self, changes: &[Change], refusals: &mut Vec<Refusal>) -> io::Result<()> {
        let mut steps = Vec::new();
        for change in changes {
            let (name, link, is_new) = match change {
                Change::AddLink(name, link) => (name, link, true),
                // Made by another process, as the kernel makes them.
                Change::SetLink(name, link) => (name, link, link.kind == LinkKind::Tap),
                _ => continue,
            };
            let step = |request| Step {
                request,
                change,
                passes: &[],
            };
            let Ok(index) = self.index(name) else {
                refusals.push(Refusal {
                    change: change.clone(),
                    errno: Errno::NODEV,
                });
                continue;
            };
            if is_new {
                let request = message::no_own_addresses(index);
                // Without IPv6 there is nothing to ask.
                let passes = &[Errno::AFNOSUPPORT, Errno::OPNOTSUPP, Errno::INVAL];
                steps.push(Step {
                    request,
                    change,
                    passes,
                });
            }
            let mut attributes = vec![LinkAttribute::Mtu(link.mtu)];
            attributes.extend(link.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
            let controller = match &link.port {
                Some(port) => self.index(&port.bridge).unwrap_or_default(),
                None => 0,
            };
            attributes.push(LinkAttribute::Controller(controller));
            steps.push(step(message::set_link(index, attributes, None)));
            if let Some(port) = &link.port {
                steps.push(step(message::set_port(index, port)));
            }
            // Only when it can do no harm any more.
            steps.push(step(message::set_link(index, Vec::new(), Some(link.is_up))));
        }
        self.run(steps, refusals)
    }

    fn set_entries(&mut self, changes: &[Change], refusals: &mut Vec<Refusal>) -> io::Result<()> {
        /// What was to be forgotten is forgotten.
        const GONE: &[Errno] = &[Errno::NOENT, Errno::NODEV, Errno::ADDRNOTAVAIL, Errno::SRCH];
        let mut steps = Vec::new();
        for change in changes {
            let (name, passes): (_, &[Errno]) = match change {
                Change::DeleteLink(_) | Change::AddLink(..) | Change::SetLink(..) => continue,
                Change::DeleteAddress(name, _)
                | Change::DeletePortMac(name, _)
                | Change::DeleteTunnelMac(name, ..)
                | Change::DeleteNeighbour(name, _) => (name, GONE),
                Change::AddAddress(name, _)
                | Change::AddPortMac(name, _)
                | Change::AddTunnelMac(name, ..)
                | Change::AddNeighbour(name, ..) => (name, &[]),
            };
            let Ok(index) = self.index(name) else {
                if passes.is_empty() {
                    refusals.push(Refusal {
                        change: change.clone(),
                        errno: Errno::NODEV,
                    });
                }
                continue;
            };
            let request = match change {
                Change::DeleteLink(_) | Change::AddLink(..) | Change::SetLink(..) => continue,
                Change::DeleteAddress(_, address) => message::delete_address(index, *address),
                Change::AddAddress(_, address) => message::add_address(index, *address),
                Change::DeletePortMac(_, mac) => message::delete_port_mac(index, *mac),
                Change::AddPortMac(_, mac) => message::add_port_mac(index, *mac),
                Change::DeleteTunnelMac(_, mac, node) => {
                    message::delete_tunnel_mac(index, *mac, *node)
                }
                Change::AddTunnelMac(_, mac, node) => message::add_tunnel_mac(index, *mac, *node),
                Change::DeleteNeighbour(_, address) => message::delete_neighbour(index, *address),
                Change::AddNeighbour(_, address, mac) => {
                    message::add_neighbour(index, *address, *mac)
                }
            };
            steps.push(Step {
                request,
                change,
                passes,
            });
        }
        self.run(steps, refusals)
    }
}
