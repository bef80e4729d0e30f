//! Envelopes of the managers' store: one key of the cluster.
//!
//! Layout: ciphertext, tag (16), nonce (24).

use std::fmt;

use chacha20poly1305::{AeadInPlace as _, KeyInit as _, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::{Error, KEY_LEN, Plain, TAG_LEN, random};

const NONCE_LEN: usize = 24;

/// Seals and opens what the store holds.
pub struct StoreKey(XChaCha20Poly1305);

impl StoreKey {
    /// Bytes an envelope has more than its content.
    pub const OVERHEAD_BYTES: usize = TAG_LEN + NONCE_LEN;

    /// Bytes for a new key.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn generate() -> Result<Plain, Error> {
        let bytes = Zeroizing::new(random::<KEY_LEN>()?);
        Ok(Zeroizing::new(bytes.to_vec()))
    }

    /// Seals content in its own buffer.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn seal(&self, context: &[u8], mut plain: Plain) -> Result<Vec<u8>, Error> {
        let nonce = XNonce::from(random::<NONCE_LEN>()?);
        let tag = self
            .0
            .encrypt_in_place_detached(&nonce, context, &mut plain)
            .map_err(|_| Error::Unopened)?;
        let mut sealed = std::mem::take(&mut *plain);
        sealed.extend_from_slice(&tag);
        sealed.extend_from_slice(&nonce);
        Ok(sealed)
    }

    /// Opens an envelope.
    ///
    /// # Errors
    /// [`Error::Unopened`].
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Plain, Error> {
        let body = sealed.len().checked_sub(Self::OVERHEAD_BYTES);
        let (content, trailer) = sealed.split_at(body.ok_or(Error::Unopened)?);
        let (tag, nonce) = trailer.split_at(TAG_LEN);
        let mut plain = Zeroizing::new(content.to_vec());
        self.0
            .decrypt_in_place_detached(XNonce::from_slice(nonce), context, &mut plain, tag.into())
            .map_err(|_| Error::Unopened)?;
        Ok(plain)
    }
}

impl TryFrom<&[u8]> for StoreKey {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self, Error> {
        let cipher = XChaCha20Poly1305::new_from_slice(bytes);
        cipher.map(Self).map_err(|_| Error::Key(bytes.len()))
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_with_its_key_and_context() {
        let key = StoreKey::try_from(&StoreKey::generate().unwrap()[..]).unwrap();
        let other = StoreKey::try_from(&StoreKey::generate().unwrap()[..]).unwrap();
        let sealed = key
            .seal(b"secret x 1", Zeroizing::new(b"hunter2".to_vec()))
            .unwrap();
        assert_eq!(sealed.len(), 7 + StoreKey::OVERHEAD_BYTES);
        assert_eq!(
            key.open(b"secret x 1", &sealed).unwrap().as_slice(),
            b"hunter2"
        );
        assert_eq!(key.open(b"secret x 2", &sealed), Err(Error::Unopened));
        assert_eq!(other.open(b"secret x 1", &sealed), Err(Error::Unopened));
        assert_eq!(key.open(b"", &sealed[..5]), Err(Error::Unopened));
        assert_eq!(StoreKey::try_from(&[1, 2][..]).unwrap_err(), Error::Key(2));
    }
}
