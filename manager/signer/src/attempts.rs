//! Slows down guessing of join secrets.

use std::sync::Mutex;
use std::time::Duration;

use types::Timestamp;

/// Wrong tokens answered within a window; beyond them nobody may join for its rest.
const WRONG_MAX: u32 = 20;

/// The window.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts wrong tokens. A secret has 128 bits, so the limit protects the processor, not the secret.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    window: Mutex<(Timestamp, u32)>,
}

impl Attempts {
    /// Whether a token may be looked at now.
    pub(crate) fn allowed(&self, now: Timestamp) -> bool {
        let window = self
            .window
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        now.since(window.0) >= WINDOW || window.1 < WRONG_MAX
    }

    /// Takes note of a wrong one.
    pub(crate) fn wrong(&self, now: Timestamp) {
        let mut window = self
            .window
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if now.since(window.0) >= WINDOW {
            *window = (now, 0);
        }
        window.1 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wrong_tokens_close_the_door_until_the_window_ends() {
        let attempts = Attempts::default();
        let start = Timestamp::from_secs(100);
        for _ in 0..WRONG_MAX {
            assert!(attempts.allowed(start));
            attempts.wrong(start);
        }
        assert!(!attempts.allowed(start));
        assert!(attempts.allowed(start.plus(WINDOW)));
    }
}
