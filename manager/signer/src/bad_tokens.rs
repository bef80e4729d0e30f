//! Counts wrong join tokens by address, so that guessing costs time and fills no log.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use types::Timestamp;

/// Wrong tokens one address may show within a window.
pub(crate) const TRIES_MAX: u32 = 20;
/// How long wrong tokens are remembered.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// Addresses remembered at once. A token has 128 random bits: forgetting early gives nothing away.
const ADDRESSES_MAX: usize = 4096;

/// The wrong tokens of the last minute.
#[derive(Debug, Default)]
pub(crate) struct BadTokens {
    tries: HashMap<IpAddr, (Timestamp, u32)>,
}

impl BadTokens {
    /// Whether this address has to wait before another token of its is looked at.
    pub(crate) fn must_wait(&self, from: IpAddr, now: Timestamp) -> bool {
        let tries = self.tries.get(&from);
        tries.is_some_and(|(since, count)| *count >= TRIES_MAX && now.since(*since) < WINDOW)
    }

    /// Notes a wrong token.
    pub(crate) fn note(&mut self, from: IpAddr, now: Timestamp) {
        if self.tries.len() >= ADDRESSES_MAX && !self.tries.contains_key(&from) {
            self.tries
                .retain(|_, (since, _)| now.since(*since) < WINDOW);
            if self.tries.len() >= ADDRESSES_MAX {
                self.tries.clear();
            }
        }
        let (since, count) = self.tries.entry(from).or_insert((now, 0));
        if now.since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
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
        for _ in 0..TRIES_MAX {
            assert!(!bad.must_wait(guesser, start));
            bad.note(guesser, start);
        }
        assert!(bad.must_wait(guesser, start));
        assert!(!bad.must_wait(other, start));
        let later = start.plus(WINDOW);
        assert!(!bad.must_wait(guesser, later));
        bad.note(guesser, later);
        assert!(!bad.must_wait(guesser, later), "a new window begins at one");
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
