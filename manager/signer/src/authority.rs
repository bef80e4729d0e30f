//! Who signs at present: this swarm's own root, the one that is to follow, or somebody outside.

use std::time::Duration;

use ca::external::{self, ExternalError};
use ca::{RootBundle, RootCa, Subject, Tls, check_issued};
use types::cluster::ExternalCa;
use types::{Cluster, Timestamp};

use crate::issue::Refusal;

/// Signs node certificates as the cluster wants them signed now.
pub(crate) struct Authority {
    hand: Hand,
    /// Appended to each chain while the root changes: by it, who trusts only the present root
    /// accepts certificates of the next.
    cross_signed_pem: String,
    /// What a chain has to lead to.
    roots: RootBundle,
}

enum Hand {
    Own(Box<RootCa>),
    External(Vec<ExternalCa>),
}

/// Whose certificate, for how long, from when on.
pub(crate) struct Order<'a> {
    pub(crate) csr_pem: &'a str,
    pub(crate) subject: &'a Subject,
    pub(crate) validity: Duration,
    pub(crate) issued_at: Timestamp,
}

impl Authority {
    /// Reads the cluster. External authorities for the root in question go before the own key
    /// (S11.10).
    pub(crate) fn of(cluster: &Cluster) -> Result<Self, Refusal> {
        let broken = |error: ca::Error| Refusal::Authority(error.to_string());
        let present = &cluster.root_ca;
        let (cert_pem, key_pem, cross_signed_pem) = match &present.rotation {
            Some(next) => (
                &next.cert_pem,
                &next.key_pem,
                next.cross_signed_pem.as_str(),
            ),
            None => (&present.cert_pem, &present.key_pem, ""),
        };
        let is_meant = |it: &&ExternalCa| {
            let root = match it.ca_cert_pem.trim() {
                "" => present.cert_pem.trim(),
                root => root,
            };
            root == cert_pem.trim()
        };
        let outside: Vec<_> = cluster
            .spec
            .external_cas
            .iter()
            .filter(is_meant)
            .cloned()
            .collect();
        let hand = if !outside.is_empty() {
            Hand::External(outside)
        } else if key_pem.is_empty() {
            return Err(Refusal::Authority(
                "the swarm has no key for its root, and no external CA is set for it: add one with \
                 swarmctl swarm update --external-ca"
                    .to_owned(),
            ));
        } else {
            Hand::Own(Box::new(
                RootCa::from_pem(cert_pem, key_pem).map_err(broken)?,
            ))
        };
        Ok(Self {
            hand,
            cross_signed_pem: cross_signed_pem.to_owned(),
            roots: RootBundle::from_pem(present.bundle_pem()).map_err(broken)?,
        })
    }

    /// Signs, and returns the chain.
    pub(crate) async fn sign(&self, tls: &Tls, order: &Order<'_>) -> Result<String, Refusal> {
        let mut chain = match &self.hand {
            Hand::Own(root) => root
                .issue(
                    order.csr_pem,
                    order.subject,
                    order.validity,
                    order.issued_at,
                )
                .map_err(|error| Refusal::Request(error.to_string()))?,
            Hand::External(outside) => self.sign_outside(outside, tls, order).await?,
        };
        if !self.cross_signed_pem.is_empty() {
            if !chain.ends_with('\n') {
                chain.push('\n');
            }
            chain.push_str(&self.cross_signed_pem);
        }
        Ok(chain)
    }

    /// Asks one after the other, and believes none of them unchecked.
    async fn sign_outside(
        &self,
        outside: &[ExternalCa],
        tls: &Tls,
        order: &Order<'_>,
    ) -> Result<String, Refusal> {
        let mut why = String::new();
        for it in outside {
            let authority = external::ExternalCa {
                url: &it.url,
                profile: it.options.get("profile").map_or("", String::as_str),
                roots: self.roots.clone(),
            };
            let signed = authority.sign(tls, order.csr_pem, order.subject).await;
            match signed {
                Ok(chain) => {
                    let checked = check_issued(&chain, order.csr_pem, order.subject, &self.roots);
                    match checked {
                        Ok(()) => return Ok(chain),
                        Err(error) => why = format!("external CA {}: {error}", it.url),
                    }
                }
                Err(error) => why = words(&error),
            }
            tracing::warn!(url = it.url, why, "an external CA gave no certificate");
        }
        Err(Refusal::Authority(why))
    }
}

/// An error with what is below it, on one line.
fn words(error: &ExternalError) -> String {
    let mut words = error.to_string();
    let mut below = std::error::Error::source(error);
    while let Some(error) = below {
        words.push_str(": ");
        words.push_str(&error.to_string());
        below = error.source();
    }
    words
}
