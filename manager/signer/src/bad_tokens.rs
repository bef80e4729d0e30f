//! Counts wrong join tokens, so that guessing costs time, fills no log, and locks nobody else out.
//!
//! A token's secret has 128 random bits: nobody guesses one. What has to be bounded is the work and
//! the noise that guessing makes. An address that has shown no wrong token is always heard, however
//! many others guess; one that has waits.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use types::Timestamp;

/// Wrong tokens one address may show within a window.
pub(crate) const TRIES_MAX: u32 = 20;
/// Wrong tokens all addresses together may show within a window. Beyond it, each address gets one.
pub(crate) const TRIES_OVERALL_MAX: u32 = 600;
/// How long wrong tokens are remembered.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// Addresses remembered at once, about 40 bytes each.
const ADDRESSES_MAX: usize = 16_384;
/// Bits of an IPv6 address that one subscriber commonly has to himself.
const IPV6_PREFIX: u32 = 64;

/// The wrong tokens of the last minute.
#[derive(Debug, Default)]
pub(crate) struct BadTokens {
    tries: HashMap<IpAddr, Tries>,
    overall: Tries,
}

/// Wrong tokens since the first one of a window.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    since: Timestamp,
    count: u32,
}

impl Tries {
    fn within_window(&self, now: Timestamp) -> u32 {
        if now.since(self.since) < WINDOW {
            self.count
        } else {
            0
        }
    }

    fn note(&mut self, now: Timestamp) {
        let count = self.within_window(now);
        if count == 0 {
            self.since = now;
        }
        self.count = count.saturating_add(1);
    }
}

impl BadTokens {
    /// Whether this address has to wait before another token of its is looked at.
    pub(crate) fn must_wait(&self, from: IpAddr, now: Timestamp) -> bool {
        let own = self
            .tries
            .get(&subscriber(from))
            .map_or(0, |tries| tries.within_window(now));
        let is_crowded = self.overall.within_window(now) >= TRIES_OVERALL_MAX;
        own >= TRIES_MAX || is_crowded && own > 0
    }

    /// Notes a wrong token. True when it is one of the first of its address: worth a line.
    pub(crate) fn note(&mut self, from: IpAddr, now: Timestamp) -> bool {
        let from = subscriber(from);
        if self.tries.len() >= ADDRESSES_MAX && !self.tries.contains_key(&from) {
            self.tries.retain(|_, tries| tries.within_window(now) > 0);
            if self.tries.len() >= ADDRESSES_MAX {
                // Whoever has that many addresses wins nothing by being forgotten.
                self.tries.clear();
            }
        }
        self.overall.note(now);
        let tries = self.tries.entry(from).or_default();
        tries.note(now);
        tries.count == 1 && self.overall.count <= TRIES_OVERALL_MAX
    }
}

/// What one machine or one customer of a provider has: an IPv4 address, or an IPv6 network.
fn subscriber(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V4(addr) => addr.into(),
        IpAddr::V6(addr) => {
            let mask = u128::MAX << (Ipv6Addr::BITS - IPV6_PREFIX);
            Ipv6Addr::from_bits(addr.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn one_address_waits_until_its_window_is_over_and_others_do_not() {
        let (guesser, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Timestamp::from_secs(1000);
        let mut bad = BadTokens::default();
        for number in 0..TRIES_MAX {
            assert!(!bad.must_wait(guesser, start));
            assert_eq!(bad.note(guesser, start), number == 0, "one line a window");
        }
        assert!(bad.must_wait(guesser, start));
        assert!(!bad.must_wait(other, start));
        let later = start.plus(WINDOW);
        assert!(!bad.must_wait(guesser, later));
        assert!(bad.note(guesser, later));
        assert!(!bad.must_wait(guesser, later), "a new window begins at one");
    }

    #[test]
    fn a_crowd_of_guessers_locks_out_itself_and_nobody_who_was_never_wrong() {
        let now = Timestamp::from_secs(1000);
        let mut bad = BadTokens::default();
        for number in 0..TRIES_OVERALL_MAX {
            let guesser = Ipv4Addr::from(0x0b00_0000 + number).into();
            assert!(!bad.must_wait(guesser, now));
            bad.note(guesser, now);
        }
        assert!(bad.must_wait([11, 0, 0, 7].into(), now), "it had its one");
        assert!(!bad.must_wait([10, 0, 0, 1].into(), now));
        assert!(!bad.must_wait([11, 0, 0, 7].into(), now.plus(WINDOW)));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_guesser() {
        let now = Timestamp::from_secs(1000);
        let mut bad = BadTokens::default();
        for number in 0..u128::from(TRIES_MAX) {
            let addr = Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + number);
            bad.note(addr.into(), now);
        }
        let wait = |text: &str| bad.must_wait(text.parse().unwrap(), now);
        assert!(wait("2001:db8::ffff"));
        assert!(!wait("2001:db8:0:1::1"));
        assert!(!wait("10.0.0.1"));
        assert!(!wait("::ffff:10.0.0.1"));
    }

    #[test]
    fn memory_is_bounded() {
        let mut bad = BadTokens::default();
        for number in 0..3 * u32::try_from(ADDRESSES_MAX).unwrap() {
            bad.note(Ipv4Addr::from(number).into(), Timestamp::from_secs(1));
            assert!(bad.tries.len() <= ADDRESSES_MAX);
        }
    }
}
