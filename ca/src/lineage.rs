//! From a root that was replaced to the one that followed it: how a node that was off finds its
//! cluster again.
//!
//! Whenever the root is replaced, the former one signs a certificate for the key of the next. A node
//! that trusts a former root follows those signatures, and trusts nothing that is not signed so.

use rustls::pki_types::CertificateDer;
use types::Timestamp;
use x509_parser::prelude::X509Certificate;

use crate::certificate::{ROOT, certificates, parse, parse_authority};
use crate::issuer::has_signed;
use crate::{Error, RootBundle};

/// Most certificates that are followed: they come from a peer that is not trusted yet.
pub const LINEAGE_MAX: usize = 16;

const WHAT: &str = "the lineage of the root";

impl RootBundle {
    /// Takes the roots of `offered` as this bundle's successors, if each is one of these roots or
    /// `lineage` leads to it: PEM certificates, each for the key of a later root signed by an
    /// earlier one.
    ///
    /// # Errors
    /// When a root is offered that no signature leads to, or something is not a certificate.
    pub fn follow(
        &self,
        lineage: &[String],
        offered: RootBundle,
        now: Timestamp,
    ) -> Result<RootBundle, Error> {
        let steps = steps(lineage, now)?;
        let mut trusted: Vec<X509Certificate<'_>> =
            self.certs().iter().map(read).collect::<Result<_, _>>()?;
        let mut left: Vec<X509Certificate<'_>> =
            steps.iter().map(read).collect::<Result<_, _>>()?;
        // Each round follows the steps that begin at a key known by now.
        loop {
            let (known, rest): (Vec<_>, Vec<_>) = left
                .into_iter()
                .partition(|step| trusted.iter().any(|root| has_signed(root, step)));
            left = rest;
            if known.is_empty() {
                break;
            }
            trusted.extend(known);
        }
        for root in offered.certs() {
            let root = read(root)?;
            let is_known = trusted.iter().any(|known| {
                known.subject().as_raw() == root.subject().as_raw()
                    && known.public_key().raw == root.public_key().raw
            });
            if !is_known {
                return Err(Error::Certificate {
                    what: WHAT,
                    why: "no signature leads from the roots this node trusts to the one that is \
                          offered"
                        .to_owned(),
                });
            }
        }
        Ok(offered)
    }
}

fn read<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    parse(der).map_err(|why| Error::Certificate { what: ROOT, why })
}

/// The certificates that may be followed: of authorities, valid now.
fn steps(lineage: &[String], now: Timestamp) -> Result<Vec<CertificateDer<'static>>, Error> {
    let mut steps = vec![];
    for pem in lineage {
        steps.extend(certificates(WHAT, pem.as_bytes())?);
        if steps.len() > LINEAGE_MAX {
            return Err(Error::Certificate {
                what: WHAT,
                why: format!("it has more than {LINEAGE_MAX} certificates"),
            });
        }
    }
    steps.retain(|step| parse_authority(step).is_ok_and(|step| now < step.not_after));
    Ok(steps)
}
