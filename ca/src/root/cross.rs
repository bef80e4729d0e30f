//! What the replacement of a root needs: the checks on the one that is to follow, and the
//! certificate by which the present one vouches for it.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, KeyUsagePurpose,
    SubjectPublicKeyInfo,
};
use time::OffsetDateTime;
use types::Timestamp;
use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::{X509Certificate, X509Name};

use super::{RootCa, random_serial};
use crate::certificate::{ROOT, certificates, parse, parse_authority};
use crate::{BACKDATE, Error, PrivateKey};

/// Least time a root that is to follow must have left (SwarmKit `minRootExpiration`, S11.10).
pub const ROOT_VALIDITY_LEFT_MIN: Duration = Duration::from_secs(365 * 24 * 3600);

/// Checks a root that is to follow: exactly one certificate, of an authority, signed by itself, with
/// a year left, and the key that belongs to it, if there is one.
///
/// # Errors
/// What is wrong with it.
pub fn check_next_root(cert_pem: &str, key_pem: &str, now: Timestamp) -> Result<(), Error> {
    let refuse = |why: String| Error::Certificate { what: ROOT, why };
    let certs = certificates(ROOT, cert_pem.as_bytes())?;
    let [der] = certs.as_slice() else {
        return Err(refuse(format!(
            "there are {} certificates, exactly one has to be there",
            certs.len()
        )));
    };
    let authority = parse_authority(der)?;
    let cert = parse(der).map_err(refuse)?;
    if cert.subject().as_raw() != cert.issuer().as_raw() || cert.verify_signature(None).is_err() {
        return Err(refuse("it is not signed by its own key".to_owned()));
    }
    if now.plus(ROOT_VALIDITY_LEFT_MIN) > authority.not_after {
        return Err(refuse(format!(
            "it is valid until {}, and has to be for a year at least",
            authority.not_after
        )));
    }
    if cert.validity().not_before.timestamp() > i64::try_from(now.0 / 1_000_000_000).unwrap_or(0) {
        return Err(refuse(format!(
            "it is not valid before {}",
            cert.validity().not_before
        )));
    }
    if !key_pem.is_empty() {
        let key = PrivateKey::from_pem(key_pem)?;
        if authority.public_key_bits != key.public_key_bits() {
            return Err(Error::KeyMismatch { what: ROOT });
        }
    }
    Ok(())
}

impl RootCa {
    /// Vouches for another root: a certificate for its key and name, signed by this one's key. Who
    /// trusts this root accepts what that one issues when this is in the chain.
    ///
    /// # Errors
    /// When the other is not a root, or has a name or key that cannot be written again.
    pub fn cross_sign(&self, next_pem: &str, now: Timestamp) -> Result<String, Error> {
        let refuse = |why: String| Error::Certificate { what: ROOT, why };
        let certs = certificates(ROOT, next_pem.as_bytes())?;
        let authority = parse_authority(&certs[0])?;
        let next = parse(&certs[0]).map_err(refuse)?;
        let key = SubjectPublicKeyInfo::from_der(next.public_key().raw)
            .map_err(|error| refuse(format!("its key is of a kind that is not known: {error}")))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name_of(&next).map_err(refuse)?;
        params.serial_number = Some(random_serial()?);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let begin = Duration::from_nanos(now.0).saturating_sub(BACKDATE);
        params.not_before = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(begin.as_secs());
        let end = Duration::from_nanos(authority.not_after.min(self.not_after).0);
        params.not_after = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(end.as_secs());
        let cross = params.signed_by(&key, &self.issuer).map_err(Error::Sign)?;
        let written = parse(cross.der()).map_err(refuse)?;
        if written.subject().as_raw() == next.subject().as_raw() {
            Ok(cross.pem())
        } else {
            Err(refuse("its name cannot be written again".to_owned()))
        }
    }
}

impl RootCa {
    /// Asks somebody else to vouch for this root: a request with its name, signed by its key.
    ///
    /// # Errors
    /// When its name cannot be written again or its key cannot sign.
    pub fn request_pem(&self) -> Result<String, Error> {
        let root =
            parse(&self.bundle.certs()[0]).map_err(|why| Error::Certificate { what: ROOT, why })?;
        let mut params = CertificateParams::default();
        params.distinguished_name =
            name_of(&root).map_err(|why| Error::Certificate { what: ROOT, why })?;
        let request = params.serialize_request(self.issuer.key());
        request.and_then(|it| it.pem()).map_err(Error::Sign)
    }
}

/// The subject, attribute by attribute, with the same kinds of text.
fn name_of(cert: &X509Certificate<'_>) -> Result<DistinguishedName, String> {
    let name: &X509Name<'_> = cert.subject();
    let mut copy = DistinguishedName::new();
    for attribute in name.iter_attributes() {
        let oid: Vec<u64> = attribute
            .attr_type()
            .iter()
            .ok_or("its name has an attribute that cannot be read")?
            .collect();
        let text = attribute
            .as_str()
            .map_err(|error| format!("its name is not text: {error}"))?;
        let unfit = |_| format!("its name holds {text:?}, which does not fit its kind of text");
        let value = match attribute.attr_value().tag() {
            Tag::PrintableString => DnValue::PrintableString(text.try_into().map_err(unfit)?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into().map_err(unfit)?),
            // The check at the end finds what is not this.
            _ => DnValue::Utf8String(text.to_owned()),
        };
        copy.push(DnType::from_oid(&oid), value);
    }
    Ok(copy)
}
