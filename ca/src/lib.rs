//! Keys, certificates, join tokens and the TLS of a node; knows no store and no messages of ours.
//!
//! The story of a node's identity, in the order of the modules:
//!
//! 1. [`RootCa`] is the cluster's own authority. A manager that holds it signs requests.
//! 2. [`JoinToken`] lets a new node check the root it is shown, and shows what role it may take.
//! 3. [`PrivateKey::csr_pem`] asks for a certificate, [`Identity`] is key, chain and roots together.
//! 4. [`NodeFiles`] keeps the identity on disk so that no crash leaves half of it.
//! 5. [`Tls`] speaks for the identity on the network and swaps it without a restart.
//! 6. [`authorize`] decides for every RPC whether this caller may make it.
//!
//! Two tasks live in here, both inside the streams that [`tls::incoming`] and [`unix::incoming`]
//! return: one handshake per connection being opened, aborted when the stream is dropped.

mod base36;
mod bundle;
mod certificate;
mod credential;
mod error;
mod files;
mod identity;
mod issued;
mod issuer;
mod key;
mod key_file;
mod limits;
mod lineage;
mod root;
mod subject;
mod token;
mod unlock_key;

pub mod authorize;
pub mod external;
pub mod tls;
pub mod unix;

pub use bundle::RootBundle;
pub use credential::ClientCredential;
pub use error::Error;
pub use files::{FilesError, NodeFiles};
pub use identity::Identity;
pub use issued::{chain_key_digest, check_issued, csr_key_digest};
pub use issuer::Issuer;
pub use key::PrivateKey;
pub use key_file::{DataKey, KeyFile, KeyFileError};
pub use lineage::LINEAGE_MAX;
pub use root::{
    BACKDATE, NODE_VALIDITY_DEFAULT, NODE_VALIDITY_MIN, ROOT_VALIDITY, ROOT_VALIDITY_LEFT_MIN,
    RootCa, check_next_root, effective_validity,
};
pub use subject::{
    CA_NAME, Certified, ClientIdentity, ClientSubject, PeerIdentity, Subject, organizational_unit,
};
pub use tls::Tls;
pub use token::{JoinToken, TokenError};
pub use unlock_key::{UnlockKey, UnlockKeyError};
