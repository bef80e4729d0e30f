//! What is in a packet, before it is sealed.
//!
//! Numbers are big-endian. An identity is the node's id (25 characters), its generation (8 bytes),
//! its address (family 4 or 6, address, port). A message is its number and what it carries.

use super::identity::Identity;
use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};
use std::net::{IpAddr, SocketAddr};
use types::id::ID_LEN;

/// Bytes of an identity at most.
pub const IDENTITY_BYTES_MAX: usize = ID_LEN + 8 + 1 + 16 + 2;

/// Bytes of a member at most.
const MEMBER_BYTES_MAX: usize = IDENTITY_BYTES_MAX + 2 + 1;

/// Why something is no packet, or does not fit in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends too early.
    #[error("the packet ends too early")]
    Short,
    /// A field has a value without meaning.
    #[error("{0} without meaning")]
    Meaningless(&'static str),
    /// There is no room left.
    #[error("the packet is full")]
    Full,
}

/// Writes and reads packets.
#[derive(Clone, Copy, Debug)]
pub struct Codec;

impl foca::Codec<Identity> for Codec {
    type Error = Error;

    fn encode_header(&mut self, header: &Header<Identity>, buf: impl BufMut) -> Result<(), Error> {
        let Header {
            src,
            src_incarnation,
            dst,
            message,
        } = header;
        let mut bytes = Vec::with_capacity(3 * IDENTITY_BYTES_MAX + 4);
        put_identity(src, &mut bytes);
        bytes.put_u16(*src_incarnation);
        put_identity(dst, &mut bytes);
        let (number, probe, identity) = match message {
            Message::Ping(probe) => (1, Some(*probe), None),
            Message::Ack(probe) => (2, Some(*probe), None),
            Message::PingReq {
                target,
                probe_number,
            } => (3, Some(*probe_number), Some(target)),
            Message::IndirectPing {
                origin,
                probe_number,
            } => (4, Some(*probe_number), Some(origin)),
            Message::IndirectAck {
                target,
                probe_number,
            } => (5, Some(*probe_number), Some(target)),
            Message::ForwardedAck {
                origin,
                probe_number,
            } => (6, Some(*probe_number), Some(origin)),
            Message::Announce => (7, None, None),
            Message::Feed => (8, None, None),
            Message::Gossip => (9, None, None),
            Message::Broadcast => (10, None, None),
            Message::TurnUndead => (11, None, None),
        };
        bytes.put_u8(number);
        bytes.extend(probe);
        if let Some(identity) = identity {
            put_identity(identity, &mut bytes);
        }
        put(&bytes, buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, Error> {
        let src = take_identity(&mut buf)?;
        let src_incarnation = buf.try_get_u16().map_err(|_| Error::Short)?;
        let dst = take_identity(&mut buf)?;
        let number = byte(&mut buf)?;
        let message = match number {
            1 => Message::Ping(byte(&mut buf)?),
            2 => Message::Ack(byte(&mut buf)?),
            3..=6 => {
                let probe_number = byte(&mut buf)?;
                let identity = take_identity(&mut buf)?;
                match number {
                    3 => Message::PingReq {
                        target: identity,
                        probe_number,
                    },
                    4 => Message::IndirectPing {
                        origin: identity,
                        probe_number,
                    },
                    5 => Message::IndirectAck {
                        target: identity,
                        probe_number,
                    },
                    _ => Message::ForwardedAck {
                        origin: identity,
                        probe_number,
                    },
                }
            }
            7 => Message::Announce,
            8 => Message::Feed,
            9 => Message::Gossip,
            10 => Message::Broadcast,
            11 => Message::TurnUndead,
            _ => return Err(Error::Meaningless("message")),
        };
        Ok(Header {
            src,
            src_incarnation,
            dst,
            message,
        })
    }

    fn encode_member(&mut self, member: &Member<Identity>, buf: impl BufMut) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(MEMBER_BYTES_MAX);
        put_identity(member.id(), &mut bytes);
        bytes.put_u16(member.incarnation());
        bytes.put_u8(match member.state() {
            State::Alive => 1,
            State::Suspect => 2,
            State::Down => 3,
        });
        put(&bytes, buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Identity>, Error> {
        let identity = take_identity(&mut buf)?;
        let incarnation = buf.try_get_u16().map_err(|_| Error::Short)?;
        let state = match byte(&mut buf)? {
            1 => State::Alive,
            2 => State::Suspect,
            3 => State::Down,
            _ => return Err(Error::Meaningless("state")),
        };
        Ok(Member::new(identity, incarnation, state))
    }
}

/// All or nothing, as the trait asks.
fn put(bytes: &[u8], mut buf: impl BufMut) -> Result<(), Error> {
    if buf.remaining_mut() < bytes.len() {
        return Err(Error::Full);
    }
    buf.put_slice(bytes);
    Ok(())
}

fn put_identity(identity: &Identity, bytes: &mut Vec<u8>) {
    bytes.put_slice(identity.node.as_str().as_bytes());
    bytes.put_u64(identity.generation);
    match identity.address.ip() {
        IpAddr::V4(address) => {
            bytes.put_u8(4);
            bytes.put_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            bytes.put_u8(6);
            bytes.put_slice(&address.octets());
        }
    }
    bytes.put_u16(identity.address.port());
}

fn take_identity(buf: &mut impl Buf) -> Result<Identity, Error> {
    let mut id = [0; ID_LEN];
    buf.try_copy_to_slice(&mut id).map_err(|_| Error::Short)?;
    let node = std::str::from_utf8(&id).ok().and_then(|id| id.parse().ok());
    let node = node.ok_or(Error::Meaningless("node id"))?;
    let generation = buf.try_get_u64().map_err(|_| Error::Short)?;
    let address: IpAddr = match byte(buf)? {
        4 => octets::<4>(buf)?.into(),
        6 => octets::<16>(buf)?.into(),
        _ => return Err(Error::Meaningless("address family")),
    };
    let port = buf.try_get_u16().map_err(|_| Error::Short)?;
    Ok(Identity::new(
        node,
        generation,
        SocketAddr::new(address, port),
    ))
}

fn octets<const N: usize>(buf: &mut impl Buf) -> Result<[u8; N], Error> {
    let mut octets = [0; N];
    buf.try_copy_to_slice(&mut octets)
        .map_err(|_| Error::Short)?;
    Ok(octets)
}

fn byte(buf: &mut impl Buf) -> Result<u8, Error> {
    buf.try_get_u8().map_err(|_| Error::Short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::Codec as _;
    use proptest::prelude::*;
    use types::NodeId;

    fn identity() -> impl Strategy<Value = Identity> {
        (any::<u128>(), any::<u64>(), any::<SocketAddr>()).prop_map(
            |(node, generation, address)| {
                // Neither flow nor scope mean anything to others.
                let address = SocketAddr::new(address.ip(), address.port());
                Identity::new(NodeId::from_number(node), generation, address)
            },
        )
    }

    fn message() -> impl Strategy<Value = Message<Identity>> {
        (0..11_u8, any::<u8>(), identity()).prop_map(|(kind, probe_number, identity)| match kind {
            0 => Message::Ping(probe_number),
            1 => Message::Ack(probe_number),
            2 => Message::PingReq {
                target: identity,
                probe_number,
            },
            3 => Message::IndirectPing {
                origin: identity,
                probe_number,
            },
            4 => Message::IndirectAck {
                target: identity,
                probe_number,
            },
            5 => Message::ForwardedAck {
                origin: identity,
                probe_number,
            },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Broadcast,
            _ => Message::TurnUndead,
        })
    }

    proptest! {
        #[test]
        fn headers_are_read_as_they_are_written(
            src in identity(), dst in identity(), incarnation: u16, message in message(), tail: u8
        ) {
            let header = Header { src, src_incarnation: incarnation, dst, message };
            let mut bytes = Vec::new();
            Codec.encode_header(&header, &mut bytes).unwrap();
            prop_assert!(Codec.decode_header(&bytes[..bytes.len() - 1]).is_err());
            bytes.push(tail);
            let mut rest = &bytes[..];
            prop_assert_eq!(Codec.decode_header(&mut rest).unwrap(), header);
            prop_assert_eq!(rest, [tail]);
        }

        #[test]
        fn members_are_read_as_they_are_written(id in identity(), incarnation: u16, state in 0..3) {
            let state = [State::Alive, State::Suspect, State::Down][state as usize];
            let member = Member::new(id, incarnation, state);
            let mut bytes = Vec::new();
            Codec.encode_member(&member, &mut bytes).unwrap();
            prop_assert_eq!(Codec.decode_member(&bytes[..]).unwrap(), member.clone());
            let mut little = [0; 20];
            prop_assert_eq!(Codec.encode_member(&member, &mut little[..]), Err(Error::Full));
            prop_assert_eq!(little, [0; 20]);
        }

        #[test]
        fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Codec.decode_header(&bytes[..]);
            let _ = Codec.decode_member(&bytes[..]);
        }
    }
}
