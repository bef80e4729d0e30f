//! Checks a certificate that somebody outside the swarm has signed: is it what was asked for?

use types::NodeRole;
use types::node::KeyDigest;
use x509_parser::extensions::GeneralName;

use crate::bundle::digest;
use crate::certificate::{NODE, certificates, key_digest, parse, parse_leaf, public_key_of_csr};
use crate::identity::{CHAIN_LEN_MAX, check_issuer};
use crate::{Error, RootBundle, Subject, organizational_unit};

/// Checks that the first certificate of `chain_pem` is for the key in the request and says what
/// `subject` says, and that the chain leads to one of the roots.
///
/// # Errors
/// What is not so.
pub fn check_issued(
    chain_pem: &str,
    csr_pem: &str,
    subject: &Subject,
    roots: &RootBundle,
) -> Result<(), Error> {
    let refuse = |why: String| Error::Certificate { what: NODE, why };
    let chain = certificates(NODE, chain_pem.as_bytes())?;
    if chain.len() > CHAIN_LEN_MAX {
        return Err(refuse(format!(
            "its chain has more than {CHAIN_LEN_MAX} certificates"
        )));
    }
    let leaf = parse_leaf(&chain[0])?;
    if leaf.subject != *subject {
        return Err(refuse(
            "it speaks of another node than asked for".to_owned(),
        ));
    }
    if key_digest(&chain[0])? != csr_key_digest(csr_pem)? {
        return Err(refuse("it is for another key than asked for".to_owned()));
    }
    let cert = parse(&chain[0]).map_err(refuse)?;
    let names = cert
        .subject_alternative_name()
        .map_err(|error| refuse(error.to_string()))?;
    let has = |wanted: &str| {
        names.as_ref().is_some_and(|names| {
            let mut names = names.value.general_names.iter();
            names.any(|name| matches!(name, GeneralName::DNSName(name) if *name == wanted))
        })
    };
    if !has(organizational_unit(subject.role)) {
        let unit = organizational_unit(subject.role);
        return Err(refuse(format!("it does not hold the name {unit:?}")));
    }
    // A worker's certificate that also held a manager's name would pass for one.
    if subject.role == NodeRole::Worker && has(organizational_unit(NodeRole::Manager)) {
        return Err(refuse("it holds a manager's name".to_owned()));
    }
    check_issuer(&chain, &leaf, roots).map_err(Error::Untrusted)
}

/// What the key in a request, which it has signed itself, is known by.
///
/// # Errors
/// When the request is damaged, not signed by its own key, or not for an ECDSA P-256 key.
pub fn csr_key_digest(csr_pem: &str) -> Result<KeyDigest, Error> {
    use rcgen::PublicKeyData as _;
    let key = public_key_of_csr(csr_pem)?;
    Ok(KeyDigest(digest(key.der_bytes())))
}

/// What the key of the first certificate in a chain is known by.
///
/// # Errors
/// When it is not a node's certificate.
pub fn chain_key_digest(chain_pem: &str) -> Result<KeyDigest, Error> {
    let chain = certificates(NODE, chain_pem.as_bytes())?;
    key_digest(&chain[0])
}
