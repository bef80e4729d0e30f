//! Who this node is: its key, its certificate chain and the roots it trusts, checked together.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use types::node::TlsInfo;
use types::{ClusterId, NodeId, NodeRole, Timestamp};

use crate::certificate::{Leaf, certificates, parse_leaf};
use crate::{BACKDATE, Error, Issuer, PeerIdentity, PrivateKey, RootBundle, Subject};

/// Longest chain that is accepted: leaf, cross-signed intermediate, and room.
pub(crate) const CHAIN_LEN_MAX: usize = 4;

/// Key, chain and roots that belong together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    key: Arc<PrivateKey>,
    chain: Arc<[CertificateDer<'static>]>,
    chain_pem: Arc<str>,
    roots: RootBundle,
    leaf: Arc<Leaf>,
}

impl Identity {
    /// Puts an identity together and checks that the parts fit.
    ///
    /// An expired certificate is accepted, so that a node that was off too long can say who it was.
    ///
    /// # Errors
    /// When the chain is damaged, is for another key, or was not issued by a root of the bundle.
    pub fn new(key: PrivateKey, chain_pem: &str, roots: RootBundle) -> Result<Self, Error> {
        Self::from_parts(Arc::new(key), chain_pem, roots)
    }

    fn from_parts(key: Arc<PrivateKey>, chain_pem: &str, roots: RootBundle) -> Result<Self, Error> {
        const WHAT: &str = "the node certificate";
        let chain = certificates(WHAT, chain_pem.as_bytes())?;
        if chain.len() > CHAIN_LEN_MAX {
            let why = format!("its chain has more than {CHAIN_LEN_MAX} certificates");
            return Err(Error::Certificate { what: WHAT, why });
        }
        let leaf = parse_leaf(&chain[0])?;
        if leaf.public_key_bits != key.public_key_bits() {
            return Err(Error::KeyMismatch { what: WHAT });
        }
        check_issuer(&chain, &leaf, &roots).map_err(Error::Untrusted)?;
        Ok(Self {
            key,
            chain: chain.into(),
            chain_pem: chain_pem.into(),
            roots,
            leaf: Arc::new(leaf),
        })
    }

    /// The same node trusting other roots, as a root rotation asks for.
    ///
    /// # Errors
    /// When none of them issued this node's certificate.
    pub fn with_roots(&self, roots: RootBundle) -> Result<Self, Error> {
        Self::from_parts(Arc::clone(&self.key), &self.chain_pem, roots)
    }

    /// The same node and key with another certificate.
    ///
    /// # Errors
    /// As for [`Identity::new`].
    pub fn with_certificate(&self, chain_pem: &str, roots: RootBundle) -> Result<Self, Error> {
        Self::from_parts(Arc::clone(&self.key), chain_pem, roots)
    }

    /// What the certificate says.
    #[must_use]
    pub fn subject(&self) -> Subject {
        self.leaf.subject
    }

    /// The cluster this node belongs to.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.leaf.subject.cluster_id
    }

    /// The role the certificate gives.
    #[must_use]
    pub fn role(&self) -> NodeRole {
        self.leaf.subject.role
    }

    /// This node's id.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.leaf.subject.node_id
    }

    /// This node as its peers see it.
    #[must_use]
    pub fn peer(&self) -> PeerIdentity {
        self.leaf.peer()
    }

    /// Begin of the certificate's validity.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.leaf.not_before
    }

    /// End of the certificate's validity.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.leaf.not_after
    }

    /// Whether the certificate has run out.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.leaf.not_after
    }

    /// When to ask for the next certificate: after 50 to 80 % of its life since it was issued
    /// (S11.05), which is [`BACKDATE`] after the begin of its validity.
    ///
    /// `random` is any number; nodes that joined together drift apart by it.
    #[must_use]
    pub fn renew_at(&self, random: u32) -> Timestamp {
        let backdated = self.leaf.not_before.plus(BACKDATE);
        let issued = if backdated < self.leaf.not_after {
            backdated
        } else {
            self.leaf.not_before
        };
        let life = self.leaf.not_after.since(issued);
        let share = 0.5 + 0.3 * (f64::from(random) / f64::from(u32::MAX));
        issued.plus(life.mul_f64(share))
    }

    /// Whom this node trusts and who issued its certificate, for others to see.
    #[must_use]
    pub fn tls_info(&self) -> TlsInfo {
        let issuer = Issuer::of_chain(&self.chain, &self.roots);
        let (cert_issuer_subject, cert_issuer_public_key) = issuer
            .map(|issuer| (issuer.subject, issuer.public_key))
            .unwrap_or_default();
        TlsInfo {
            trust_root_digest: self.roots.digest_text(),
            cert_issuer_subject,
            cert_issuer_public_key,
        }
    }

    /// The certificate chain, the node's own first.
    #[must_use]
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The roots this node trusts.
    #[must_use]
    pub fn roots(&self) -> &RootBundle {
        &self.roots
    }

    /// The node's key.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

/// Checks the signatures of the chain at a moment when it was surely valid, its last second.
pub(crate) fn check_issuer(
    chain: &[CertificateDer<'static>],
    leaf: &Leaf,
    roots: &RootBundle,
) -> Result<(), rustls::Error> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.store()?, crate::tls::provider())
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?;
    let last_second = Duration::from_nanos(leaf.not_after.0).saturating_sub(Duration::from_secs(1));
    verifier
        .verify_client_cert(
            &chain[0],
            &chain[1..],
            UnixTime::since_unix_epoch(last_second),
        )
        .map(drop)
}

#[cfg(test)]
mod tests;
