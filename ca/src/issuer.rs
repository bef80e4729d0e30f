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

    /// The root that `chain` leads to: the first issuer on the way up whose name and key one of the
    /// roots has. Intermediates of an external authority are passed over.
    pub(crate) fn of_chain(chain: &[CertificateDer<'_>], roots: &RootBundle) -> Option<Self> {
        let trusted: Vec<_> = roots
            .certs()
            .iter()
            .filter_map(|it| parse(it).ok())
            .collect();
        let between: Vec<_> = chain
            .get(1..)?
            .iter()
            .filter_map(|it| parse(it).ok())
            .collect();
        let mut below = parse(chain.first()?).ok()?;
        for _ in 0..=between.len() {
            let mut all = trusted.iter().chain(&between);
            let issuer = all.find(|candidate| has_signed(candidate, &below))?;
            let issuer_is = Self::new(issuer);
            if trusted.iter().any(|root| Self::new(root) == issuer_is) {
                return Some(issuer_is);
            }
            below = issuer.clone();
        }
        None
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
