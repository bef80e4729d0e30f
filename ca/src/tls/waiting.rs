//! Connections that wait for their handshake: each address has its own line, and lines take turns.
//!
//! Whoever floods the port stands in line behind himself. Addresses of managers come first, three
//! times out of four, so that not even a crowd of addresses keeps the managers apart.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Connections that wait at once; each holds a file descriptor and no memory to speak of.
pub(super) const WAITING_MAX: usize = 1024;
/// Of which one address may have so many: beyond it, its own oldest gives way.
pub(super) const WAITING_PER_ADDRESS_MAX: usize = 64;
/// Turns of managers' addresses before one of another.
const PREFERRED_TURNS: u32 = 3;

/// The lines. `T` is an accepted connection.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    preferred: Lines<T>,
    others: Lines<T>,
    turns: u32,
}

#[derive(Debug)]
struct Lines<T> {
    lines: BTreeMap<IpAddr, VecDeque<T>>,
    /// Addresses with a line, the next to be served first.
    turns: VecDeque<IpAddr>,
    len: usize,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self {
            lines: BTreeMap::new(),
            turns: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            preferred: Lines::default(),
            others: Lines::default(),
            turns: 0,
        }
    }
}

impl<T> Waiting<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.preferred.len + self.others.len == 0
    }

    /// Puts a connection at the end of its address's line.
    pub(super) fn push(&mut self, addr: IpAddr, is_preferred: bool, connection: T) {
        let lines = if is_preferred {
            &mut self.preferred
        } else {
            &mut self.others
        };
        lines.push(addr, connection);
    }

    /// The connection whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let prefer = self.turns < PREFERRED_TURNS || self.others.len == 0;
        if prefer && let Some(next) = self.preferred.pop() {
            self.turns += 1;
            return Some(next);
        }
        self.turns = 0;
        self.others.pop().or_else(|| self.preferred.pop())
    }
}

impl<T> Lines<T> {
    fn push(&mut self, addr: IpAddr, connection: T) {
        let line = self.lines.entry(addr).or_default();
        if line.is_empty() {
            self.turns.push_back(addr);
        }
        line.push_back(connection);
        self.len += 1;
        if line.len() > WAITING_PER_ADDRESS_MAX {
            line.pop_front();
            self.len -= 1;
        } else if self.len > WAITING_MAX {
            self.shorten_longest();
        }
    }

    fn pop(&mut self) -> Option<T> {
        let addr = self.turns.pop_front()?;
        let line = self.lines.get_mut(&addr)?;
        let next = line.pop_front()?;
        self.len -= 1;
        if line.is_empty() {
            self.lines.remove(&addr);
        } else {
            self.turns.push_back(addr);
        }
        Some(next)
    }

    fn shorten_longest(&mut self) {
        let longest = self.lines.iter().max_by_key(|(_, line)| line.len());
        let Some(addr) = longest.map(|(addr, _)| *addr) else {
            return;
        };
        if let Some(line) = self.lines.get_mut(&addr) {
            line.pop_front();
            self.len -= 1;
            if line.is_empty() {
                self.lines.remove(&addr);
                self.turns.retain(|turn| *turn != addr);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(number).into()
    }

    #[test]
    fn a_flood_stands_in_line_behind_itself() {
        let mut waiting = Waiting::default();
        for number in 0..5000 {
            waiting.push(addr(1), false, number);
        }
        waiting.push(addr(2), false, 7777);
        let first: Vec<_> = std::iter::from_fn(|| waiting.pop()).collect();
        assert_eq!(first.len(), WAITING_PER_ADDRESS_MAX + 1);
        assert_eq!(first[1], 7777, "the honest one is second at the latest");
        assert_eq!(first[0], 5000 - WAITING_PER_ADDRESS_MAX);
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_crowd_of_addresses_is_bounded_and_does_not_keep_managers_out() {
        let mut waiting = Waiting::default();
        for number in 0..3000 {
            waiting.push(addr(number), false, "crowd");
        }
        waiting.push(addr(9000), true, "manager");
        assert_eq!(waiting.others.len, WAITING_MAX);
        assert_eq!(waiting.others.lines.len(), WAITING_MAX);
        assert_eq!(waiting.others.turns.len(), WAITING_MAX);
        assert_eq!(waiting.pop(), Some("manager"));
        assert_eq!(waiting.pop(), Some("crowd"));
    }

    #[test]
    fn a_flood_from_a_managers_address_leaves_turns_for_others() {
        let mut waiting = Waiting::default();
        for _ in 0..50 {
            waiting.push(addr(1), true, "manager");
        }
        waiting.push(addr(2), false, "joiner");
        let turns: Vec<_> = (0..4).filter_map(|_| waiting.pop()).collect();
        assert!(turns.contains(&"joiner"), "{turns:?}");
    }
}
