//! Connections the kernel follows: finding and forgetting those whose backend is no more.

use std::net::IpAddr;

use crate::attribute::Reader;
use crate::error::Result;
use crate::service::{Frontend, Service};
use crate::socket::Socket;
use crate::transaction::{Answer, Question, dump, request};

/// `NFNL_SUBSYS_CTNETLINK`
const CTNETLINK: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;

/// A connection as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) protocol: u8,
    /// Whom the client called, before translation.
    pub(crate) called: IpAddr,
    pub(crate) called_port: u16,
    /// Who answers.
    pub(crate) answers: IpAddr,
    /// Nothing has come back so far.
    pub(crate) is_unanswered: bool,
}

impl Flow {
    fn is_for(&self, frontend: &Frontend) -> bool {
        let address = frontend.address.is_ipv4() == self.called.is_ipv4()
            && (frontend.address.is_unspecified() || frontend.address == self.called);
        let port = frontend.port.is_none_or(|port| {
            port.protocol.number() == self.protocol && port.number == self.called_port
        });
        address && port
    }

    /// Whether a flow would stay where nobody serves it: its backend has gone from the service, or
    /// it began before the service was there and was never translated. A connection of TCP lives on
    /// with its backend; while it only knocks, it is better off with another one, which its next
    /// packet then finds. So is a later one from the same port.
    pub(crate) fn is_stale(
        &self,
        frontend: &Frontend,
        before: Option<&Service>,
        after: Option<&Service>,
    ) -> bool {
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        let had = before.is_some_and(|service| service.has(self.answers));
        let may_move = match self.protocol {
            UDP => true,
            TCP => self.is_unanswered && had,
            _ => false,
        };
        if !may_move || !self.is_for(frontend) {
            return false;
        }
        if after.is_some_and(|service| service.has(self.answers)) {
            return false;
        }
        // A virtual address is ours alone. Behind a published port there can also be flows of the
        // node that merely have its number: without need those are left in peace.
        let served_before = before.is_some_and(|service| !service.serving().is_empty());
        !frontend.address.is_unspecified() || had || (!served_before && after.is_some())
    }
}

/// Whether forgetting flows could be needed at all, so that connections are read only then.
pub(crate) fn may_go_stale(
    frontend: &Frontend,
    before: Option<&Service>,
    after: Option<&Service>,
) -> bool {
    if !frontend.carries_udp() {
        return false;
    }
    let Some(before) = before else {
        return after.is_some();
    };
    let is_gone = |address| !after.is_some_and(|service| service.has(address));
    let began_to_serve = before.serving().is_empty() && after.is_some();
    began_to_serve || before.backends.iter().any(|b| is_gone(b.address))
}

fn question(what: &'static str, message: u16, family: u8) -> Question {
    Question {
        what,
        kind: (CTNETLINK << 8) | message,
        family,
    }
}

/// How many connections the namespace has, if the kernel says so. To read them it walks through
/// those of all namespaces, which takes some milliseconds: not for none.
fn count(socket: &mut Socket) -> Option<u32> {
    const GET_STATISTICS: u16 = 5;
    const ENTRIES: u16 = 1;
    let mut count = None;
    let question = question("counting connections", GET_STATISTICS, 0);
    let keep = |answer: Answer<'_>| count = Reader(answer.body).number(ENTRIES);
    request(socket, question, |_| {}, keep).ok()?;
    count
}

