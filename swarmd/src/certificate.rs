//! Getting this node's certificate from a manager: with a join token, with the one it has, or, when
//! that one is of no use any more, with the key it was last certified for.

use std::time::Duration;

use ca::tls::{DialOptions, ExpectRole, bootstrap_channel, pinned_channel};
use ca::{Identity, JoinToken, PrivateKey, RootBundle, Tls};
use proto::ca::ca_client::CaClient;
use proto::ca::{
    GetRootCertificateRequest, IssueNodeCertificateRequest, IssueNodeCertificateResponse,
    ReissueNodeCertificateRequest,
};
use proto::objects;
use signer::Signer;
use tonic::{Code, Status};
use types::Timestamp;
use types::node::Availability;

use crate::Error;

/// How long joining may take in all (S10.16).
pub(crate) const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause before a manager that does not answer is tried again (S11.03).
const JOIN_RETRY_PAUSE: Duration = Duration::from_secs(2);
/// Tries of a manager that does not answer.
const JOIN_TRIES_MAX: u32 = 3;
/// How long one manager may take to renew a certificate.
const RENEW_TIMEOUT: Duration = Duration::from_secs(5);

/// What a manager gave.
pub(crate) struct Issued {
    pub(crate) identity: Identity,
    /// Addresses of the managers.
    pub(crate) managers: Vec<String>,
}

/// Becomes a node of the cluster that `token` is of, through the manager at `addr`.
///
/// # Errors
/// Nobody answers, the token is not of that cluster, or the manager refuses.
pub(crate) async fn join(
    addr: &str,
    token: &JoinToken,
    availability: Availability,
) -> Result<Issued, Error> {
    let mut tries = 1;
    loop {
        match join_once(addr, token, availability).await {
            Err(error @ Error::Unreachable { .. }) if tries < JOIN_TRIES_MAX => {
                tracing::info!(error = crate::error::chain(&error), "trying again");
                tries += 1;
                tokio::time::sleep(JOIN_RETRY_PAUSE).await;
            }
            done => return done,
        }
    }
}

async fn join_once(
    addr: &str,
    token: &JoinToken,
    availability: Availability,
) -> Result<Issued, Error> {
    let unreachable = |source| Error::Unreachable {
        addr: addr.to_owned(),
        source,
    };
    let refused = |status| Error::Refused {
        addr: addr.to_owned(),
        status,
    };
    let stranger = bootstrap_channel(addr).await.map_err(unreachable)?;
    let bundle = CaClient::new(stranger)
        .get_root_certificate(GetRootCertificateRequest {})
        .await
        .map_err(refused)?
        .into_inner()
        .bundle_pem;
    // Nothing but this comparison makes the bundle trustworthy.
    if !token.matches_bundle(bundle.as_bytes()) {
        return Err(Error::RootMismatch {
            addr: addr.to_owned(),
        });
    }
    let roots = RootBundle::from_pem(bundle)?;
    let pinned = pinned_channel(addr, &roots).await.map_err(unreachable)?;
    let key = PrivateKey::generate()?;
    let request = IssueNodeCertificateRequest {
        csr_pem: key.csr_pem()?,
        token: token.reveal().to_string(),
        availability: objects::Availability::from(availability).into(),
    };
    let issued = CaClient::new(pinned)
        .issue_node_certificate(request)
        .await
        .map_err(refused)?
        .into_inner();
    Ok(Issued {
        identity: Identity::new(key, &issued.chain_pem, roots)?,
        managers: issued.managers,
    })
}

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    /// The cluster does not know this node any more.
    #[error("this node was removed from the swarm: {0}")]
    Removed(String),
    /// Not now: asked again later.
    #[error("no manager renewed the certificate: {0}")]
    NotNow(String),
}

/// Gets the next certificate from any of the managers. The role is the one the cluster wants.
///
/// Where the present certificate is of no use, because it has run out or its root was replaced, the
/// key it was issued for serves instead.
pub(crate) async fn renew(tls: &Tls, managers: &[String]) -> Result<Issued, RenewError> {
    let identity = tls
        .identity()
        .ok_or_else(|| RenewError::NotNow("this node has no certificate to renew".to_owned()))?;
    let mut why = "no manager is known".to_owned();
    for addr in managers {
        let mut tried = match identity.is_expired(Timestamp::now()) {
            true => within(addr, reissue_at(&identity, addr)).await,
            false => within(addr, renew_at(tls, addr)).await,
        };
        if let Err(error) = &tried
            && is_refused(error)
        {
            tried = within(addr, reissue_at(&identity, addr)).await;
        }
        match tried {
            Ok(issued) => return Ok(issued),
            Err(Error::Refused { status, .. }) if status.code() == Code::PermissionDenied => {
                return Err(RenewError::Removed(status.message().to_owned()));
            }
            Err(error) => why = crate::error::chain(&error),
        }
    }
    Err(RenewError::NotNow(why))
}

