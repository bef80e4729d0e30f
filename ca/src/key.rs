//! The private key of a node or of the root, and the request it signs.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SigningKey};
use zeroize::{Zeroize, Zeroizing};

use crate::Error;

/// PEM tag of an unencrypted PKCS #8 key.
pub(crate) const PLAIN_KEY_TAG: &str = "PRIVATE KEY";
/// PEM tag of an encrypted PKCS #8 key.
pub(crate) const ENCRYPTED_KEY_TAG: &str = "ENCRYPTED PRIVATE KEY";

/// An ECDSA P-256 key (a root given by the user may be another kind); wiped from memory on drop.
pub struct PrivateKey {
    pair: KeyPair,
}

impl PrivateKey {
    /// A new ECDSA P-256 key.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let pair =
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|source| Error::Key {
                doing: "make",
                source,
            })?;
        Ok(Self { pair })
    }

    /// Reads an unencrypted PKCS #8 key.
    ///
    /// # Errors
    /// When the text is not such a key, or is one that is encrypted.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let block = pem::parse(text).map_err(|e| Error::Pem {
            what: "the private key",
            why: e.to_string(),
        })?;
        let tag = block.tag().to_owned();
        let der = Zeroizing::new(block.into_contents());
        match tag.as_str() {
            PLAIN_KEY_TAG => Self::from_der(&der),
            ENCRYPTED_KEY_TAG => Err(Error::KeyEncrypted),
            other => Err(Error::Pem {
                what: "the private key",
                why: format!("it holds a {other}, not a PKCS #8 {PLAIN_KEY_TAG}"),
            }),
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, Error> {
        let pair = KeyPair::try_from(der).map_err(|source| Error::Key {
            doing: "read",
            source,
        })?;
        Ok(Self { pair })
    }

    /// The key as PKCS #8 PEM.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.pair.serialize_pem())
    }

    /// The public key's bits, as they stand in a certificate for it.
    pub(crate) fn public_key_bits(&self) -> &[u8] {
        self.pair.der_bytes()
    }

    /// A copy for rustls.
    pub(crate) fn to_rustls(&self) -> rustls::pki_types::PrivateKeyDer<'static> {
        rustls::pki_types::PrivatePkcs8KeyDer::from(self.pair.serialized_der().to_vec()).into()
    }

    /// Asks for a certificate for this key.
    ///
    /// The request names nobody: who the certificate speaks of is the signer's decision.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn csr_pem(&self) -> Result<String, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .serialize_request(&self.pair)
            .and_then(|csr| csr.pem())
            .map_err(|source| Error::Key {
                doing: "sign a request with",
                source,
            })
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.pair.algorithm()
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.pair.sign(message)
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.pair.zeroize();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}
