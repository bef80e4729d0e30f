//! Reading X.509 certificates and signing requests: the one place that names `x509-parser`.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use types::Timestamp;
use types::node::KeyDigest;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256,
};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::time::ASN1Time;

use crate::subject::{client_role_of, role_of};
use crate::{Certified, ClientIdentity, Error, PeerIdentity, Subject};

/// Largest request that is looked at, in bytes of PEM. Ours have about 400.
pub(crate) const CSR_LEN_MAX: usize = 16 * 1024;

pub(crate) const NODE: &str = "the node certificate";
const CLIENT: &str = "the client certificate";
pub(crate) const ROOT: &str = "the root certificate";

/// What a node certificate says, read once.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) subject: Subject,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) public_key_bits: Vec<u8>,
}

impl Leaf {
    pub(crate) fn peer(&self) -> PeerIdentity {
        PeerIdentity {
            node_id: self.subject.node_id,
            role: self.subject.role,
            cluster_id: self.subject.cluster_id,
            cert_not_before: self.not_before,
            cert_not_after: self.not_after,
        }
    }
}

/// Reads a node certificate. Says nothing about who signed it.
pub(crate) fn parse_leaf(der: &[u8]) -> Result<Leaf, Error> {
    let refuse = |why: String| Error::Certificate { what: NODE, why };
    let cert = parse(der).map_err(refuse)?;
    let name = cert.subject();
    let cluster_id = only(name, "O", name.iter_organization())
        .and_then(|o| o.parse().map_err(|e| format!("O is not a cluster id: {e}")))
        .map_err(refuse)?;
    let role = only(name, "OU", name.iter_organizational_unit())
        .and_then(|ou| role_of(ou).ok_or_else(|| format!("OU {ou:?} is not a role")))
        .map_err(refuse)?;
    let node_id = only(name, "CN", name.iter_common_name())
        .and_then(|cn| cn.parse().map_err(|e| format!("CN is not a node id: {e}")))
        .map_err(refuse)?;
    if cert.is_ca() {
        return Err(refuse("it is a certificate authority".to_owned()));
    }
    Ok(Leaf {
        subject: Subject {
            cluster_id,
            role,
            node_id,
        },
        not_before: timestamp(cert.validity().not_before),
        not_after: timestamp(cert.validity().not_after),
        public_key_bits: cert.public_key().subject_public_key.data.to_vec(),
    })
}

/// Reads the certificate of whoever connected: a node's or a client's.
pub(crate) fn parse_certified(der: &[u8]) -> Result<Certified, Error> {
    let refuse = |why: String| Error::Certificate { what: CLIENT, why };
    let cert = parse(der).map_err(refuse)?;
    let name = cert.subject();
    let unit = only(name, "OU", name.iter_organizational_unit()).map_err(refuse)?;
    let Some(role) = client_role_of(unit) else {
        return Ok(Certified::Node(parse_leaf(der)?.peer()));
    };
    let cluster_id = only(name, "O", name.iter_organization())
        .and_then(|o| o.parse().map_err(|e| format!("O is not a cluster id: {e}")))
        .map_err(refuse)?;
    let client_id = only(name, "CN", name.iter_common_name())
        .and_then(|cn| {
            cn.parse()
                .map_err(|e| format!("CN is not a client id: {e}"))
        })
        .map_err(refuse)?;
    if cert.is_ca() {
        return Err(refuse("it is a certificate authority".to_owned()));
    }
    Ok(Certified::Client(ClientIdentity {
        client_id,
        role,
        cluster_id,
        cert_not_after: timestamp(cert.validity().not_after),
    }))
}

/// What the key of a certificate is known by.
pub(crate) fn key_digest(der: &[u8]) -> Result<KeyDigest, Error> {
    let cert = parse(der).map_err(|why| Error::Certificate { what: NODE, why })?;
    let key = &cert.public_key().subject_public_key.data;
    Ok(KeyDigest(crate::bundle::digest(key)))
}

/// What a signer needs to know of its own root.
pub(crate) struct Authority {
    pub(crate) not_after: Timestamp,
    pub(crate) public_key_bits: Vec<u8>,
}

/// Reads a root certificate and checks that it may sign others.
pub(crate) fn parse_authority(der: &[u8]) -> Result<Authority, Error> {
    let refuse = |why: String| Error::Certificate { what: ROOT, why };
    let cert = parse(der).map_err(refuse)?;
    if !cert.is_ca() {
        return Err(refuse("it is not a certificate authority".to_owned()));
    }
    let usage = cert.key_usage().map_err(|e| refuse(e.to_string()))?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(refuse(
            "its key usage does not allow signing certificates".to_owned(),
        ));
    }
    Ok(Authority {
        not_after: timestamp(cert.validity().not_after),
        public_key_bits: cert.public_key().subject_public_key.data.to_vec(),
    })
}

/// Takes the public key, and nothing else, out of a request that its own key has signed.
pub(crate) fn public_key_of_csr(pem_text: &str) -> Result<rcgen::SubjectPublicKeyInfo, Error> {
    let refuse = |why: String| Error::Request { why };
    if pem_text.len() > CSR_LEN_MAX {
        return Err(refuse(format!("it is longer than {CSR_LEN_MAX} bytes")));
    }
    let block = pem::parse(pem_text).map_err(|e| refuse(e.to_string()))?;
    if block.tag() != "CERTIFICATE REQUEST" {
        return Err(refuse(format!(
            "it is a {}, not a CERTIFICATE REQUEST",
            block.tag()
        )));
    }
    let (rest, csr) = X509CertificationRequest::from_der(block.contents())
        .map_err(|e| refuse(format!("it cannot be read: {e}")))?;
    if !rest.is_empty() {
        return Err(refuse("bytes follow it".to_owned()));
    }
    let public_key = &csr.certification_request_info.subject_pki;
    let curve = public_key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|p| p.as_oid().ok());
    if public_key.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve != Some(OID_EC_P256) {
        return Err(refuse("its key is not ECDSA P-256".to_owned()));
    }
    if csr.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 {
        return Err(refuse("it is not signed with ECDSA and SHA-256".to_owned()));
    }
    csr.verify_signature()
        .map_err(|_| refuse("its own key has not signed it".to_owned()))?;
    rcgen::SubjectPublicKeyInfo::from_der(public_key.raw).map_err(|e| refuse(e.to_string()))
}

/// Takes the certificates out of PEM text, in their order.
pub(crate) fn certificates(
    what: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certs = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Error::Pem {
            what,
            why: e.to_string(),
        })?;
    if certs.is_empty() {
        return Err(Error::Pem {
            what,
            why: "it holds no certificate".to_owned(),
        });
    }
    Ok(certs)
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    let (rest, cert) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
    if rest.is_empty() {
        Ok(cert)
    } else {
        Err("bytes follow it".to_owned())
    }
}

/// The value of an attribute that has to stand exactly once.
///
/// Two values would let the signer and the reader each see another one.
fn only<'a>(
    name: &X509Name<'_>,
    attribute: &str,
    mut values: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Result<&'a str, String> {
    let value = values
        .next()
        .ok_or_else(|| format!("{name:?} has no {attribute}"))?;
    if values.next().is_some() {
        return Err(format!("it has more than one {attribute}"));
    }
    value
        .as_str()
        .map_err(|e| format!("its {attribute} is not text: {e}"))
}

/// Certificates count whole seconds and may lie before 1970; neither happens in ours.
fn timestamp(at: ASN1Time) -> Timestamp {
    Timestamp::from_secs(u64::try_from(at.timestamp()).unwrap_or(0))
}
