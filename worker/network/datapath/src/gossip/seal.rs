//! Keeps packets from strangers: sealed with the first of the managers' keys, opened with any.
//!
//! A packet is its version (1 byte), a hint which key it was sealed with (4 bytes), a nonce
//! (24 random bytes) and what XChaCha20-Poly1305 makes of the content. Keys overlap while they are
//! replaced: the next one opens before it seals, the previous one opens for a while after.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use datapath_client::GossipKey;
use rand::RngExt;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// What sealing adds to a content, in bytes.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + NONCE_BYTES + 16;

/// Fewest bytes of a key; Swarm's have as many.
pub const KEY_BYTES_MIN: usize = 16;

const VERSION: u8 = 1;
const HINT_BYTES: usize = 4;
const HEADER_BYTES: usize = 1 + HINT_BYTES;
const NONCE_BYTES: usize = 24;

/// Keys the managers gave, ready for use.
#[derive(Default)]
pub struct KeyRing {
    keys: Vec<Key>,
}

struct Key {
    hint: [u8; HINT_BYTES],
    cipher: XChaCha20Poly1305,
}

/// A key with fewer than [`KEY_BYTES_MIN`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a gossip key has {0} bytes, at least {KEY_BYTES_MIN} are needed")]
pub struct ShortKeyError(usize);

impl KeyRing {
    /// A ring of keys, the sealing one first.
    ///
    /// # Errors
    /// When one of them is too short.
    pub fn new(keys: &[GossipKey]) -> Result<Self, ShortKeyError> {
        let key = |key: &GossipKey| {
            if key.0.len() < KEY_BYTES_MIN {
                return Err(ShortKeyError(key.0.len()));
            }
            // The same key may serve others for other things, and has any length.
            let derived = |purpose: &[u8]| -> Zeroizing<[u8; 32]> {
                let digest = Sha256::new().chain_update(purpose).chain_update(&*key.0);
                Zeroizing::new(digest.finalize().into())
            };
            let hint = derived(b"swarm gossip 1: hint ");
            let hint = *hint.first_chunk().expect("a digest is longer than a hint");
            let cipher = XChaCha20Poly1305::new((&*derived(b"swarm gossip 1: key ")).into());
            Ok(Key { hint, cipher })
        };
        let keys = keys.iter().map(key).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    /// Seals a content; `None` without a key.
    pub fn seal(&self, content: &[u8], random: &mut impl RngExt) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        let mut packet = Vec::with_capacity(content.len() + OVERHEAD_BYTES);
        packet.push(VERSION);
        packet.extend_from_slice(&key.hint);
        let nonce: [u8; NONCE_BYTES] = random.random();
        let payload = Payload {
            msg: content,
            aad: &packet,
        };
        let sealed = key.cipher.encrypt(&XNonce::from(nonce), payload).ok()?;
        packet.extend_from_slice(&nonce);
        packet.extend_from_slice(&sealed);
        Some(packet)
    }

    /// Opens a packet; `None` when it was not sealed with one of the keys.
    #[must_use]
    pub fn open(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let (header, rest) = packet.split_first_chunk::<HEADER_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        if header[0] != VERSION {
            return None;
        }
        let fits = |key: &&Key| key.hint == header[1..];
        let open = |key: &Key| {
            let payload = Payload {
                msg: sealed,
                aad: header,
            };
            key.cipher.decrypt(&XNonce::from(*nonce), payload).ok()
        };
        self.keys.iter().filter(fits).find_map(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn ring(keys: &[u8]) -> KeyRing {
        let key = |byte: &u8| GossipKey(Zeroizing::new(vec![*byte; 16]));
        KeyRing::new(&keys.iter().map(key).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn keys_that_overlap_understand_each_other() {
        let mut random = StdRng::seed_from_u64(1);
        // Previous, primary, next: at any moment of a rotation two nodes are one step apart.
        let steps = [ring(&[2, 1, 3]), ring(&[2, 3, 1]), ring(&[3, 2, 4])];
        for pair in steps.windows(2) {
            for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                let packet = from.seal(b"hello", &mut random).unwrap();
                assert_eq!(packet.len(), 5 + OVERHEAD_BYTES);
                assert_eq!(to.open(&packet).unwrap(), b"hello");
            }
        }
    }

    #[test]
    fn strangers_and_changed_packets_are_not_opened() {
        let mut random = StdRng::seed_from_u64(1);
        let packet = ring(&[1]).seal(b"hello", &mut random).unwrap();
        assert_eq!(ring(&[2, 3]).open(&packet), None);
        assert_eq!(KeyRing::default().seal(b"hello", &mut random), None);
        for at in 0..packet.len() {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            assert_eq!(ring(&[1]).open(&changed), None, "{at}");
            assert_eq!(ring(&[1]).open(&packet[..at]), None, "{at}");
        }
        assert!(KeyRing::new(&[GossipKey(Zeroizing::new(vec![1; 15]))]).is_err());
    }
}
