//! Services as chains and map elements of one family's table.

use std::net::IpAddr;

use crate::expression::{
    Compare, Connection, Expressions, Header, Meta, Refusal, Register, STATE_NEW,
    STATUS_TRANSLATED, Verdict, address_bytes,
};
use crate::service::{Affinity, Backend, Frontend, Service};
use crate::slots::slots;
use crate::table::{
    Chain, Elements, Family, Format, Rule, Shape, Table, Value, ValueShape, print_as,
};

/// Map: virtual address → chain.
pub(crate) const ADDRESSES: &str = "addresses";
/// Map: address, protocol and port → chain.
pub(crate) const PORTS: &str = "ports";
/// Maps as [`ADDRESSES`] and [`PORTS`], of services without backends. They are looked up where
/// packets are filtered: an answer made while addresses are being translated gets lost.
pub(crate) const UNSERVED_ADDRESSES: &str = "unserved-addresses";
pub(crate) const UNSERVED_PORTS: &str = "unserved-ports";
/// Map: frontend and slot → backend.
pub(crate) const BACKENDS: &str = "backends";
/// Chain: refuses.
pub(crate) const REFUSE: &str = "refuse";

/// Any number will do, as long as it is the same on all nodes.
const HASH_SEED: u32 = 0x7377_726d;

/// The family of an address, as tables have it.
pub(crate) fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

/// Layout of a family's headers and addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) family: Family,
    pub(crate) address_length: u32,
    pub(crate) source_offset: u32,
    pub(crate) destination_offset: u32,
    print_as: u32,
    /// ICMP's (or ICMPv6's) port unreachable.
    port_unreachable: u8,
}

impl Layout {
    pub(crate) const V4: Self = Self {
        family: Family::V4,
        address_length: 4,
        source_offset: 12,
        destination_offset: 16,
        print_as: print_as::ADDRESS_V4,
        port_unreachable: 3,
    };
    pub(crate) const V6: Self = Self {
        family: Family::V6,
        address_length: 16,
        source_offset: 8,
        destination_offset: 24,
        print_as: print_as::ADDRESS_V6,
        port_unreachable: 4,
    };

    pub(crate) fn of(family: Family) -> Self {
        if family == Family::V6 {
            Self::V6
        } else {
            Self::V4
        }
    }

    fn address_registers(self) -> u32 {
        self.address_length / 4
    }

    /// `address . protocol . port` from register 0 on.
    fn ports_shape(self) -> Shape {
        let fields = [self.print_as, print_as::PROTOCOL, print_as::PORT];
        Shape {
            key: Format {
                print_as: print_as::joined(&fields),
                length: self.address_length + 8,
            },
            value: ValueShape::Verdict,
        }
    }

    fn addresses_shape(self) -> Shape {
        Shape {
            key: Format {
                print_as: self.print_as,
                length: self.address_length,
            },
            value: ValueShape::Verdict,
        }
    }

    fn backends_shape(self) -> Shape {
        let key = [
            self.print_as,
            print_as::PROTOCOL,
            print_as::PORT,
            print_as::MARK,
        ];
        Shape {
            key: Format {
                print_as: print_as::joined(&key),
                length: self.address_length + 12,
            },
            value: ValueShape::Bytes(Format {
                print_as: print_as::joined(&[self.print_as, print_as::PORT]),
                length: self.address_length + 4,
            }),
        }
    }

    /// Reads where the packet goes into the registers of a key, the address left out if `local`:
    /// then the key is that of a published port.
    fn load_key(self, any_address: bool) -> Expressions {
        let address = Register(0);
        let after = self.address_registers();
        let begin = Expressions::default();
        let with_address = if any_address {
            let zeros = [0; 16];
            let length = if self.family == Family::V6 { 16 } else { 4 };
            begin.constant(address, &zeros[..length])
        } else {
            self.load_destination(begin, address)
        };
        with_address.meta(Register(after), Meta::Protocol).payload(
            Register(after + 1),
            Header::Transport,
            2,
            2,
        )
    }

