//! This node's WireGuard keys: made here, kept in memory, renewed without losing a packet.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tunnel::{PrivateKey, PublicKey};
use types::Timestamp;
use zeroize::{Zeroize as _, Zeroizing};

/// How keys are renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTiming {
    /// How long a key is sent with before the next one is made.
    pub period: Duration,
    /// How long after the managers know a key it is first sent with: time for the others to hear.
    pub settle: Duration,
}

impl KeyTiming {
    /// Twice a day: what was sealed stays so anyway once its session's keys are gone, minutes later,
    /// so that this only bounds for how long somebody who copied a key can pretend to be this node.
    pub const PERIOD_DEFAULT: Duration = Duration::from_secs(12 * 3600);

    /// Keys live for this long. The usual settling takes a minute; with short lives a tenth of them.
    #[must_use]
    pub fn every(period: Duration) -> Self {
        Self {
            period,
            settle: Duration::from_secs(60).min(period / 10),
        }
    }
}

impl Default for KeyTiming {
    fn default() -> Self {
        Self::every(Self::PERIOD_DEFAULT)
    }
}

/// A key and when it was first sent with, or made if it was not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    secret: PrivateKey,
    since: Timestamp,
}

impl Key {
    fn new(secret: PrivateKey, since: Timestamp) -> Self {
        Self { secret, since }
    }
}

/// The keys. A new one is answered to and told first, sent with once others can know it, and the
/// former one is answered to until the next is made: whatever others have heard, one pair fits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyRing {
    current: Key,
    next: Option<Key>,
    former: Option<Key>,
    /// Since when the managers are known to know the next one.
    known_since: Option<Timestamp>,
}

impl KeyRing {
    pub(crate) fn new(first: PrivateKey, now: Timestamp) -> Self {
        Self {
            current: Key::new(first, now),
            next: None,
            former: None,
            known_since: None,
        }
    }

    /// All keys, the one to send with first.
    pub(crate) fn secrets(&self) -> Vec<PrivateKey> {
        let others = self.next.iter().chain(&self.former);
        let all = std::iter::once(&self.current).chain(others);
        all.map(|key| key.secret.clone()).collect()
    }

    /// The public keys, in the same order.
    pub(crate) fn public(&self) -> Vec<PublicKey> {
        self.secrets().iter().map(PrivateKey::public).collect()
    }

    /// Does what is due now, by what the managers know of this node. Returns whether anything was.
    pub(crate) fn advance(
        &mut self,
        now: Timestamp,
        known: &[[u8; 32]],
        timing: KeyTiming,
        make: impl FnOnce() -> PrivateKey,
    ) -> bool {
        let Some(next) = &self.next else {
            if now.since(self.current.since) < timing.period {
                return false;
            }
            self.next = Some(Key::new(make(), now));
            self.former = None;
            return true;
        };
        if !known.contains(&next.secret.public().0) {
            self.known_since = None;
            return false;
        }
        if now.since(*self.known_since.get_or_insert(now)) < timing.settle {
            return false;
        }
        let next = Key::new(next.secret.clone(), now);
        self.former = Some(std::mem::replace(&mut self.current, next));
        self.next = None;
        self.known_since = None;
        true
    }

    /// When something is due without anything happening before.
    pub(crate) fn due_at(&self, timing: KeyTiming) -> Option<Timestamp> {
        match &self.next {
            None => Some(self.current.since.plus(timing.period)),
            Some(_) => self.known_since.map(|since| since.plus(timing.settle)),
        }
    }
}

/// Where the keys are kept: in memory, as nobody needs them after a reboot, and 0600.
#[derive(Clone, Debug)]
pub(crate) struct KeyFile(PathBuf);

#[derive(Serialize, Deserialize)]
struct StoredKey {
    secret: [u8; 32],
    since: u64,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    current: StoredKey,
    next: Option<StoredKey>,
    former: Option<StoredKey>,
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl KeyFile {
    /// The file in a directory that is there.
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self(dir.join("wireguard.keys"))
    }

