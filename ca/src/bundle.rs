//! The roots a node trusts, kept as the exact bytes that the join token's digest covers.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use types::node::KeyDigest;

use crate::Error;
use crate::certificate::{certificates, key_digest, parse_authority};

/// Most roots in a bundle: one, or two during a rotation; the rest is room.
const ROOTS_MAX: usize = 8;
/// Longest bundle that is looked at, in bytes. It comes from an unknown peer when a node joins.
const BUNDLE_LEN_MAX: usize = 64 * 1024;

const WHAT: &str = "the root certificate bundle";

/// One root certificate, or the old and the new one during a rotation.
#[derive(Clone, PartialEq, Eq)]
pub struct RootBundle {
    pem: Arc<[u8]>,
    certs: Arc<[CertificateDer<'static>]>,
}

impl RootBundle {
    /// Reads a bundle and keeps its bytes as they are.
    ///
    /// # Errors
    /// When there is no certificate in it, too many, or one that may not sign others.
    pub fn from_pem(pem: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let pem = pem.into();
        let refuse = |why: String| Error::Certificate { what: WHAT, why };
        if pem.len() > BUNDLE_LEN_MAX {
            return Err(refuse(format!("it is longer than {BUNDLE_LEN_MAX} bytes")));
        }
        let certs = certificates(WHAT, &pem)?;
        if certs.len() > ROOTS_MAX {
            return Err(refuse(format!(
                "it holds more than {ROOTS_MAX} certificates"
            )));
        }
        for cert in &certs {
            parse_authority(cert)?;
        }
        Ok(Self {
            pem: pem.into(),
            certs: certs.into(),
        })
    }

    /// The exact bytes.
    #[must_use]
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// Number of roots.
    #[must_use]
    pub fn roots(&self) -> usize {
        self.certs.len()
    }

    /// SHA-256 of the exact PEM bytes: what a join token pins.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        digest(&self.pem)
    }

    /// The digest as nodes tell it: `sha256:` and hexadecimal digits.
    #[must_use]
    pub fn digest_text(&self) -> String {
        format!("sha256:{}", KeyDigest(self.digest()))
    }

    /// Whether these are the same certificates, however their text is written.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.certs == other.certs
    }

    /// Whether a certificate of this bundle is for the same key as one of the other.
    #[must_use]
    pub fn has_key_of(&self, other: &Self) -> bool {
        let keys = |bundle: &Self| -> Vec<_> {
            let keys = bundle.certs.iter().map(|cert| key_digest(cert));
            keys.filter_map(Result::ok).collect()
        };
        let theirs = keys(other);
        keys(self).iter().any(|key| theirs.contains(key))
    }

    pub(crate) fn certs(&self) -> &[CertificateDer<'static>] {
        &self.certs
    }

    pub(crate) fn store(&self) -> Result<Arc<RootCertStore>, rustls::Error> {
        let mut store = RootCertStore::empty();
        for cert in self.certs.iter() {
            store.add(cert.clone())?;
        }
        Ok(Arc::new(store))
    }
}

/// SHA-256 over the whole bundle, so that nobody in between can add a root of their own.
pub(crate) fn digest(pem: &[u8]) -> [u8; 32] {
    Sha256::digest(pem).into()
}

impl fmt::Debug for RootBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootBundle")
            .field("roots", &self.certs.len())
            .finish_non_exhaustive()
    }
}
