//! Seals content so that its plaintext never lies in a buffer nobody wipes.
//!
//! Two kinds of envelopes, both XChaCha20-Poly1305 with what the content is (`context`) bound in:
//!
//! - [`SealKey`] and [`OpenKey`]: for one receiver on the other side of a connection. Transports
//!   copy what they carry into buffers of their own; they only ever carry envelopes.
//! - [`StoreKey`]: for the managers' store, log and snapshots.
//!
//! Everything is sealed and opened in place, in buffers that are wiped when they are dropped.

mod receiver;
mod store;

pub use receiver::{OpenKey, SealKey};
pub use store::StoreKey;
pub use zeroize::Zeroizing;

/// Bytes nobody else holds, wiped when dropped.
pub type Plain = Zeroizing<Vec<u8>>;

/// Why something could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The envelope is cut off, was changed, is of another kind or is meant for somebody else.
    #[error("the sealed content cannot be opened: it was changed, or sealed for somebody else")]
    Unopened,
    /// Bytes that are no key.
    #[error("{0} bytes are no key: one has 32")]
    Key(usize),
    /// The operating system gave no randomness.
    #[error("no randomness to be had")]
    Randomness,
}

/// Bytes of every key.
const KEY_LEN: usize = 32;
/// Bytes of the authentication tag.
const TAG_LEN: usize = 16;

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Error::Randomness)?;
    Ok(bytes)
}
