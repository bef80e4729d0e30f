//! Why a connection between nodes cannot be made.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};

use super::ExpectRole;
use crate::PeerIdentity;

/// A connection that cannot be made, or an identity that rustls refuses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This node has no certificate.
    #[error("this node has no certificate: it is not part of a cluster")]
    NoIdentity,
    /// Key, chain or roots do not work for TLS.
    #[error("the node's certificate cannot be used for TLS")]
    Config(#[source] rustls::Error),
    /// Not an address.
    #[error("{addr:?} is not an address of the form host:port")]
    Address {
        /// What was given.
        addr: String,
        /// The parser's words.
        #[source]
        source: tonic::transport::Error,
    },
    /// TCP failed.
    #[error("cannot connect to {addr}")]
    Connect {
        /// The address.
        addr: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The other end did not answer in time.
    #[error("{addr} did not complete the connection within {} s", after.as_secs())]
    Timeout {
        /// The address.
        addr: String,
        /// The limit.
        after: Duration,
    },
    /// TLS failed; [`refusal`] says whose certificate was at fault.
    #[error("no secure connection with {addr}")]
    Handshake {
        /// The address.
        addr: String,
        /// Wraps a `rustls::Error` when TLS, not TCP, was at fault.
        #[source]
        source: io::Error,
    },
    /// The other end's certificate is signed by a trusted root but is not a node certificate.
    #[error("the certificate of {addr} is not one of a node")]
    Certificate {
        /// The address.
        addr: String,
        /// What is wrong with it.
        #[source]
        source: crate::Error,
    },
    /// Somebody else answered.
    #[error("{addr} is {} {} of cluster {}, not the {expected} that was dialled", found.role, found.node_id, found.cluster_id)]
    WrongPeer {
        /// The address.
        addr: String,
        /// Who answered.
        found: Box<PeerIdentity>,
        /// Who was meant.
        expected: ExpectRole,
    },
    /// The first connection of a channel failed; its sources say why.
    #[error("cannot reach {addr}")]
    Unreachable {
        /// The address.
        addr: String,
        /// The reason.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Whose certificate made a connection fail.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The other end refused ours: expired, of another cluster, or missing.
    OurCertificate,
    /// We refused theirs.
    TheirCertificate(CertificateError),
}

/// Looks through an error and its sources for a refused certificate.
///
/// With TLS 1.3 the refusal of a client's certificate arrives after the handshake, so it shows in
/// the status of the first RPC rather than in connecting: pass that status, too.
#[must_use]
pub fn refusal(error: &(dyn StdError + 'static)) -> Option<Refusal> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = find_rustls(error) {
            return of_rustls(found);
        }
        if is_refusal_in_words(error) {
            return Some(Refusal::OurCertificate);
        }
        next = error.source();
    }
    None
}

/// What a peer that does not like our certificate may send.
const CERTIFICATE_ALERTS: [AlertDescription; 9] = [
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    // Two roots of one name: the signature is wrong rather than the issuer unknown.
    AlertDescription::DecryptError,
    AlertDescription::CertificateRequired,
];

/// `io::Error::source` skips the error that it wraps, so that one is asked for by itself.
fn find_rustls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref::<rustls::Error>() {
        return Some(found);
    }
    let wrapped: &'a (dyn StdError + 'static) = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)?;
    find_rustls(wrapped)
}

fn of_rustls(error: &rustls::Error) -> Option<Refusal> {
    match error {
        rustls::Error::InvalidCertificate(reason) => {
            Some(Refusal::TheirCertificate(reason.clone()))
        }
        rustls::Error::AlertReceived(alert) if CERTIFICATE_ALERTS.contains(alert) => {
            Some(Refusal::OurCertificate)
        }
        // rustls has many more errors, and none of them is about a certificate.
        _ => None,
    }
}

/// The HTTP/2 library keeps of an error in mid-connection only its words.
fn is_refusal_in_words(error: &(dyn StdError + 'static)) -> bool {
    let words = error.to_string();
    CERTIFICATE_ALERTS
        .into_iter()
        .any(|alert| words == rustls::Error::AlertReceived(alert).to_string())
}