    pub(crate) fn load_destination(self, rule: Expressions, to: Register) -> Expressions {
        let length = self.address_length;
        rule.payload(to, Header::Network, self.destination_offset, length)
    }

    pub(crate) fn load_source(self, rule: Expressions, to: Register) -> Expressions {
        let length = self.address_length;
        rule.payload(to, Header::Network, self.source_offset, length)
    }

    /// Goes to the chain of the called port, if this map has one.
    pub(crate) fn to_port(self, map: &str) -> Expressions {
        self.load_key(false).lookup_verdict(map, Register(0))
    }

    /// Goes to the chain of the called address, if this map has one.
    pub(crate) fn to_address(self, map: &str) -> Expressions {
        self.load_destination(Expressions::default(), Register(0))
            .lookup_verdict(map, Register(0))
    }

    /// Goes to the chain of the published port, if it is called at this machine and the map has
    /// one.
    pub(crate) fn to_published(self, map: &str) -> Expressions {
        let lookup = self.load_key(true).lookup_verdict(map, Register(0));
        Expressions::default()
            .destination_is_local(Register(15))
            .then(lookup)
    }

    /// Maps without elements, and the chain that refuses.
    pub(crate) fn skeleton(self, table: &mut Table) {
        for map in [ADDRESSES, UNSERVED_ADDRESSES] {
            table.map(map, self.addresses_shape(), Elements::new());
        }
        for map in [PORTS, UNSERVED_PORTS] {
            table.map(map, self.ports_shape(), Elements::new());
        }
        table.map(BACKENDS, self.backends_shape(), Elements::new());
        let unreachable = Refusal::Unreachable(self.port_unreachable);
        let rules = vec![
            Expressions::default()
                .protocol_is(Register(0), 6)
                .refuse(Refusal::Reset),
            Expressions::default().refuse(unreachable),
        ];
        table.chain(REFUSE, None, rules);
    }
}

/// What one service adds to its family's table.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    pub(crate) family: Family,
    pub(crate) chain: String,
    pub(crate) rules: Chain,
    /// The one element that leads to the chain, and its map.
    pub(crate) entry: (&'static str, Vec<u8>),
    pub(crate) backends: Elements,
}

/// A service's chain, its entry and its backends.
pub(crate) fn compile(frontend: &Frontend, service: &Service, seed: u64) -> Compiled {
    let family = family_of(frontend.address);
    let key = key_of(frontend);
    let slots = slots(service, seed);
    let rules = if slots.is_empty() {
        refuse_rules(service)
    } else {
        forward_rules(frontend, service, slots.len())
    };
    let backends = slots
        .iter()
        .zip(0u32..)
        .map(|(backend, slot)| {
            let mut slot_key = key.clone();
            slot_key.extend_from_slice(&slot.to_ne_bytes());
            (slot_key, Value::Bytes(backend_bytes(frontend, backend)))
        })
        .collect();
    let entry = match (frontend.port.is_some(), slots.is_empty()) {
        (true, false) => (PORTS, key),
        (true, true) => (UNSERVED_PORTS, key),
        (false, false) => (ADDRESSES, address_bytes(frontend.address)),
        (false, true) => (UNSERVED_ADDRESSES, address_bytes(frontend.address)),
    };
    Compiled {
        family,
        chain: format!("to-{frontend}"),
        rules: Chain {
            hook: None,
            rules: rules.into_iter().map(Rule::from).collect(),
        },
        entry,
        backends,
    }
}

/// `address . protocol . port`, each field filled up to four bytes.
fn key_of(frontend: &Frontend) -> Vec<u8> {
    let mut key = address_bytes(frontend.address);
    let (protocol, port) = frontend
        .port
        .map_or((0, 0), |port| (port.protocol.number(), port.number));
    key.extend_from_slice(&[protocol, 0, 0, 0]);
    key.extend_from_slice(&port.to_be_bytes());
    key.extend_from_slice(&[0; 2]);
    key
}

