//! Sealing: nothing of the log or a snapshot is on disk in clear or can be moved unnoticed.
//!
//! XChaCha20-Poly1305 with a random 24-byte nonce, so that no counter has to survive a crash. The
//! record's own key is authenticated with it: a record copied to another place does not open.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use chacha20poly1305::aead::{Aead as _, AeadInPlace as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

/// Length of the nonce in front of every sealed record.
pub(crate) const NONCE_BYTES: usize = 24;

/// The 32-byte key that seals log and snapshots (SwarmKit's DEK). Wiped when dropped, never shown.
#[derive(Clone)]
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// Takes over the key.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey(..)")
    }
}

/// The record does not open with any key held: a wrong key, or damage.
#[derive(Debug, thiserror::Error)]
#[error("the seal does not open")]
pub(crate) struct Unsealable;

/// Seals with one key and opens with that and older ones.
pub(crate) struct Sealer {
    primary: XChaCha20Poly1305,
    older: Vec<XChaCha20Poly1305>,
}

impl Sealer {
    pub(crate) fn new(primary: &DataKey, older: &[DataKey]) -> Self {
        let cipher = |key: &DataKey| XChaCha20Poly1305::new(key.0.as_slice().into());
        Self {
            primary: cipher(primary),
            older: older.iter().map(cipher).collect(),
        }
    }

    /// Seals `plain` as the record `name`: nonce, ciphertext, tag.
    pub(crate) fn seal(&self, name: &[u8], plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut sealed = Vec::with_capacity(NONCE_BYTES + plain.len() + 16);
        sealed.extend_from_slice(plain);
        let nonce = self.seal_in_place(name, &mut sealed)?;
        sealed.splice(..0, nonce);
        Ok(sealed)
    }

    /// Seals `plain` where it is and returns the nonce, for data too large to copy.
    pub(crate) fn seal_in_place(
        &self,
        name: &[u8],
        plain: &mut Vec<u8>,
    ) -> io::Result<[u8; NONCE_BYTES]> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|e| io::Error::other(format!("random nonce: {e}")))?;
        self.primary
            .encrypt_in_place(XNonce::from_slice(&nonce), name, plain)
            .map_err(|_| io::Error::other("record too large to seal"))?;
        Ok(nonce)
    }

    /// Opens what `seal` made under the same name.
    pub(crate) fn open(&self, name: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_BYTES).ok_or(Unsealable)?;
        let nonce = XNonce::from_slice(nonce);
        let payload = || Payload {
            msg: ciphertext,
            aad: name,
        };
        std::iter::once(&self.primary)
            .chain(&self.older)
            .find_map(|cipher| cipher.decrypt(nonce, payload()).ok())
            .ok_or(Unsealable)
    }
}

/// The sealer in use, shared by the log and the snapshots and replaced by a rotation.
#[derive(Clone)]
pub(crate) struct Keyring(Arc<ArcSwap<Sealer>>);

impl Keyring {
    pub(crate) fn new(sealer: Sealer) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(sealer)))
    }

    pub(crate) fn sealer(&self) -> Arc<Sealer> {
        self.0.load_full()
    }

    pub(crate) fn replace(&self, sealer: Sealer) {
        self.0.store(Arc::new(sealer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> DataKey {
        DataKey::new([byte; 32])
    }

    #[test]
    fn a_record_opens_only_with_its_key_under_its_name_and_unchanged() {
        let sealer = Sealer::new(&key(1), &[]);
        let sealed = sealer.seal(b"l/1", b"secret").unwrap();
        assert!(
            !sealed.windows(6).any(|w| w == b"secret"),
            "the record is in clear"
        );

        assert_eq!(sealer.open(b"l/1", &sealed).unwrap(), b"secret");
        assert!(
            sealer.open(b"l/2", &sealed).is_err(),
            "a moved record opened"
        );
        assert!(
            Sealer::new(&key(2), &[]).open(b"l/1", &sealed).is_err(),
            "a wrong key opened"
        );
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(
                sealer.open(b"l/1", &flipped).is_err(),
                "byte {at} flipped unnoticed"
            );
        }
        assert!(sealer.open(b"l/1", &sealed[..10]).is_err());
    }

    #[test]
    fn a_rotation_opens_both_keys_and_writes_the_new_one() {
        let old = Sealer::new(&key(1), &[]).seal(b"m", b"x").unwrap();
        let both = Sealer::new(&key(2), &[key(1)]);
        assert_eq!(both.open(b"m", &old).unwrap(), b"x");
        let new = both.seal(b"m", b"y").unwrap();
        assert_eq!(Sealer::new(&key(2), &[]).open(b"m", &new).unwrap(), b"y");
    }

    #[test]
    fn the_same_record_never_looks_the_same() {
        let sealer = Sealer::new(&key(1), &[]);
        assert_ne!(
            sealer.seal(b"m", b"x").unwrap(),
            sealer.seal(b"m", b"x").unwrap()
        );
    }

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", key(7)), "DataKey(..)");
    }
}
