//! Chains that pick a backend, each for all services alike in how it is done.
//!
//! Each has a map of its services' backends, and reads from the packet which service it is picking
//! for. (One map for all would be dear: for each chain that looks into it the kernel looks at each
//! backend.) Taking turns needs a counter, which belongs to a rule: two services that shared one
//! and were called in turn would each get every second backend only. Hence services are strewn over
//! many chains, and where two come together the chain draws lots instead.

use std::fmt;

use crate::compile::Layout;
use crate::expression::{Expressions, Register};
use crate::service::{Affinity, Frontend, Service};
use crate::table::{Chain, Family, Value, fnv1a};

/// Chains that services with equally many slots are strewn over: of ten services, hardly ever do
/// two meet. The number is part of [`Picker::number`].
const STREWN_OVER: u64 = 256;

/// Any number will do, as long as it is the same on all nodes.
const HASH_SEED: u32 = 0x7377_726d;

/// What tells one picking chain from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Picker {
    called: Called,
    choice: Choice,
    slots: u32,
}

/// How a service is found by a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Called {
    Address,
    Port,
    Published,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Choice {
    /// There is only one.
    Single,
    /// In turn, in the chain of this number.
    Turns(u32),
    /// By the client's address.
    Sticky,
}

impl Picker {
    /// The chain for a service with this number of slots; none if it has none.
    pub(crate) fn of(frontend: &Frontend, service: &Service, slots: usize) -> Option<Self> {
        let called = match (frontend.port, frontend.address.is_unspecified()) {
            (None, _) => Called::Address,
            (Some(_), false) => Called::Port,
            (Some(_), true) => Called::Published,
        };
        let choice = match (slots, service.affinity) {
            (0, _) => return None,
            (1, _) => Choice::Single,
            (_, Affinity::SourceAddress) => Choice::Sticky,
            (_, Affinity::None) => {
                let number = fnv1a(frontend.to_string().as_bytes()) % STREWN_OVER;
                Choice::Turns(u32::try_from(number).expect("a small remainder"))
            }
        };
        let slots = u32::try_from(slots).expect("at most SLOTS_MAX slots");
        Some(Self {
            called,
            choice,
            slots,
        })
    }

    /// The number that stands for the chain where services are looked up.
    pub(crate) fn number(self) -> u32 {
        let (choice, number) = match self.choice {
            Choice::Single => (0, 0),
            Choice::Turns(number) => (1, number),
            Choice::Sticky => (2, 0),
        };
        let called: u32 = match self.called {
            Called::Address => 0,
            Called::Port => 1,
            Called::Published => 2,
        };
        // Slots are at most SLOTS_MAX, thirteen bits.
        called << 28 | choice << 24 | number << 16 | self.slots
    }

    /// That number as a map holds it.
    pub(crate) fn value(self) -> Value {
        Value::Bytes(self.number().to_ne_bytes().to_vec())
    }

    /// The chain's rule, for this number of services that share it.
    pub(crate) fn chain(self, family: Family, services: usize) -> Chain {
        let layout = Layout::of(family);
        let (address, rest) = (Register(0), Register(layout.address_registers()));
        let slot = Register(rest.0 + 2);
        let source = Register(8);
        let keyed = match self.called {
            Called::Address => layout
                .load_destination(Expressions::default(), address)
                .constant(rest, &[0; 8]),
            Called::Port => layout.load_key(false),
            Called::Published => layout.load_key(true),
        };
        let chosen = match self.choice {
            Choice::Single => keyed.constant(slot, &[0; 4]),
            Choice::Turns(_) if services > 1 => keyed.draw(slot, self.slots),
            Choice::Turns(_) => keyed.count_up(slot, self.slots),
            Choice::Sticky => {
                let length = layout.address_length;
                let keyed = layout.load_source(keyed, source);
                keyed.hash(source, length, slot, self.slots, HASH_SEED)
            }
        };
        let port = (self.called != Called::Address).then_some(rest);
        let rule = chosen
            .lookup_value(&self.to_string(), address, address)
            .translate_destination(u32::from(family.number()), address, port);
        Chain {
            hook: None,
            rules: vec![rule.into()],
        }
    }
}

impl fmt::Display for Picker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let called = match self.called {
            Called::Address => "address",
            Called::Port => "port",
            Called::Published => "published",
        };
        match self.choice {
            Choice::Single => write!(f, "single-{called}"),
            Choice::Turns(number) => write!(f, "turns-{called}-{}-{number}", self.slots),
            Choice::Sticky => write!(f, "sticky-{called}-{}", self.slots),
        }
    }
}
