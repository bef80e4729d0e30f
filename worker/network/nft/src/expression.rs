//! What a rule is made of: the expressions of the kernel's little machine, with their numbers.
//!
//! Numbers are those of linux/netfilter/nf_tables.h. Registers are the sixteen of four bytes each.

use std::net::IpAddr;

use crate::attribute::Attributes;

/// A four-byte register, 0 to 15; wider values take the following ones too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    fn number(self) -> u32 {
        // NFT_REG32_00
        8 + self.0
    }
}

/// Which header an offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// What `meta` reads or sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meta {
    Mark = 3,
    InputName = 6,
    OutputName = 7,
    Family = 15,
    Protocol = 16,
}

/// What `ct` reads or sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    State = 0,
    Direction = 1,
    Status = 2,
    Mark = 3,
    Zone = 17,
}

/// Bits of [`Connection::State`].
pub(crate) const STATE_ESTABLISHED: u32 = 2;
pub(crate) const STATE_RELATED: u32 = 4;
pub(crate) const STATE_NEW: u32 = 8;

/// Bit of [`Connection::Status`]: the destination was translated.
pub(crate) const STATUS_TRANSLATED: u32 = 1 << 5;

/// Where a packet goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    Drop,
    Accept,
    Goto(&'a str),
}

/// How a refused packet is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Reset,
    /// An ICMP (or ICMPv6) unreachable with this code.
    Unreachable(u8),
}

/// Operator of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal = 0,
    Different = 1,
}

/// The expressions of one rule, written in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expressions {
    bytes: Vec<u8>,
    count: u32,
}

impl Expressions {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// These expressions, then those.
    pub(crate) fn then(mut self, following: Self) -> Self {
        self.bytes.extend_from_slice(&following.bytes);
        self.count += following.count;
        self
    }

