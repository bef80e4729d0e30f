//! On a node: published ports, and what passes between containers and the world.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use super::clamp_handshake;
use crate::balancer::{PRIORITY_REFUSE, PRIORITY_TRANSLATE};
use crate::compile::{Layout, address_and_mask, family_of, is_translated};
use crate::error::{Error, Result};
use crate::expression::{
    Compare, Connection, Expressions, Meta, Register, STATE_ESTABLISHED, STATE_RELATED, Verdict,
};
use crate::forwarder::{Applied, Difference, Forwarder, Size};
use crate::service::{Frontend, Service, Services, check_interface};
use crate::table::{Family, Hook, Ruleset};

/// The node's tables, in the families `ip` and `ip6`.
const TABLE: &str = "swarm-mesh";

const PRIORITY_RAW: i32 = -300;
const PRIORITY_MANGLE: i32 = -150;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE: i32 = 100;

/// What published ports stand in: the node's bridges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The bridge of the ingress network, if the node has it.
    pub ingress: Option<String>,
    /// Bridges containers reach the outside world by.
    pub outbound: Vec<Outbound>,
    /// Bridges nothing is routed into or out of.
    pub internal: Vec<String>,
    /// Translates the source of mesh connections too, so that tasks see the node instead of the
    /// client: for kernels where [`super::WayBack`] cannot be set up.
    pub hides_clients: bool,
}

impl Surroundings {
    /// Bridges behind which published ports are.
    pub fn translated_bridges(&self) -> impl Iterator<Item = &str> {
        let outbound = self.outbound.iter().map(|one| &one.bridge);
        outbound.chain(&self.ingress).map(String::as_str)
    }
}

/// A bridge whose containers reach the world by the node's own addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// The bridge's name.
    pub bridge: String,
    /// What is on it.
    pub subnets: Vec<Subnet>,
    /// Containers on it do not reach each other through the node. (Bridging between its ports is
    /// for the caller to stop, by isolating them.)
    pub isolated: bool,
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// An address in it.
    pub address: IpAddr,
    /// Its first bits that all share: up to 32, or 128 for IPv6.
    pub prefix_bits: u8,
}

/// Published ports and translation of one node.
///
/// A service here is named by a [`Frontend::published`] port, or one of a single address of the
/// node. Its backends are addresses on the ingress network, or for `mode=host` the one address of a
/// container on an outbound bridge. A port limited to interfaces, and one called from the node
/// itself, work as [`Service::interfaces`] says.
///
/// Rules of others stay in force: a packet that another table drops is dropped, whatever this one
/// accepts. Where a firewall drops what is forwarded by default, it has to let pass what goes to
/// and from the bridges named here.
#[derive(Debug)]
pub struct Node {
    forwarder: Forwarder,
    surroundings: Surroundings,
}

impl Node {
    /// For the network namespace of the node. Nothing changes there before [`Self::replace`],
    /// which takes over what an earlier process left. `seed` as for [`crate::Balancer::open`].
    pub fn open(namespace: BorrowedFd<'_>, seed: u64) -> Result<Self> {
        Self::open_at(Some(namespace), seed)
    }

    /// For the network namespace of the calling thread.
    pub fn open_here(seed: u64) -> Result<Self> {
        Self::open_at(None, seed)
    }

    fn open_at(namespace: Option<BorrowedFd<'_>>, seed: u64) -> Result<Self> {
        Ok(Self {
            forwarder: Forwarder::open(namespace, &[TABLE], TABLE, seed)?,
            surroundings: Surroundings::default(),
        })
    }

    /// Makes these the surroundings and the published ports, and nothing else.
    pub fn replace(&mut self, surroundings: Surroundings, ports: Services) -> Result<Applied> {
        check_surroundings(&surroundings)?;
        check_ports(ports.keys())?;
        let applied = self.forwarder.replace(base(&surroundings), ports)?;
        self.surroundings = surroundings;
        Ok(applied)
    }

    /// Changes these ports; `None` takes one away. The others are not looked at.
    pub fn change(&mut self, changed: BTreeMap<Frontend, Option<Service>>) -> Result<Applied> {
        check_ports(changed.keys())?;
        let surroundings = &self.surroundings;
        self.forwarder.change_over(|| base(surroundings), changed)
    }

