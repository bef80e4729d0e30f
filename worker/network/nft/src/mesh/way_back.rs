//! In a task's namespace: answers go to the node that was asked, known by its MAC address.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use super::{MARK, NODE_MAC_PREFIX, clamp_handshake};
use crate::balancer::PRIORITY_TRANSLATE;
use crate::compile::family_of;
use crate::error::Result;
use crate::expression::{Compare, Connection, Expressions, Header, Meta, Register, address_bytes};
use crate::forwarder::{Applied, Difference, Forwarder};
use crate::service::{Services, check_interface};
use crate::table::{Family, Hook, Ruleset};

/// The tables' name, in the families `inet` and `netdev`.
const TABLE: &str = "swarm-way-back";

const ETHERNET_DESTINATION: u32 = 0;
const ETHERNET_SOURCE: u32 = 6;

/// Before connections are looked up, as iptables' raw table.
const PRIORITY_RAW: i32 = -300;
/// Where iptables mangles.
const PRIORITY_MANGLE: i32 = -150;

/// The rules that lead answers of mesh connections back, in one task's namespace.
///
/// Needs the kernel's egress hook (5.16); [`Self::install`] fails without it, and the node has to
/// translate sources instead: see [`super::Surroundings::hides_clients`].
#[derive(Debug)]
pub struct WayBack {
    forwarder: Forwarder,
}

impl WayBack {
    /// For this network namespace; nothing changes there yet.
    pub fn open(namespace: BorrowedFd<'_>) -> Result<Self> {
        let forwarder = Forwarder::open(Some(namespace), &[TABLE], TABLE, 0)?;
        Ok(Self { forwarder })
    }

    /// Sets the rules up for the interface on the ingress network.
    ///
    /// `sends_from` are the addresses, at most one of each family, the namespace would send to a
    /// client from if it were not told otherwise: those of the interface its default route goes
    /// out by. A server of UDP that listens on all addresses answers from there, and such answers
    /// would not be known as such; so it is called there.
    pub fn install(&mut self, interface: &str, sends_from: &[IpAddr]) -> Result<Applied> {
        check_interface(interface)?;
        self.forwarder
            .replace(rules(interface, sends_from), Services::new())
    }

    /// How the kernel differs from what was last put there.
    pub fn verify(&mut self) -> Result<Difference> {
        self.forwarder.verify()
    }

    /// Makes the kernel hold again what was last put there; says what differed.
    pub fn repair(&mut self) -> Result<Difference> {
        self.forwarder.repair()
    }

    /// Takes everything away.
    pub fn clear(&mut self) -> Result<Applied> {
        self.forwarder.clear()
    }
}

fn rules(interface: &str, sends_from: &[IpAddr]) -> Ruleset {
    let mut rules = Ruleset::default();
    let inet = rules.table(Family::Inet, TABLE);
    let hook = |kind, number, priority| Some(Hook::new(kind, number, priority));
    // Two clients behind one address and port, that asked two nodes, are two connections here. The
    // answers would tell them apart no more: where they would not, the kernel changes the second
    // one's port, as it does in every namespace in which anything is translated.
    let zone = from_node(interface)
        .payload(Register(0), Header::Link, ETHERNET_SOURCE + 4, 2)
        .swap_short(Register(0))
        .set_original_zone(Register(0));
    let raw = hook("filter", Hook::PREROUTING, PRIORITY_RAW);
    inet.chain("apart", raw, vec![zone]);

    // Each packet, not only the first: a client of UDP may go on through another node.
    let remember = from_node(interface)
        .connection(Register(0), Connection::Direction)
        .equals(Register(0), &[0])
        .payload(Register(0), Header::Link, ETHERNET_SOURCE + 2, 4)
        .swap(Register(0), false)
        .bits(Register(0), &(!MARK).to_ne_bytes(), &MARK.to_ne_bytes())
        .set_connection(Connection::Mark, Register(0));
    let mangle = hook("filter", Hook::PREROUTING, PRIORITY_MANGLE);
    inet.chain("remember", mangle, vec![remember]);

    let call_there = sends_from
        .iter()
        .map(|address| call_udp_at(interface, *address))
        .collect();
    let translate = hook("nat", Hook::PREROUTING, PRIORITY_TRANSLATE);
    inet.chain("call", translate, call_there);

    let lead = Expressions::default()
        .connection(Register(0), Connection::Mark)
        .any_bit(Register(0), MARK)
        .connection(Register(0), Connection::Mark)
        .set_meta(Meta::Mark, Register(0));
    let route = hook("route", Hook::OUTPUT, PRIORITY_MANGLE);
    inet.chain("lead", route, vec![lead]);

    // A handshake is answered by another route than packets then take: see above. What it allows
    // is what fits that one, which may be wider than the way between nodes.
    let fit = Expressions::default()
        .connection(Register(0), Connection::Mark)
        .any_bit(Register(0), MARK);
    let mangle = hook("filter", Hook::POSTROUTING, PRIORITY_MANGLE);
    inet.chain("fit", mangle, vec![clamp_handshake(fit)]);

    let device = Hook {
        device: Some(interface.to_owned()),
        ..Hook::new("filter", Hook::EGRESS, 0)
    };
    let address = Expressions::default()
        .meta(Register(0), Meta::Mark)
        .any_bit(Register(0), MARK)
        .meta(Register(0), Meta::Mark)
        .bits(Register(0), &(!MARK).to_ne_bytes(), &[0; 4])
        .swap(Register(0), true)
        .set_link_payload(Register(0), ETHERNET_DESTINATION + 2, 4)
        .constant(Register(0), &NODE_MAC_PREFIX)
        .set_link_payload(Register(0), ETHERNET_DESTINATION, 2);
    let netdev = rules.table(Family::Netdev, TABLE);
    netdev.chain("address", Some(device), vec![address]);
    rules
}

/// Ends the rule unless the packet came from a node over the ingress network.
fn from_node(interface: &str) -> Expressions {
    Expressions::default()
        .interface(Register(0), Meta::InputName, Compare::Equal, interface)
        .payload(Register(0), Header::Link, ETHERNET_SOURCE, 2)
        .equals(Register(0), &NODE_MAC_PREFIX)
}

/// Translates what is sent to the namespace by UDP over the mesh to this address of it.
fn call_udp_at(interface: &str, address: IpAddr) -> Expressions {
    const UDP: u8 = 17;
    let family = family_of(address).number();
    from_node(interface)
        .meta(Register(0), Meta::Family)
        .equals(Register(0), &[family])
        .protocol_is(Register(0), UDP)
        .constant(Register(0), &address_bytes(address))
        .translate_destination(u32::from(family), Register(0), None)
}
