//! Envelopes for one receiver: X25519 with a key made for each envelope.
//!
//! Layout: ciphertext, tag (16), public key of the sender (32). The key is
//! SHA-256(label, shared secret, sender's key, receiver's key); it seals one envelope only, so the
//! nonce is zero.

use std::fmt;

use chacha20poly1305::{AeadInPlace as _, KeyInit as _, XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

use crate::{Error, KEY_LEN, Plain, TAG_LEN, random};

const LABEL: &[u8] = b"swarm sealed content 1";

/// Opens what was sealed for it. Lives in memory only.
pub struct OpenKey {
    secret: StaticSecret,
    public: PublicKey,
}

impl OpenKey {
    /// A new one.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn generate() -> Result<Self, Error> {
        let bytes = Zeroizing::new(random::<KEY_LEN>()?);
        let secret = StaticSecret::from(*bytes);
        let public = PublicKey::from(&secret);
        Ok(Self { secret, public })
    }

    /// The key others seal with.
    #[must_use]
    pub fn seal_key(&self) -> SealKey {
        SealKey(self.public)
    }

    /// Opens an envelope.
    ///
    /// # Errors
    /// [`Error::Unopened`].
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Plain, Error> {
        let body = sealed.len().checked_sub(KEY_LEN + TAG_LEN);
        let (content, trailer) = sealed.split_at(body.ok_or(Error::Unopened)?);
        let (tag, sender) = trailer.split_at(TAG_LEN);
        let sender: [u8; KEY_LEN] = sender.try_into().map_err(|_| Error::Unopened)?;
        let sender = PublicKey::from(sender);
        let shared = self.secret.diffie_hellman(&sender);
        let mut plain = Zeroizing::new(content.to_vec());
        cipher(&shared, &sender, &self.public)?
            .decrypt_in_place_detached(&XNonce::default(), context, &mut plain, tag.into())
            .map_err(|_| Error::Unopened)?;
        Ok(plain)
    }
}

impl fmt::Debug for OpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenKey({:?})", self.public)
    }
}

/// Seals for the holder of an [`OpenKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealKey(PublicKey);

impl SealKey {
    /// The key as it is sent.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.as_bytes().to_vec()
    }

    /// Seals content in its own buffer.
    ///
    /// # Errors
    /// [`Error::Randomness`]; [`Error::Unopened`] for a key that no receiver can have.
    pub fn seal(self, context: &[u8], mut plain: Plain) -> Result<Vec<u8>, Error> {
        let bytes = Zeroizing::new(random::<KEY_LEN>()?);
        let secret = StaticSecret::from(*bytes);
        let sender = PublicKey::from(&secret);
        let shared = secret.diffie_hellman(&self.0);
        let tag = cipher(&shared, &sender, &self.0)?
            .encrypt_in_place_detached(&XNonce::default(), context, &mut plain)
            .map_err(|_| Error::Unopened)?;
        let mut sealed = std::mem::take(&mut *plain);
        sealed.extend_from_slice(&tag);
        sealed.extend_from_slice(sender.as_bytes());
        Ok(sealed)
    }
}

impl TryFrom<&[u8]> for SealKey {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self, Error> {
        let key: [u8; KEY_LEN] = bytes.try_into().map_err(|_| Error::Key(bytes.len()))?;
        Ok(Self(PublicKey::from(key)))
    }
}

fn cipher(
    shared: &SharedSecret,
    sender: &PublicKey,
    receiver: &PublicKey,
) -> Result<XChaCha20Poly1305, Error> {
    // A key of small order would make the secret known to everybody.
    if !shared.was_contributory() {
        return Err(Error::Unopened);
    }
    let mut digest = Sha256::new();
    digest.update(LABEL);
    digest.update(shared.as_bytes());
    digest.update(sender.as_bytes());
    digest.update(receiver.as_bytes());
    let mut key = digest.finalize();
    let cipher = XChaCha20Poly1305::new(&key);
    zeroize::Zeroize::zeroize(key.as_mut_slice());
    Ok(cipher)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Plain {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    #[test]
    fn only_the_receiver_opens_it_and_only_as_what_it_is() {
        let (key, other) = (OpenKey::generate().unwrap(), OpenKey::generate().unwrap());
        let sealed = key.seal_key().seal(b"db", plain("hunter2")).unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(key.open(b"db", &sealed).unwrap().as_slice(), b"hunter2");
        assert_eq!(other.open(b"db", &sealed), Err(Error::Unopened));
        assert_eq!(key.open(b"web", &sealed), Err(Error::Unopened));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(b"db", &changed), Err(Error::Unopened), "byte {at}");
            assert_eq!(key.open(b"db", &sealed[..at]), Err(Error::Unopened));
        }
    }

    #[test]
    fn keys_travel_and_weak_ones_are_refused() {
        let key = OpenKey::generate().unwrap();
        let sent = key.seal_key().to_bytes();
        let sealed = SealKey::try_from(&sent[..]).unwrap().seal(b"", plain("x"));
        assert_eq!(key.open(b"", &sealed.unwrap()).unwrap().as_slice(), b"x");
        assert_eq!(SealKey::try_from(&sent[1..]), Err(Error::Key(31)));
        let weak = SealKey::try_from(&[0; 32][..]).unwrap();
        assert_eq!(weak.seal(b"", plain("x")), Err(Error::Unopened));
    }
}