    fn push(mut self, name: &str, write: impl FnOnce(&mut Attributes<'_>)) -> Self {
        Attributes(&mut self.bytes).nest(1, |element| {
            element.string(1, name).nest(2, write);
        });
        self.count += 1;
        self
    }

    /// Reads bytes of a header.
    pub(crate) fn payload(self, to: Register, header: Header, offset: u32, length: u32) -> Self {
        self.push("payload", |a| {
            a.number(1, to.number())
                .number(2, header as u32)
                .number(3, offset)
                .number(4, length);
        })
    }

    /// Overwrites bytes of the link header, which no checksum covers.
    pub(crate) fn set_link_payload(self, from: Register, offset: u32, length: u32) -> Self {
        self.push("payload", |a| {
            a.number(2, Header::Link as u32)
                .number(3, offset)
                .number(4, length)
                .number(5, from.number())
                .number(6, 0)
                .number(7, 0)
                .number(8, 0);
        })
    }

    pub(crate) fn meta(self, to: Register, what: Meta) -> Self {
        self.push("meta", |a| {
            a.number(1, to.number()).number(2, what as u32);
        })
    }

    pub(crate) fn set_meta(self, what: Meta, from: Register) -> Self {
        self.push("meta", |a| {
            a.number(2, what as u32).number(3, from.number());
        })
    }

    pub(crate) fn connection(self, to: Register, what: Connection) -> Self {
        self.push("ct", |a| {
            a.number(1, to.number()).number(2, what as u32);
        })
    }

    pub(crate) fn set_connection(self, what: Connection, from: Register) -> Self {
        self.push("ct", |a| {
            a.number(2, what as u32).number(4, from.number());
        })
    }

    /// Puts the packets of the original direction into the zone, so that equal connections that
    /// came different ways stay apart.
    pub(crate) fn set_original_zone(self, from: Register) -> Self {
        self.push("ct", |a| {
            a.number(2, Connection::Zone as u32)
                .bytes(3, &[0])
                .number(4, from.number());
        })
    }

    /// Ends the rule unless the register compares so with the value.
    pub(crate) fn compare(self, register: Register, how: Compare, value: &[u8]) -> Self {
        self.push("cmp", |a| {
            a.number(1, register.number())
                .number(2, how as u32)
                .nest(3, |data| {
                    data.bytes(1, value);
                });
        })
    }

    pub(crate) fn equals(self, register: Register, value: &[u8]) -> Self {
        self.compare(register, Compare::Equal, value)
    }

    /// `register = (register & mask) ^ flip`.
    pub(crate) fn bits(self, register: Register, mask: &[u8], flip: &[u8]) -> Self {
        let length = u32::try_from(mask.len()).expect("masks are short");
        self.push("bitwise", |a| {
            a.number(1, register.number())
                .number(2, register.number())
                .number(3, length)
                .nest(4, |data| {
                    data.bytes(1, mask);
                })
                .nest(5, |data| {
                    data.bytes(1, flip);
                });
        })
    }

    /// Ends the rule unless one of the bits is set. The number is the machine's own.
    pub(crate) fn any_bit(self, register: Register, bits: u32) -> Self {
        self.bits(register, &bits.to_ne_bytes(), &[0; 4]).compare(
            register,
            Compare::Different,
            &[0; 4],
        )
    }

    /// Four bytes of a packet become the machine's number, or the other way round.
    pub(crate) fn swap(self, register: Register, to_packet: bool) -> Self {
        self.push("byteorder", |a| {
            a.number(1, register.number())
                .number(2, register.number())
                .number(3, u32::from(to_packet))
                .number(4, 4)
                .number(5, 4);
        })
    }

    /// As [`Self::swap`], of two bytes of a packet.
    pub(crate) fn swap_short(self, register: Register) -> Self {
        self.push("byteorder", |a| {
            a.number(1, register.number())
                .number(2, register.number())
                .number(3, 0)
                .number(4, 2)
                .number(5, 2);
        })
    }

    /// A constant, at most sixteen bytes.
    pub(crate) fn constant(self, to: Register, value: &[u8]) -> Self {
        self.push("immediate", |a| {
            a.number(1, to.number()).nest(2, |data| {
                data.bytes(1, value);
            });
        })
    }

    pub(crate) fn verdict(self, verdict: Verdict<'_>) -> Self {
        self.push("immediate", |a| {
            a.number(1, 0).nest(2, |data| {
                data.nest(2, |inner| write_verdict(inner, verdict));
            });
        })
    }

    /// Goes on where the map's element for the key says, if it has one.
    pub(crate) fn lookup_verdict(self, map: &str, key: Register) -> Self {
        self.push("lookup", |a| {
            a.string(1, map).number(2, key.number()).number(3, 0);
        })
    }

    /// Reads the map's value for the key, or ends the rule.
    pub(crate) fn lookup_value(self, map: &str, key: Register, to: Register) -> Self {
        self.push("lookup", |a| {
            a.string(1, map)
                .number(2, key.number())
                .number(3, to.number());
        })
    }

    /// Ends the rule unless (or, inverted, if) the key is in the set.
    pub(crate) fn contains(self, set: &str, key: Register, inverted: bool) -> Self {
        self.push("lookup", |a| {
            a.string(1, set)
                .number(2, key.number())
                .number(5, u32::from(inverted));
        })
    }

    /// The next of `0..modulus`, counted by the rule itself.
    pub(crate) fn count_up(self, to: Register, modulus: u32) -> Self {
        self.push("numgen", |a| {
            a.number(1, to.number())
                .number(2, modulus)
                .number(3, 0)
                .number(4, 0);
        })
    }

    /// One of `0..modulus`, by chance.
    pub(crate) fn draw(self, to: Register, modulus: u32) -> Self {
        self.push("numgen", |a| {
            a.number(1, to.number())
                .number(2, modulus)
                .number(3, 1)
                .number(4, 0);
        })
    }

    /// One of `0..modulus`, always the same for the same bytes.
    pub(crate) fn hash(
        self,
        from: Register,
        length: u32,
        to: Register,
        modulus: u32,
        seed: u32,
    ) -> Self {
        self.push("hash", |a| {
            a.number(1, from.number())
                .number(2, to.number())
                .number(3, length)
                .number(4, modulus)
                .number(5, seed)
                .number(6, 0)
                .number(7, 0);
        })
    }

    /// Ends the rule unless the destination is an address of this machine.
    pub(crate) fn destination_is_local(self, scratch: Register) -> Self {
        const ADDRESS_TYPE: u32 = 3;
        const OF_DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        self.push("fib", |a| {
            a.number(1, scratch.number())
                .number(2, ADDRESS_TYPE)
                .number(3, OF_DESTINATION);
        })
        .equals(scratch, &LOCAL.to_ne_bytes())
    }

    /// Translates the destination to the address, and the port if given, in these registers.
    pub(crate) fn translate_destination(
        self,
        family: u32,
        address: Register,
        port: Option<Register>,
    ) -> Self {
        self.push("nat", |a| {
            a.number(1, 1).number(2, family).number(3, address.number());
            if let Some(port) = port {
                a.number(5, port.number()).number(7, 2);
            }
        })
    }

    /// Translates the source to the address the packet leaves by.
    pub(crate) fn masquerade(self) -> Self {
        self.push("masq", |_| {})
    }

    pub(crate) fn refuse(self, how: Refusal) -> Self {
        self.push("reject", |a| match how {
            Refusal::Reset => {
                a.number(1, 1);
            }
            Refusal::Unreachable(code) => {
                a.number(1, 0).bytes(2, &[code]);
            }
        })
    }

    /// Lowers the segment size a TCP handshake asks for to what the path can carry.
    pub(crate) fn clamp_segment_size(self, scratch: Register) -> Self {
        const PATH_SEGMENT_SIZE: u32 = 3;
        const TCP_OPTION: u32 = 1;
        const SEGMENT_SIZE_OPTION: u8 = 2;
        self.push("rt", |a| {
            a.number(1, scratch.number()).number(2, PATH_SEGMENT_SIZE);
        })
        .push("byteorder", |a| {
            a.number(1, scratch.number())
                .number(2, scratch.number())
                .number(3, 1)
                .number(4, 2)
                .number(5, 2);
        })
        .push("exthdr", |a| {
            a.number(7, scratch.number())
                .bytes(2, &[SEGMENT_SIZE_OPTION])
                .number(3, 2)
                .number(4, 2)
                .number(6, TCP_OPTION);
        })
    }

    /// Counts what came as far as this.
    pub(crate) fn counter(self) -> Self {
        self.push("counter", |_| {})
    }

    // What is said often.

    /// Ends the rule unless the packet is of this transport protocol.
    pub(crate) fn protocol_is(self, scratch: Register, protocol: u8) -> Self {
        self.meta(scratch, Meta::Protocol)
            .equals(scratch, &[protocol])
    }

    /// Ends the rule unless the interface is (or is not) of this name. Takes four registers.
    pub(crate) fn interface(
        self,
        scratch: Register,
        which: Meta,
        how: Compare,
        name: &str,
    ) -> Self {
        self.meta(scratch, which)
            .compare(scratch, how, &interface_name(name))
    }
}

/// An interface's name as the kernel compares it.
pub(crate) fn interface_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

/// An address as it stands in a packet.
pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Code and chain of a verdict, within its attribute.
pub(crate) fn write_verdict(attributes: &mut Attributes<'_>, verdict: Verdict<'_>) {
    let code: i32 = match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
        Verdict::Goto(_) => -4,
    };
    attributes.bytes(1, &code.to_be_bytes());
    if let Verdict::Goto(chain) = verdict {
        attributes.string(2, chain);
    }
}
