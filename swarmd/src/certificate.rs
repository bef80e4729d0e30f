//! Getting this node's certificate from a manager: with a join token, or with the one it has.

use std::time::Duration;

use ca::tls::{DialOptions, ExpectRole, bootstrap_channel, pinned_channel};
use ca::{Identity, JoinToken, PrivateKey, RootBundle, Tls};
use proto::ca::ca_client::CaClient;
use proto::ca::{
    GetRootCertificateRequest, IssueNodeCertificateRequest, IssueNodeCertificateResponse,
};
use proto::objects;
use tonic::{Code, Status};
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
pub(crate) async fn renew(tls: &Tls, managers: &[String]) -> Result<Issued, RenewError> {
    let mut why = "no manager is known".to_owned();
    for addr in managers {
        match tokio::time::timeout(RENEW_TIMEOUT, renew_at(tls, addr)).await {
            Ok(Ok(issued)) => return Ok(issued),
            Ok(Err(Error::Refused { status, .. })) if status.code() == Code::PermissionDenied => {
                return Err(RenewError::Removed(status.message().to_owned()));
            }
            Ok(Err(error)) => why = crate::error::chain(&error),
            Err(_) => why = format!("no answer from {addr}"),
        }
    }
    Err(RenewError::NotNow(why))
}

async fn renew_at(tls: &Tls, addr: &str) -> Result<Issued, Error> {
    let refused = |status: Status| Error::Refused {
        addr: addr.to_owned(),
        status,
    };
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
        .map_err(refused)?
        .into_inner();
    // The connection was verified, so the bundle is the cluster's.
    let identity = Identity::new(key, &chain_pem, RootBundle::from_pem(bundle_pem)?)?;
    Ok(Issued { identity, managers })
}
