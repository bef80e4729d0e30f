//! Services as chains and map elements of one family's table.

use std::net::IpAddr;

use crate::expression::{
    Compare, Connection, Expressions, Header, Meta, Refusal, Register, STATE_NEW,
    STATUS_TRANSLATED, Verdict, address_bytes,
};
use crate::picker::Picker;
use crate::service::{Backend, Frontend, Service};
use crate::slots::slots;
use crate::table::{Chain, Elements, Family, Format, Shape, Table, Value, ValueShape, print_as};

/// Map: virtual address → the number of the chain that picks a backend.
pub(crate) const ADDRESSES: &str = "addresses";
/// Map: address, protocol and port → the number of the chain that picks a backend.
pub(crate) const PORTS: &str = "ports";
/// Map: number → chain. Were the chains themselves in the maps before, the kernel would walk
/// through all of them, down to each chain, whenever one changes.
pub(crate) const PICKERS: &str = "pickers";
/// Map: address, protocol and port → chain, of those limited to interfaces.
pub(crate) const LIMITED: &str = "limited-ports";
/// Maps: virtual address, or address, protocol and port → chain that refuses, of services without
/// backends. They are looked up where packets are filtered: an answer made while addresses are
/// being translated gets lost.
pub(crate) const UNSERVED_ADDRESSES: &str = "unserved-addresses";
/// See [`UNSERVED_ADDRESSES`].
pub(crate) const UNSERVED_PORTS: &str = "unserved-ports";
/// Chain: refuses.
pub(crate) const REFUSE: &str = "refuse";

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

    pub(crate) fn address_registers(self) -> u32 {
        self.address_length / 4
    }

    /// `address . protocol . port` from register 0 on.
    fn ports_shape(self, value: ValueShape) -> Shape {
        let fields = [self.print_as, print_as::PROTOCOL, print_as::PORT];
        let key = Format {
            print_as: print_as::joined(&fields),
            length: self.address_length + 8,
        };
        Shape { key, value }
    }

    fn addresses_shape(self, value: ValueShape) -> Shape {
        let key = Format {
            print_as: self.print_as,
            length: self.address_length,
        };
        Shape { key, value }
    }

    /// Of a picking chain's map: frontend and slot → backend.
    pub(crate) fn backends_shape(self) -> Shape {
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
    pub(crate) fn load_key(self, any_address: bool) -> Expressions {
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

    /// Ends the rule unless the packet is for this machine, then reads the key of a published port.
    fn load_published(self) -> Expressions {
        Expressions::default()
            .destination_is_local(Register(15))
            .then(self.load_key(true))
    }

    /// The rules that lead to whom is called, by their numbers: ports, addresses, and on a node
    /// published ports.
    pub(crate) fn to_pickers(self, is_node: bool) -> Vec<Expressions> {
        let pick = |key: Expressions, map| {
            key.lookup_value(map, Register(0), Register(0))
                .lookup_verdict(PICKERS, Register(0))
        };
        let port = pick(self.load_key(false), PORTS);
        if is_node {
            let limited = |key: Expressions| key.lookup_verdict(LIMITED, Register(0));
            return vec![
                limited(self.load_key(false)),
                limited(self.load_published()),
                port,
                pick(self.load_published(), PORTS),
            ];
        }
        let address = self.load_destination(Expressions::default(), Register(0));
        vec![port, pick(address, ADDRESSES)]
    }

    /// The rules that refuse what would begin a connection to whom nobody serves.
    pub(crate) fn to_refusal(self, is_node: bool) -> Vec<Expressions> {
        let port = self
            .load_key(false)
            .lookup_verdict(UNSERVED_PORTS, Register(0));
        let other = if is_node {
            self.load_published()
                .lookup_verdict(UNSERVED_PORTS, Register(0))
        } else {
            self.load_destination(Expressions::default(), Register(0))
                .lookup_verdict(UNSERVED_ADDRESSES, Register(0))
        };
        vec![is_new(port), is_new(other)]
    }

    /// Maps without elements, and the chain that refuses.
    pub(crate) fn skeleton(self, table: &mut Table) {
        let number = Format {
            print_as: print_as::MARK,
            length: 4,
        };
        let numbers = ValueShape::Bytes(number);
        let chains = ValueShape::Verdict;
        for (map, shape) in [
            (ADDRESSES, self.addresses_shape(numbers)),
            (PORTS, self.ports_shape(numbers)),
            (UNSERVED_ADDRESSES, self.addresses_shape(chains)),
            (UNSERVED_PORTS, self.ports_shape(chains)),
            (LIMITED, self.ports_shape(chains)),
        ] {
            table.map(map, shape, Elements::new());
        }
        let pickers = Shape {
            key: number,
            value: chains,
        };
        table.map(PICKERS, pickers, Elements::new());
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
    /// The chain that picks a backend, shared with services like it; none if it is refused.
    pub(crate) picker: Option<Picker>,
    /// A chain of its own before that, if only some interfaces may come in.
    pub(crate) guard: Option<(String, Chain)>,
    /// The one element that leads to the chain: its map, key, and value.
    pub(crate) entry: (&'static str, Vec<u8>, Value),
    pub(crate) backends: Elements,
}

impl Compiled {
    /// The picking chain it has a share in.
    pub(crate) fn shares(&self) -> Option<(Family, Picker)> {
        self.picker.map(|picker| (self.family, picker))
    }
}

/// A service's entry and its backends, and which chain picks among them.
pub(crate) fn compile(frontend: &Frontend, service: &Service, seed: u64) -> Compiled {
    let family = family_of(frontend.address);
    let key = key_of(frontend);
    let slots = slots(service, seed);
    let picker = Picker::of(frontend, service, slots.len());
    let guard = (!service.interfaces.is_empty()).then(|| {
        let target = picker.map_or_else(|| REFUSE.to_owned(), |picker| picker.to_string());
        let rules = guarded(&service.interfaces, &target);
        (format!("only-{frontend}"), rules)
    });
    let backends = slots
        .iter()
        .zip(0u32..)
        .map(|(backend, slot)| {
            let mut slot_key = key.clone();
            slot_key.extend_from_slice(&slot.to_ne_bytes());
            (slot_key, Value::Bytes(backend_bytes(frontend, backend)))
        })
        .collect();
    let goto = |chain: &str| Value::Goto(chain.to_owned());
    let has_port = frontend.port.is_some();
    let map_key = if has_port {
        key
    } else {
        address_bytes(frontend.address)
    };
    let guard_name = guard.as_ref().map(|(name, _)| name.as_str());
    let (map, value) = match (picker, guard_name, has_port) {
        (Some(_), Some(chain), _) => (LIMITED, goto(chain)),
        (Some(picker), None, true) => (PORTS, picker.value()),
        (Some(picker), None, false) => (ADDRESSES, picker.value()),
        (None, chain, true) => (UNSERVED_PORTS, goto(chain.unwrap_or(REFUSE))),
        (None, chain, false) => (UNSERVED_ADDRESSES, goto(chain.unwrap_or(REFUSE))),
    };
    let entry = (map, map_key, value);
    Compiled {
        family,
        picker,
        guard,
        entry,
        backends,
    }
}

/// One rule for each interface connections may come in by.
fn guarded(interfaces: &[String], target: &str) -> Chain {
    let rules = interfaces.iter().map(|name| {
        Expressions::default()
            .interface(Register(0), Meta::InputName, Compare::Equal, name)
            .verdict(Verdict::Goto(target))
            .into()
    });
    Chain {
        hook: None,
        rules: rules.collect(),
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
