//! What a user of another machine shows to managers: key, certificate and the roots to trust.

use std::sync::Arc;

use rustls::ClientConfig;
use tonic::transport::Channel;

use crate::certificate::{certificates, parse, parse_certified};
use crate::tls;
use crate::{Certified, ClientIdentity, Error, PrivateKey, RootBundle};

const WHAT: &str = "the client certificate";

/// A client's certificate with its key, ready to dial managers.
#[derive(Clone)]
pub struct ClientCredential {
    identity: ClientIdentity,
    config: Arc<ClientConfig>,
}

impl ClientCredential {
    /// Puts a credential together.
    ///
    /// # Errors
    /// When the certificate is not a client's, is for another key, or rustls refuses a part.
    pub fn new(key: &PrivateKey, certificate_pem: &str, roots: &RootBundle) -> Result<Self, Error> {
        let chain = certificates(WHAT, certificate_pem.as_bytes())?;
        let refuse = |why: String| Error::Certificate { what: WHAT, why };
        let Certified::Client(identity) = parse_certified(&chain[0])? else {
            return Err(refuse("it is that of a node".to_owned()));
        };
        let leaf = parse(&chain[0]).map_err(refuse)?;
        if leaf.public_key().subject_public_key.data.as_ref() != key.public_key_bits() {
            return Err(Error::KeyMismatch { what: WHAT });
        }
        let config = tls::credential_config(key, chain, roots).map_err(Error::Untrusted)?;
        Ok(Self { identity, config })
    }

    /// What the certificate says.
    #[must_use]
    pub fn identity(&self) -> ClientIdentity {
        self.identity
    }

    /// Dials a manager of the client's cluster.
    ///
    /// # Errors
    /// When nobody answers, or not a manager of that cluster. That the manager refuses the
    /// certificate shows only in the first RPC, see [`tls::refusal`].
    pub async fn connect(&self, addr: &str) -> Result<Channel, tls::Error> {
        tls::client_channel(addr, Arc::clone(&self.config), self.identity.cluster_id).await
    }
}

impl std::fmt::Debug for ClientCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ClientCredential")
            .field(&self.identity)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use types::access::ClientRole;
    use types::{ClientId, ClusterId, Timestamp};

    use super::*;
    use crate::{ClientSubject, RootCa};

    #[test]
    fn key_and_certificate_must_belong_together() {
        let now = Timestamp::now();
        let root = RootCa::generate(now).unwrap();
        let subject = ClientSubject {
            cluster_id: ClusterId::from_number(1),
            role: ClientRole::Operator,
            client_id: ClientId::from_number(2),
        };
        let key = PrivateKey::generate().unwrap();
        let day = Duration::from_secs(86_400);
        let cert = root
            .issue_client(&key.csr_pem().unwrap(), &subject, day, now)
            .unwrap();
        let credential = ClientCredential::new(&key, &cert, root.bundle()).unwrap();
        let identity = credential.identity();
        assert_eq!(identity.client_id, subject.client_id);
        assert_eq!(identity.role, subject.role);
        let left = identity.cert_not_after.since(now);
        assert!(
            left > day - Duration::from_secs(2) && left <= day,
            "{left:?}"
        );
        let other = PrivateKey::generate().unwrap();
        let error = ClientCredential::new(&other, &cert, root.bundle()).unwrap_err();
        assert!(matches!(error, Error::KeyMismatch { .. }), "{error}");
    }
}
