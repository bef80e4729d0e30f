//! Who issued a certificate, by name and key: what a node tells of itself, and what the replacement
//! of the root compares.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::X509Certificate;

use crate::certificate::{ROOT, certificates, parse, parse_authority};
use crate::{Error, RootBundle};

/// An issuer's name and public key, each as base64 of its DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The name.
    pub subject: String,
    /// The public key.
    pub public_key: String,
}

impl Issuer {
    /// What nodes name as their issuer once this root has issued their certificates.
    ///
    /// # Errors
    /// When the text holds no certificate of an authority.
    pub fn of_root(pem: &str) -> Result<Self, Error> {
        let certs = certificates(ROOT, pem.as_bytes())?;
        parse_authority(&certs[0])?;
        let root = parse(&certs[0]).map_err(|why| Error::Certificate { what: ROOT, why })?;
        Ok(Self::new(&root))
    }

    /// Looks for the issuer of `chain`'s first certificate among the others and the roots.
    pub(crate) fn of_chain(chain: &[CertificateDer<'_>], roots: &RootBundle) -> Option<Self> {
        let leaf = parse(chain.first()?).ok()?;
        let candidates = chain[1..].iter().chain(roots.certs());
        candidates
            .filter_map(|candidate| parse(candidate).ok())
            .find(|candidate| has_signed(candidate, &leaf))
            .map(|issuer| Self::new(&issuer))
    }

    fn new(cert: &X509Certificate<'_>) -> Self {
        Self {
            subject: STANDARD.encode(cert.subject().as_raw()),
            public_key: STANDARD.encode(cert.public_key().raw),
        }
    }
}

/// Whether the key of `issuer` has signed `cert`, which names it.
pub(crate) fn has_signed(issuer: &X509Certificate<'_>, cert: &X509Certificate<'_>) -> bool {
    issuer.subject().as_raw() == cert.issuer().as_raw()
        && cert.verify_signature(Some(issuer.public_key())).is_ok()
}