    /// What was kept; `None` when there is nothing, or nothing of use.
    pub(crate) fn read(&self) -> Option<KeyRing> {
        let text = match std::fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            read => read.map(Zeroizing::new),
        };
        let stored = text.and_then(|text| Ok(serde_json::from_slice::<Stored>(&text)?));
        let stored = stored.inspect_err(|error| {
            let path = self.0.display();
            tracing::warn!(%path, %error, "the keys of encrypted networks are unreadable: new ones are made");
        });
        let key = |stored: &StoredKey| {
            Key::new(
                PrivateKey::from_bytes(&stored.secret),
                Timestamp(stored.since),
            )
        };
        stored.ok().map(|stored| KeyRing {
            current: key(&stored.current),
            next: stored.next.as_ref().map(key),
            former: stored.former.as_ref().map(key),
            known_since: None,
        })
    }

    /// Keeps the keys, so that a daemon after this one has the same.
    pub(crate) fn write(&self, ring: &KeyRing) -> io::Result<()> {
        let stored = |key: &Key| StoredKey {
            secret: *key.secret.to_bytes(),
            since: key.since.0,
        };
        let text = Zeroizing::new(serde_json::to_vec(&Stored {
            current: stored(&ring.current),
            next: ring.next.as_ref().map(stored),
            former: ring.former.as_ref().map(stored),
        })?);
        let dir = self.0.parent().unwrap_or(&self.0);
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(&text)?;
        file.persist(&self.0)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TIMING: KeyTiming = KeyTiming {
        period: Duration::from_secs(100),
        settle: Duration::from_secs(10),
    };

    fn key(number: u8) -> PrivateKey {
        PrivateKey::from_bytes(&[number; 32])
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1000 + secs)
    }

    fn public(numbers: &[u8]) -> Vec<[u8; 32]> {
        numbers
            .iter()
            .map(|number| key(*number).public().0)
            .collect()
    }

    fn order(ring: &KeyRing) -> Vec<[u8; 32]> {
        ring.public().iter().map(|key| key.0).collect()
    }

    #[test]
    fn a_key_is_told_first_and_sent_with_once_others_can_know_it() {
        let mut ring = KeyRing::new(key(1), at(0));
        // When, what managers know, whether anything changes, and the order of keys after it.
        let steps: [(u64, &[u8], bool, &[u8]); 10] = [
            (0, &[], false, &[1]),
            (99, &[1], false, &[1]),
            (100, &[1], true, &[1, 2]),
            // Managers cannot be reached, for however long: nothing is sent with what is unknown.
            (5000, &[1], false, &[1, 2]),
            (5001, &[1, 2], false, &[1, 2]),
            (5010, &[1, 2], false, &[1, 2]),
            (5011, &[1, 2], true, &[2, 1]),
            // Those who were not told yet go on with the former one.
            (5110, &[2, 1], false, &[2, 1]),
            (5111, &[2, 1], true, &[2, 3]),
            (5112, &[2, 1], false, &[2, 3]),
        ];
        let mut made = 1;
        for (secs, known, changes, expected) in steps {
            let make = || {
                made += 1;
                key(made)
            };
            assert_eq!(
                ring.advance(at(secs), &public(known), TIMING, make),
                changes,
                "at {secs}"
            );
            assert_eq!(order(&ring), public(expected), "at {secs}");
        }
    }

    #[test]
    fn what_is_due_is_known_beforehand() {
        let mut ring = KeyRing::new(key(1), at(0));
        assert_eq!(ring.due_at(TIMING), Some(at(100)));
        assert!(ring.advance(at(100), &[], TIMING, || key(2)));
        assert_eq!(ring.due_at(TIMING), None, "others have to be told");
        assert!(!ring.advance(at(120), &public(&[2]), TIMING, || key(3)));
        assert_eq!(ring.due_at(TIMING), Some(at(130)));
        // Managers that forgot it again have to be told again.
        assert!(!ring.advance(at(131), &public(&[1]), TIMING, || key(3)));
        assert_eq!(ring.due_at(TIMING), None);
    }

    #[test]
    fn the_same_keys_are_there_after_a_restart_and_only_for_this_user() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        assert_eq!(file.read(), None);
        let mut ring = KeyRing::new(key(1), at(0));
        file.write(&ring).unwrap();
        assert_eq!(file.read(), Some(KeyRing::new(key(1), at(0))));
        ring.advance(at(100), &[], TIMING, || key(2));
        file.write(&ring).unwrap();
        assert_eq!(file.read().as_ref(), Some(&ring));
        let mode = std::fs::metadata(&file.0).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&file.0, "half").unwrap();
        assert_eq!(file.read(), None);
    }

    #[test]
    fn short_lives_settle_soon() {
        let settle = |secs| KeyTiming::every(Duration::from_secs(secs)).settle.as_secs();
        assert_eq!((settle(43_200), settle(100)), (60, 10));
    }
}