async fn within(
    addr: &str,
    tried: impl Future<Output = Result<Issued, Error>>,
) -> Result<Issued, Error> {
    let timeout = tokio::time::timeout(RENEW_TIMEOUT, tried).await;
    timeout.unwrap_or_else(|_| {
        Err(Error::Timeout {
            addr: addr.to_owned(),
            after: RENEW_TIMEOUT,
        })
    })
}

/// Whether one of the two ends does not take the other's certificate.
fn is_refused(error: &Error) -> bool {
    match error {
        // A manager's refusal of our certificate shows only in the first request.
        Error::Refused { status, .. } => {
            status.code() == Code::Unauthenticated || ca::tls::refusal(status).is_some()
        }
        error => ca::tls::refusal(error).is_some(),
    }
}

async fn renew_at(tls: &Tls, addr: &str) -> Result<Issued, Error> {
    let channel = tls
        .connect(addr, ExpectRole::Manager, &DialOptions::default())
        .await?;
    let key = PrivateKey::generate()?;
    let request = IssueNodeCertificateRequest {
        csr_pem: key.csr_pem()?,
        token: String::new(),
        availability: 0,
    };
    let IssueNodeCertificateResponse {
        chain_pem,
        bundle_pem,
        managers,
        ..
    } = CaClient::new(channel)
        .issue_node_certificate(request)
        .await
        .map_err(refused(addr))?
        .into_inner();
    // The connection was verified, so the bundle is the cluster's.
    let identity = Identity::new(key, &chain_pem, RootBundle::from_pem(bundle_pem)?)?;
    Ok(Issued { identity, managers })
}

/// Comes back with nothing but the key: follows the roots from the ones this node trusts to the
/// present one, then asks for another certificate for the key that the managers know.
async fn reissue_at(identity: &Identity, addr: &str) -> Result<Issued, Error> {
    let unreachable = |source| Error::Unreachable {
        addr: addr.to_owned(),
        source,
    };
    let stranger = bootstrap_channel(addr).await.map_err(unreachable)?;
    let shown = CaClient::new(stranger)
        .get_root_certificate(GetRootCertificateRequest {})
        .await
        .map_err(refused(addr))?
        .into_inner();
    // Nothing but the signatures of roots this node trusted makes the new one trustworthy.
    let roots = RootBundle::from_pem(shown.bundle_pem)
        .and_then(|root| {
            identity
                .roots()
                .follow(&shown.lineage, root, Timestamp::now())
        })
        .map_err(|source| Error::Lineage {
            addr: addr.to_owned(),
            source,
        })?;
    let pinned = pinned_channel(addr, &roots).await.map_err(unreachable)?;
    let request = ReissueNodeCertificateRequest {
        node_id: identity.node_id().to_string(),
        csr_pem: identity.key().csr_pem()?,
    };
    let issued = CaClient::new(pinned)
        .reissue_node_certificate(request)
        .await
        .map_err(refused(addr))?
        .into_inner();
    let roots = RootBundle::from_pem(issued.bundle_pem)?;
    let identity = identity.with_certificate(&issued.chain_pem, roots)?;
    let managers = issued.managers;
    Ok(Issued { identity, managers })
}

/// Has a manager that reaches no other certify itself, with the key in its own store: how a swarm
/// comes back whose managers were all off for longer than a certificate lives.
pub(crate) async fn reissue_self(identity: &Identity, signer: &Signer) -> Result<Issued, Error> {
    let csr_pem = identity.key().csr_pem()?;
    let issued = signer.reissue(identity.node_id(), &csr_pem).await;
    let issued = issued.map_err(refused("this manager"))?;
    let roots = RootBundle::from_pem(issued.bundle_pem)?;
    Ok(Issued {
        identity: identity.with_certificate(&issued.chain_pem, roots)?,
        managers: vec![],
    })
}

fn refused(addr: &str) -> impl FnOnce(Status) -> Error {
    let addr = addr.to_owned();
    move |status| Error::Refused { addr, status }
}
