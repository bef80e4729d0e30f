//! Signing certificates for users of other machines.

use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
};
use types::Timestamp;

use super::{RootCa, random_serial, validity_period};
use crate::certificate::public_key_of_csr;
use crate::subject::client_unit;
use crate::{ClientSubject, Error};

impl RootCa {
    /// Signs a certificate that lets its holder ask managers, but answer for none: it has no name
    /// that a server is asked for, and is no server's.
    ///
    /// As with [`RootCa::issue`] only the public key is taken from the request. Returns PEM.
    ///
    /// # Errors
    /// When the request is damaged, is not signed by its own key, or is not for an ECDSA P-256 key.
    pub fn issue_client(
        &self,
        csr_pem: &str,
        subject: &ClientSubject,
        validity: Duration,
        now: Timestamp,
    ) -> Result<String, Error> {
        let public_key = public_key_of_csr(csr_pem)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in [
            (DnType::OrganizationName, subject.cluster_id.to_string()),
            (
                DnType::OrganizationalUnitName,
                client_unit(subject.role).to_owned(),
            ),
            (DnType::CommonName, subject.client_id.to_string()),
        ] {
            params.distinguished_name.push(kind, value);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(random_serial()?);
        (params.not_before, params.not_after) = validity_period(now, validity, self.not_after);
        let cert = params
            .signed_by(&public_key, &self.issuer)
            .map_err(Error::Sign)?;
        Ok(cert.pem())
    }
}
