//! What can be wrong with a key, a request or a certificate.

/// A key, a signing request or a certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system gave no random numbers.
    #[error("no random numbers from the operating system")]
    Random(#[source] getrandom::Error),
    /// Text that should be PEM is not.
    #[error("{what} is not valid PEM: {why}")]
    Pem {
        /// What was being read.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
    /// A key that cannot be read, made or used.
    #[error("cannot {doing} the private key")]
    Key {
        /// What was being done with it.
        doing: &'static str,
        /// The reason.
        #[source]
        source: rcgen::Error,
    },
    /// The key is encrypted and has to be unlocked first.
    #[error("the private key is encrypted")]
    KeyEncrypted,
    /// A request that is damaged, oversized, or not signed by its own key.
    #[error("the certificate request is refused: {why}")]
    Request {
        /// What is wrong with it.
        why: String,
    },
    /// A certificate whose content is not what it has to be.
    #[error("{what} is not usable: {why}")]
    Certificate {
        /// Which certificate.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The key does not belong to the certificate.
    #[error("the private key does not belong to {what}")]
    KeyMismatch {
        /// Which certificate.
        what: &'static str,
    },
    /// The certificate was not signed by a root of the bundle.
    #[error("the node certificate was not issued by this cluster's root")]
    Untrusted(#[source] rustls::Error),
    /// A certificate could not be signed.
    #[error("cannot sign a certificate")]
    Sign(#[source] rcgen::Error),
}
