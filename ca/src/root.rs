//! The cluster's root certificate and key, and the signing of node certificates.

use std::fmt;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;
use types::{NodeRole, Timestamp};
use zeroize::Zeroizing;

use crate::certificate::{parse_authority, public_key_of_csr};
use crate::{CA_NAME, Error, PrivateKey, RootBundle, Subject, organizational_unit};

/// How long a root lasts: 20 years of 365 days (SwarmKit `RootCAExpiration`, 630720000 s).
pub const ROOT_VALIDITY: Duration = Duration::from_secs(630_720_000);
/// How long a node certificate lasts unless the cluster says otherwise: 90 days (S11.01).
pub const NODE_VALIDITY_DEFAULT: Duration = Duration::from_secs(2160 * 3600);
/// Shortest validity that is honoured; below it the default is used (SwarmKit `MinNodeCertExpiration`).
pub const NODE_VALIDITY_MIN: Duration = Duration::from_secs(3600);
/// How far back validity begins, for peers whose clocks are behind (SwarmKit `CertBackdate`).
pub const BACKDATE: Duration = Duration::from_secs(3600);

/// The validity used when the cluster's settings ask for `asked`. `min` is [`NODE_VALIDITY_MIN`]
/// but in tests that cannot wait so long.
#[must_use]
pub fn effective_validity(asked: Duration, min: Duration) -> Duration {
    if asked < min {
        NODE_VALIDITY_DEFAULT
    } else {
        asked
    }
}

/// A root that can sign: certificate and key.
pub struct RootCa {
    issuer: Issuer<'static, PrivateKey>,
    bundle: RootBundle,
    not_after: Timestamp,
}

impl RootCa {
    /// A new self-signed root, ECDSA P-256, CN `swarm-ca`.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn generate(now: Timestamp) -> Result<Self, Error> {
        let key = PrivateKey::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, CA_NAME);
        params.serial_number = Some(random_serial()?);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) =
            validity_period(now, ROOT_VALIDITY, Timestamp(u64::MAX));
        let cert = params.self_signed(&key).map_err(Error::Sign)?;
        Self::new(cert.pem(), key)
    }

    /// Reads a root back: exactly one certificate, and the key that belongs to it.
    ///
    /// # Errors
    /// When either cannot be read, the certificate may not sign, or they do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        Self::new(certificate.to_owned(), PrivateKey::from_pem(key)?)
    }

    fn new(certificate: String, key: PrivateKey) -> Result<Self, Error> {
        const WHAT: &str = "the root certificate";
        let bundle = RootBundle::from_pem(certificate)?;
        let [root] = bundle.certs() else {
            return Err(Error::Certificate {
                what: WHAT,
                why: format!("there are {} of them, a signer has one", bundle.roots()),
            });
        };
        let authority = parse_authority(root)?;
        if authority.public_key_bits != key.public_key_bits() {
            return Err(Error::KeyMismatch { what: WHAT });
        }
        let issuer = Issuer::from_ca_cert_der(root, key).map_err(|e| Error::Certificate {
            what: WHAT,
            why: e.to_string(),
        })?;
        Ok(Self {
            issuer,
            bundle,
            not_after: authority.not_after,
        })
    }

    /// The root certificate, as the bundle that nodes trust.
    #[must_use]
    pub fn bundle(&self) -> &RootBundle {
        &self.bundle
    }

    /// The root's key as PEM: for the encrypted store, and nowhere else.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.issuer.key().to_pem()
    }

    /// Signs a certificate that says what `subject` says, for the public key in the request.
    ///
    /// Nothing but the public key is taken from the request: names, extensions and wishes to be an
    /// authority in it have no effect. Returns the chain as PEM, the node's certificate first.
    ///
    /// It is valid for `validity` ([`effective_validity`]), but never outlives its root.
    ///
    /// # Errors
    /// When the request is damaged, is not signed by its own key, or is not for an ECDSA P-256 key.
    pub fn issue(
        &self,
        csr_pem: &str,
        subject: &Subject,
        validity: Duration,
        now: Timestamp,
    ) -> Result<String, Error> {
        let public_key = public_key_of_csr(csr_pem)?;
        let mut params = node_params(subject)?;
        params.serial_number = Some(random_serial()?);
        (params.not_before, params.not_after) = validity_period(now, validity, self.not_after);
        let cert = params
            .signed_by(&public_key, &self.issuer)
            .map_err(Error::Sign)?;
        Ok(cert.pem())
    }
}

/// Everything in a node certificate but serial, period and key (S11.01).
fn node_params(subject: &Subject) -> Result<CertificateParams, Error> {
    let ou = organizational_unit(subject.role);
    let cn = subject.node_id.to_string();
    let mut names = vec![ou, &cn];
    if subject.role == NodeRole::Manager {
        names.push(CA_NAME);
    }
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .into_iter()
        .map(|name| Ok(SanType::DnsName(name.try_into()?)))
        .collect::<Result<_, rcgen::Error>>()
        .map_err(Error::Sign)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, subject.cluster_id.to_string());
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, ou);
    params.distinguished_name.push(DnType::CommonName, cn);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(params)
}

/// From an hour ago until `now + validity`, but not beyond `latest`.
fn validity_period(
    now: Timestamp,
    validity: Duration,
    latest: Timestamp,
) -> (OffsetDateTime, OffsetDateTime) {
    let since_epoch = |at: Timestamp| {
        OffsetDateTime::UNIX_EPOCH + Duration::from_secs(Duration::from_nanos(at.0).as_secs())
    };
    let begin = Timestamp(now.0.saturating_sub(Timestamp::default().plus(BACKDATE).0));
    (
        since_epoch(begin),
        since_epoch(now.plus(validity).min(latest)),
    )
}

/// 128 random bits: two certificates of one issuer never share a number, even for the same key.
fn random_serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    // A serial is a positive number without leading zero bytes (RFC 5280, 4.1.2.2).
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

mod cross;

pub use cross::{ROOT_VALIDITY_LEFT_MIN, check_next_root};

impl fmt::Debug for RootCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootCa")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

mod client;
#[cfg(test)]
mod tests;