/// Forgets the flows for which `stale` says so; returns how many.
pub(crate) fn forget(socket: &mut Socket, stale: impl Fn(&Flow) -> bool) -> Result<usize> {
    let mut found = Vec::new();
    if count(socket) == Some(0) {
        return Ok(0);
    }
    dump(
        socket,
        question("reading connections", GET, 0),
        |_| {},
        |answer| {
            let Some(answer) = answer else {
                found.clear();
                return Ok(());
            };
            let reader = Reader(answer.body);
            if let Some(flow) = flow_in(reader)
                && stale(&flow)
            {
                found.push((flow, Entry::of(reader)));
            }
            Ok(())
        },
    )?;
    let mut forgotten = 0;
    for (flow, entry) in found {
        let family = if flow.called.is_ipv4() { 2 } else { 10 };
        let question = question("forgetting a connection", DELETE, family);
        match request(socket, question, |a| entry.write(a), |_| {}) {
            Ok(()) => forgotten += 1,
            // It ended by itself meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(forgotten)
}

/// What names an entry to the kernel, copied from its own words.
struct Entry(Vec<(u16, Vec<u8>)>);

impl Entry {
    /// `CTA_TUPLE_ORIG`, `CTA_ID`, `CTA_ZONE`.
    const KINDS: [u16; 3] = [1, 12, 18];

    fn of(reader: Reader<'_>) -> Self {
        let parts = reader.filter(|(kind, _)| Self::KINDS.contains(kind));
        Self(parts.map(|(kind, value)| (kind, value.to_vec())).collect())
    }

    fn write(&self, attributes: &mut crate::attribute::Attributes<'_>) {
        const TUPLE: u16 = 1;
        for (kind, value) in &self.0 {
            if *kind == TUPLE {
                attributes.nested_bytes(*kind, value);
            } else {
                attributes.bytes(*kind, value);
            }
        }
    }
}

fn flow_in(reader: Reader<'_>) -> Option<Flow> {
    /// `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`
    const ORIGINAL: u16 = 1;
    const REPLY: u16 = 2;
    /// `CTA_STATUS`, `IPS_SEEN_REPLY`
    const STATUS: u16 = 3;
    const SEEN_REPLY: u32 = 2;
    let (original, reply) = (reader.nested(ORIGINAL)?, reader.nested(REPLY)?);
    let addresses = original.nested(1)?;
    let ports = original.nested(2)?;
    let called_port = ports
        .find(3)
        .and_then(|bytes| bytes.first_chunk::<2>())
        .map_or(0, |bytes| u16::from_be_bytes(*bytes));
    Some(Flow {
        protocol: *ports.find(1)?.first()?,
        called: address_in(addresses, 2, 4)?,
        called_port,
        answers: address_in(reply.nested(1)?, 1, 3)?,
        is_unanswered: reader
            .number(STATUS)
            .is_some_and(|bits| bits & SEEN_REPLY == 0),
    })
}

fn address_in(reader: Reader<'_>, v4: u16, v6: u16) -> Option<IpAddr> {
    if let Some(bytes) = reader.find(v4) {
        return bytes.first_chunk::<4>().map(|bytes| (*bytes).into());
    }
    let bytes = reader.find(v6)?;
    bytes.first_chunk::<16>().map(|bytes| (*bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Backend, Protocol};

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn at(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn flow(answers: IpAddr) -> Flow {
        Flow {
            protocol: 17,
            called: VIP,
            called_port: 53,
            answers,
            is_unanswered: false,
        }
    }

    #[test]
    fn only_flows_nobody_serves_are_stale() {
        let frontend = Frontend::address(VIP);
        let two = Service::new([Backend::new(at(5)), Backend::new(at(6))]);
        let one = Service::new([Backend::new(at(6))]);
        let drained = Service::new([Backend::new(at(5)).with_weight(0), Backend::new(at(6))]);
        let stale = |answers, before: Option<&Service>, after: Option<&Service>| {
            flow(answers).is_stale(&frontend, before, after)
        };
        assert!(stale(at(5), Some(&two), Some(&one)));
        assert!(!stale(at(6), Some(&two), Some(&one)));
        assert!(
            !stale(at(5), Some(&two), Some(&drained)),
            "draining flows go on"
        );
        assert!(stale(at(5), Some(&two), None));
        assert!(stale(VIP, None, Some(&one)), "it began before the service");
        assert!(stale(VIP, Some(&Service::default()), Some(&one)));
        assert!(
            stale(at(9), Some(&two), Some(&one)),
            "left by a predecessor"
        );
        let tcp = Flow {
            protocol: 6,
            ..flow(at(5))
        };
        assert!(!tcp.is_stale(&frontend, Some(&two), Some(&one)));
        let knocking = Flow {
            is_unanswered: true,
            ..tcp
        };
        assert!(knocking.is_stale(&frontend, Some(&two), Some(&one)));
        assert!(!knocking.is_stale(&frontend, Some(&two), Some(&drained)));
        assert!(!knocking.is_stale(&frontend, Some(&one), None), "not ours");
    }

    #[test]
    fn a_published_port_is_known_by_its_number() {
        let [frontend, other_family] = Frontend::published(Protocol::Udp, 53);
        let before = Service::new([Backend::new(at(5))]);
        let after = Service::new([Backend::new(at(6))]);
        assert!(flow(at(5)).is_stale(&frontend, Some(&before), Some(&after)));
        assert!(!flow(at(5)).is_stale(&other_family, Some(&before), Some(&after)));
        assert!(
            !flow(at(9)).is_stale(&frontend, Some(&before), Some(&after)),
            "not ours"
        );
        assert!(
            flow(VIP).is_stale(&frontend, None, Some(&after)),
            "it began before"
        );
        let [elsewhere, _] = Frontend::published(Protocol::Udp, 54);
        assert!(!flow(at(5)).is_stale(&elsewhere, Some(&before), Some(&after)));
    }

    #[test]
    fn connections_are_read_only_when_needed() {
        let frontend = Frontend::address(VIP);
        let one = Service::new([Backend::new(at(5))]);
        let two = Service::new([Backend::new(at(5)), Backend::new(at(6))]);
        assert!(!may_go_stale(&frontend, Some(&one), Some(&two)));
        assert!(may_go_stale(&frontend, Some(&two), Some(&one)));
        assert!(may_go_stale(&frontend, None, Some(&one)));
        assert!(may_go_stale(&frontend, Some(&one), None));
        let tcp = Frontend::port(VIP, Protocol::Tcp, 80);
        assert!(!may_go_stale(&tcp, Some(&two), Some(&one)));
    }
}
