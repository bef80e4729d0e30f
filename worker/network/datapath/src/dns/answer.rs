//! What a packet is answered.

use super::name;
use super::zone::{Found, Zone};
use datapath_client::SandboxView;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use rand::RngExt;
use rand::seq::SliceRandom;
use std::net::IpAddr;

/// How long an answer of virtual addresses may be kept, in seconds. They stay while their service
/// does, so this bounds how long a service made anew under the same name is missed. Docker says 600,
/// and its users meet names that lead nowhere.
pub const VIRTUAL_TTL: u32 = 5;

/// How long an answer of tasks' addresses may be kept, in seconds. Tasks are stopped some seconds
/// after they were withdrawn, and an answer costs a few microseconds.
pub const TASK_TTL: u32 = 1;

/// Bytes of an answer over UDP for someone who did not say how much he takes (RFC 1035).
const UDP_BYTES_DEFAULT: usize = 512;

/// Bytes of an answer over UDP at most. Nothing is fragmented within a sandbox.
pub const UDP_BYTES_MAX: usize = 4096;

/// Bytes of the header.
const HEADER_BYTES: usize = 12;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a packet: long answers are cut off and marked so.
    Udp,
    /// On a connection.
    Tcp,
}

/// What is to be done about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Send this.
    Reply(Vec<u8>),
    /// The name is not ours: another server is to be asked.
    Forward,
    /// It is no question.
    Ignore,
}

/// What the first question of a packet is answered, seen from a sandbox.
///
/// Addresses come in random order, so that clients that take the first spread over all.
pub fn answer(
    packet: &[u8],
    transport: Transport,
    view: &SandboxView,
    zone: &Zone,
    random: &mut impl RngExt,
) -> Outcome {
    let Ok(query) = Message::from_vec(packet) else {
        return malformed(packet);
    };
    if query.metadata.message_type != MessageType::Query {
        return Outcome::Ignore;
    }
    if query.metadata.op_code != OpCode::Query {
        return refuse(&query, ResponseCode::NotImp);
    }
    let [question] = &*query.queries else {
        return refuse(&query, ResponseCode::FormErr);
    };
    if query.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return refuse(&query, ResponseCode::BADVERS);
    }
    match records(question, view, zone, random) {
        Some(answers) => {
            let mut reply = response(&query, ResponseCode::NoError);
            reply.metadata.authoritative = true;
            reply.answers = answers;
            encode(reply, limit(&query, transport))
        }
        None if keeps_to_itself(question, view) => refuse(&query, ResponseCode::NXDomain),
        None => Outcome::Forward,
    }
}

/// The failure to answer a packet that [`answer`] wanted forwarded.
#[must_use]
pub fn failure(packet: &[u8]) -> Outcome {
    match Message::from_vec(packet) {
        Ok(query) => refuse(&query, ResponseCode::ServFail),
        Err(_) => malformed(packet),
    }
}

/// The answers to a question about one of our names; none when it has no records of that type.
fn records(
    question: &Query,
    view: &SandboxView,
    zone: &Zone,
    random: &mut impl RngExt,
) -> Option<Vec<Record>> {
    if question.query_class() != DNSClass::IN {
        return None;
    }
    let asked = question.name();
    let key = name::key(asked)?;
    if let Some(address) = name::reversed(&key) {
        let names = zone.find_address(&view.networks, address)?;
        if question.query_type() != RecordType::PTR {
            return Some(Vec::new());
        }
        let record = |text: String| {
            let data = RData::PTR(PTR(name::name(&text)?));
            Some(Record::from_rdata(asked.clone(), TASK_TTL, data))
        };
        return Some(names.into_iter().filter_map(record).collect());
    }
    let found = zone.find(&view.networks, &key)?;
    Some(address_records(asked, question.query_type(), found, random))
}

fn address_records(
    asked: &Name,
    record_type: RecordType,
    found: Found,
    random: &mut impl RngExt,
) -> Vec<Record> {
    let Found {
        mut addresses,
        is_virtual,
    } = found;
    addresses.retain(|address| match (record_type, address) {
        (RecordType::A, IpAddr::V4(_))
        | (RecordType::AAAA, IpAddr::V6(_))
        | (RecordType::ANY, _) => true,
        (_, _) => false,
    });
    addresses.shuffle(random);
    let ttl = if is_virtual { VIRTUAL_TTL } else { TASK_TTL };
    let record = |address| {
        let data = match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        Record::from_rdata(asked.clone(), ttl, data)
    };
    addresses.into_iter().map(record).collect()
}

/// Whether an unknown name is not to be asked elsewhere: its user wants the search list tried.
fn keeps_to_itself(question: &Query, view: &SandboxView) -> bool {
    view.forwarding.keeps_single_labels
        && question.name().num_labels() == 1
        && matches!(question.query_type(), RecordType::A | RecordType::AAAA)
}

fn response(query: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.queries.clone_from(&query.queries);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(u16::try_from(UDP_BYTES_MAX).unwrap_or(u16::MAX));
        edns.set_rcode_high(code.high());
        reply.set_edns(edns);
    }
    reply
}

fn refuse(query: &Message, code: ResponseCode) -> Outcome {
    // Questions that are refused may be many; none of them is repeated then.
    let mut reply = response(query, code);
    reply.queries.truncate(1);
    encode(reply, UDP_BYTES_DEFAULT)
}

/// A format error for what looks like a question.
fn malformed(packet: &[u8]) -> Outcome {
    let Some(header) = packet.first_chunk::<HEADER_BYTES>() else {
        return Outcome::Ignore;
    };
    let is_response = header[2] & 0x80 != 0;
    if is_response {
        return Outcome::Ignore;
    }
    let mut reply = [0; HEADER_BYTES];
    reply[..2].copy_from_slice(&header[..2]);
    // A response with the question's operation and its wish for recursion; format error.
    reply[2] = 0x80 | header[2] & 0x79;
    reply[3] = 0x80 | 1;
    Outcome::Reply(reply.to_vec())
}

fn limit(query: &Message, transport: Transport) -> usize {
    match (transport, &query.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => UDP_BYTES_DEFAULT,
        (Transport::Udp, Some(edns)) => {
            usize::from(edns.max_payload()).clamp(UDP_BYTES_DEFAULT, UDP_BYTES_MAX)
        }
    }
}

/// Encodes a reply. One that is too long loses answers and says so: who can asks again over TCP,
/// who cannot has some addresses to go on with.
fn encode(mut reply: Message, limit: usize) -> Outcome {
    loop {
        match reply.to_vec() {
            Ok(bytes) if bytes.len() <= limit => return Outcome::Reply(bytes),
            Ok(bytes) if !reply.answers.is_empty() => {
                // Records of one answer are about equally long.
                let count = reply.answers.len();
                let surplus = (bytes.len() - limit) * count / (bytes.len() - HEADER_BYTES);
                let fits = count.saturating_sub(surplus.max(1));
                reply.answers.truncate(fits);
                reply.metadata.truncation = true;
            }
            // Only a question that cannot be repeated is left.
            Ok(_) | Err(_) => return Outcome::Ignore,
        }
    }
}

#[cfg(test)]
mod tests;
