//! Nothing of an encrypted network leaves or enters in clear: its VXLAN packets pass only by tunnel.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use crate::error::{Error, Result};
use crate::expression::{Compare, Expressions, Header, Meta, Register, Verdict};
use crate::forwarder::{Applied, Difference, Forwarder};
use crate::service::{Services, check_interface};
use crate::table::{Elements, Family, Format, Hook, Ruleset, Shape, Value, ValueShape, print_as};

const TABLE: &str = "swarm-sealed";
const NETWORKS: &str = "networks";

/// Before everything else, as iptables' raw table.
const PRIORITY_RAW: i32 = -300;

/// VXLAN network identifiers have 24 bits.
const IDENTIFIER_END: u32 = 1 << 24;

/// What is sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sealed {
    /// VXLAN network identifiers of the encrypted networks.
    pub networks: BTreeSet<u32>,
    /// UDP port of VXLAN.
    pub port: u16,
    /// Interfaces by which such packets may pass, since what passes there is encrypted; none if
    /// encryption is not done by the kernel.
    pub tunnels: Vec<String>,
}

/// Drops, on one node, what an encrypted network would send or get in clear.
///
/// Set a network's seal before its links are made and break it after they are gone, and there is no
/// moment at which a packet could slip out.
#[derive(Debug)]
pub struct Seal {
    forwarder: Forwarder,
}

impl Seal {
    /// For the network namespace whose links carry VXLAN. Nothing changes there yet, and what an
    /// earlier process sealed stays so.
    pub fn open(namespace: BorrowedFd<'_>) -> Result<Self> {
        let forwarder = Forwarder::open(Some(namespace), &[TABLE], TABLE, 0)?;
        Ok(Self { forwarder })
    }

    /// For the network namespace of the calling thread.
    pub fn open_here() -> Result<Self> {
        let forwarder = Forwarder::open(None, &[TABLE], TABLE, 0)?;
        Ok(Self { forwarder })
    }

    /// Makes this what is sealed, in one transaction.
    pub fn replace(&mut self, sealed: &Sealed) -> Result<Applied> {
        for name in &sealed.tunnels {
            check_interface(name)?;
        }
        if let Some(number) = sealed.networks.iter().find(|n| **n >= IDENTIFIER_END) {
            return Err(Error::Invalid {
                field: "VXLAN network identifier",
                value: number.to_string(),
                allowed: "below 16777216",
            });
        }
        self.forwarder.replace(rules(sealed), Services::new())
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

fn rules(sealed: &Sealed) -> Ruleset {
    let mut rules = Ruleset::default();
    let table = rules.table(Family::Inet, TABLE);
    let shape = Shape {
        key: Format {
            print_as: print_as::INTEGER,
            length: 3,
        },
        value: ValueShape::Nothing,
    };
    let elements: Elements = sealed
        .networks
        .iter()
        .map(|number| (number.to_be_bytes()[1..].to_vec(), Value::Nothing))
        .collect();
    table.map(NETWORKS, shape, elements);
    for (name, number, by) in [
        ("leaving", Hook::OUTPUT, Meta::OutputName),
        ("entering", Hook::PREROUTING, Meta::InputName),
    ] {
        let mut chain: Vec<Expressions> = sealed
            .tunnels
            .iter()
            .map(|tunnel| {
                Expressions::default()
                    .interface(Register(0), by, Compare::Equal, tunnel)
                    .verdict(Verdict::Accept)
            })
            .collect();
        chain.push(drop_sealed(sealed.port));
        let hook = Hook::new("filter", number, PRIORITY_RAW);
        table.chain(name, Some(hook), chain);
    }
    rules
}

/// Drops, and counts, VXLAN packets of sealed networks.
fn drop_sealed(port: u16) -> Expressions {
    const UDP: u8 = 17;
    const DESTINATION_PORT: u32 = 2;
    /// Eight bytes of UDP, four of VXLAN's flags.
    const IDENTIFIER: u32 = 12;
    Expressions::default()
        .protocol_is(Register(0), UDP)
        .payload(Register(0), Header::Transport, DESTINATION_PORT, 2)
        .equals(Register(0), &port.to_be_bytes())
        .payload(Register(0), Header::Transport, IDENTIFIER, 3)
        .contains(NETWORKS, Register(0), false)
        .counter()
        .verdict(Verdict::Drop)
}