fn backend_bytes(frontend: &Frontend, backend: &Backend) -> Vec<u8> {
    let called = frontend.port.map_or(0, |port| port.number);
    let mut bytes = address_bytes(backend.address);
    bytes.extend_from_slice(&backend.port.unwrap_or(called).to_be_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes
}

/// One rule for all, or one for each interface connections may come in by.
fn guarded(service: &Service, rule: &Expressions) -> Vec<Expressions> {
    if service.interfaces.is_empty() {
        return vec![rule.clone()];
    }
    let limited = |name: &String| {
        Expressions::default()
            .interface(Register(12), Meta::InputName, Compare::Equal, name)
            .then(rule.clone())
    };
    service.interfaces.iter().map(limited).collect()
}

fn refuse_rules(service: &Service) -> Vec<Expressions> {
    guarded(
        service,
        &Expressions::default().verdict(Verdict::Goto(REFUSE)),
    )
}

fn forward_rules(frontend: &Frontend, service: &Service, slots: usize) -> Vec<Expressions> {
    let layout = Layout::of(family_of(frontend.address));
    let modulus = u32::try_from(slots).expect("at most SLOTS_MAX slots");
    let (address, rest) = (Register(0), Register(layout.address_registers()));
    let slot = Register(rest.0 + 2);
    let source = Register(8);
    let key = key_of(frontend);
    let (address_part, rest_part) = key.split_at(address_bytes(frontend.address).len());
    let keyed = Expressions::default()
        .constant(address, address_part)
        .constant(rest, rest_part);
    let chosen = match service.affinity {
        Affinity::None => keyed.count_up(slot, modulus),
        Affinity::SourceAddress => layout.load_source(keyed, source).hash(
            source,
            layout.address_length,
            slot,
            modulus,
            HASH_SEED,
        ),
    };
    let port = frontend.port.map(|_| rest);
    let family = u32::from(layout.family.number());
    let rule = chosen
        .lookup_value(BACKENDS, address, address)
        .translate_destination(family, address, port);
    guarded(service, &rule)
}

/// Ends the rule unless the connection's destination was translated.
pub(crate) fn is_translated(rule: Expressions, scratch: Register) -> Expressions {
    rule.connection(scratch, Connection::Status)
        .any_bit(scratch, STATUS_TRANSLATED)
}

/// This rule, for packets that would begin a connection: what goes on is left alone.
pub(crate) fn is_new(rule: Expressions) -> Expressions {
    let scratch = Register(15);
    Expressions::default()
        .connection(scratch, Connection::State)
        .any_bit(scratch, STATE_NEW)
        .then(rule)
}

/// The network part of an address, and the mask that leaves it.
pub(crate) fn address_and_mask(address: IpAddr, prefix_bits: u8) -> (Vec<u8>, Vec<u8>) {
    let address = address_bytes(address);
    let mask: Vec<u8> = (0..address.len())
        .map(|index| {
            let bits = usize::from(prefix_bits).saturating_sub(index * 8).min(8);
            u8::try_from(0xff00_u16 >> bits & 0xff).expect("one byte")
        })
        .collect();
    let network = address.iter().zip(&mask).map(|(a, m)| a & m).collect();
    (network, mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_leave_the_network() {
        let (network, mask) = address_and_mask([172, 30, 200, 7].into(), 20);
        assert_eq!(
            (network, mask),
            (vec![172, 30, 192, 0], vec![255, 255, 240, 0])
        );
        let (network, mask) = address_and_mask([10, 1, 2, 3].into(), 0);
        assert_eq!((network, mask), (vec![0; 4], vec![0; 4]));
        assert_eq!(address_and_mask([10, 1, 2, 3].into(), 32).0, [10, 1, 2, 3]);
    }
}