    /// The surroundings as last put into the kernel.
    #[must_use]
    pub fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// The published ports as last put into the kernel.
    #[must_use]
    pub fn ports(&self) -> &Services {
        self.forwarder.services()
    }

    /// The published port that would get what is sent to this one, so that two are not given the
    /// same: equal protocol and number, and one of them on every address or both on the same.
    #[must_use]
    pub fn conflict(&self, wanted: &Frontend) -> Option<Frontend> {
        let clashes = |held: &Frontend| {
            held != wanted
                && held.port == wanted.port
                && held.address.is_ipv4() == wanted.address.is_ipv4()
                && (held.address.is_unspecified() || wanted.address.is_unspecified())
        };
        let ports = self.ports();
        if ports.contains_key(wanted) {
            return Some(*wanted);
        }
        ports.keys().copied().find(clashes)
    }

    /// As [`crate::Balancer::forget_backend`].
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

fn check_surroundings(surroundings: &Surroundings) -> Result<()> {
    let outbound = surroundings.outbound.iter().map(|bridge| &bridge.bridge);
    let names = outbound
        .chain(&surroundings.internal)
        .chain(&surroundings.ingress);
    for name in names {
        check_interface(name)?;
    }
    for subnet in surroundings.outbound.iter().flat_map(|b| &b.subnets) {
        let bits = if subnet.address.is_ipv4() { 32 } else { 128 };
        if subnet.prefix_bits > bits {
            return Err(Error::Invalid {
                field: "prefix of a subnet",
                value: subnet.prefix_bits.to_string(),
                allowed: "at most 32, or 128 for IPv6",
            });
        }
    }
    Ok(())
}

fn check_ports<'a>(mut frontends: impl Iterator<Item = &'a Frontend>) -> Result<()> {
    match frontends.find(|frontend| frontend.port.is_none()) {
        None => Ok(()),
        Some(frontend) => Err(Error::Invalid {
            field: "published port",
            value: frontend.to_string(),
            allowed: "a frontend of a node has a port",
        }),
    }
}

/// The tables without services.
fn base(surroundings: &Surroundings) -> Ruleset {
    let mut base = Ruleset::default();
    for layout in [Layout::V4, Layout::V6] {
        let table = base.table(layout.family, TABLE);
        layout.skeleton(table);
        for (name, number) in [("prerouting", Hook::PREROUTING), ("output", Hook::OUTPUT)] {
            let spared = || spared(layout, number);
            let refuse = Hook::new("filter", number, PRIORITY_REFUSE);
            let refusal = [spared(), layout.to_refusal(true)].concat();
            table.chain(&format!("refuse-{name}"), Some(refuse), refusal);
            let translate = Hook::new("nat", number, PRIORITY_TRANSLATE);
            let translation = [spared(), layout.to_pickers(true)].concat();
            table.chain(name, Some(translate), translation);
        }
        let hook = Hook::new("filter", Hook::PREROUTING, PRIORITY_RAW);
        table.chain("guard", Some(hook), guard(layout, surroundings));
        let hook = Hook::new("filter", Hook::FORWARD, PRIORITY_FILTER);
        table.chain("forward", Some(hook), forward(surroundings));
        let hook = Hook::new("filter", Hook::POSTROUTING, PRIORITY_MANGLE);
        table.chain("clamp", Some(hook), vec![clamp()]);
        let hook = Hook::new("nat", Hook::POSTROUTING, PRIORITY_SOURCE);
        table.chain("postrouting", Some(hook), masquerade(layout, surroundings));
    }
    base
}

/// What the node sends to ::1 stays as it is, so that it is refused at once, or answered by a
/// program of the node: the kernel takes no answer to ::1 from elsewhere (RFC 4291, 2.5.3), and
/// IPv6 has no `route_localnet`.
fn spared(layout: Layout, hook: u32) -> Vec<Expressions> {
    if layout.family != Family::V6 || hook != Hook::OUTPUT {
        return vec![];
    }
    let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
    let rule = layout.load_destination(Expressions::default(), Register(0));
    vec![rule.equals(Register(0), &loopback).verdict(Verdict::Accept)]
}

fn coming_by(name: &str) -> Expressions {
    Expressions::default().interface(Register(0), Meta::InputName, Compare::Equal, name)
}

