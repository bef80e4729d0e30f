//! Issuing identity: join tokens against certificates, and certificates against newer ones.
//!
//! Every manager can sign: it holds the whole store, the signing key included. What the token or
//! the caller's certificate says decides what is issued; of the request only the public key counts.
//! A node whose certificate is of no use any more proves itself by the key it was last certified for.

mod authority;
mod bad_tokens;
mod entry;
mod issue;
mod rotation;
mod service;

pub use issue::{Issued, Refusal};
pub use rotation::{BATCH_MAX, RootRotator};
pub use service::{Options, Signer};