fn going_by(rule: Expressions, how: Compare, name: &str) -> Expressions {
    rule.interface(Register(0), Meta::OutputName, how, name)
}

/// Into the bridge from elsewhere. Where the kernel filters what it only bridges too, that comes
/// and goes by the same bridge.
fn into(name: &str) -> Expressions {
    going_by(Expressions::default(), Compare::Equal, name).interface(
        Register(0),
        Meta::InputName,
        Compare::Different,
        name,
    )
}

/// With `route_localnet`, what comes in for 127.0.0.1 would be let in: nobody but the node itself
/// calls that. (Answers still carry the node's address here; it is translated back later.)
fn guard(layout: Layout, surroundings: &Surroundings) -> Vec<Expressions> {
    if layout.family != Family::V4 {
        return vec![];
    }
    surroundings
        .translated_bridges()
        .map(|name| {
            layout
                .load_destination(coming_by(name), Register(0))
                .bits(Register(0), &[255, 0, 0, 0], &[0; 4])
                .equals(Register(0), &[127, 0, 0, 0])
                .verdict(Verdict::Drop)
        })
        .collect()
}

/// Nobody reaches containers unasked: only what was translated for them, and answers.
fn forward(surroundings: &Surroundings) -> Vec<Expressions> {
    let mut rules = vec![];
    for name in &surroundings.internal {
        let out_of = going_by(coming_by(name), Compare::Different, name);
        rules.push(out_of.verdict(Verdict::Drop));
        rules.push(into(name).verdict(Verdict::Drop));
    }
    rules.push(
        Expressions::default()
            .connection(Register(0), Connection::State)
            .any_bit(Register(0), STATE_ESTABLISHED | STATE_RELATED)
            .verdict(Verdict::Accept),
    );
    rules.push(is_translated(Expressions::default(), Register(0)).verdict(Verdict::Accept));
    for Outbound {
        bridge, isolated, ..
    } in &surroundings.outbound
    {
        if *isolated {
            let within = going_by(coming_by(bridge), Compare::Equal, bridge);
            rules.push(within.verdict(Verdict::Drop));
        }
        rules.push(into(bridge).verdict(Verdict::Drop));
    }
    if let Some(ingress) = &surroundings.ingress {
        rules.push(into(ingress).verdict(Verdict::Drop));
    }
    rules
}

/// Handshakes of translated connections ask for segments that fit both ways, so that nothing
/// depends on ICMP reaching the client.
fn clamp() -> Expressions {
    clamp_handshake(is_translated(Expressions::default(), Register(0)))
}

fn masquerade(layout: Layout, surroundings: &Surroundings) -> Vec<Expressions> {
    let mut rules = vec![];
    let translated = is_translated(Expressions::default(), Register(0));
    if layout.family == Family::V4 {
        // The node calling itself at 127.0.0.1: no answer could find back.
        let loopback = Subnet {
            address: [127, 0, 0, 0].into(),
            prefix_bits: 8,
        };
        let rule = coming_from(layout, translated.clone(), loopback);
        rules.push(going_by(rule, Compare::Different, "lo").masquerade());
    }
    if let (true, Some(ingress)) = (surroundings.hides_clients, &surroundings.ingress) {
        rules.push(going_by(translated.clone(), Compare::Equal, ingress).masquerade());
    }
    for outbound in &surroundings.outbound {
        let bridge = &outbound.bridge;
        for subnet in &outbound.subnets {
            if family_of(subnet.address) != layout.family {
                continue;
            }
            // A container that calls a port of its neighbour, or its own, at the node: the answer
            // must come back here instead of going straight to it.
            let hairpin = coming_from(layout, translated.clone(), *subnet);
            rules.push(going_by(hairpin, Compare::Equal, bridge).masquerade());
            let out = coming_from(layout, Expressions::default(), *subnet);
            rules.push(going_by(out, Compare::Different, bridge).masquerade());
        }
    }
    rules
}

/// Ends the rule unless the source is in the subnet.
fn coming_from(layout: Layout, rule: Expressions, subnet: Subnet) -> Expressions {
    let (address, mask) = address_and_mask(subnet.address, subnet.prefix_bits);
    let none = vec![0; mask.len()];
    layout
        .load_source(rule, Register(0))
        .bits(Register(0), &mask, &none)
        .equals(Register(0), &address)
}
