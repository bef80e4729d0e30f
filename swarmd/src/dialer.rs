//! Reaches managers with this node's identity, for Raft and for the agent.

use std::sync::Arc;
use std::time::Duration;

use ca::Tls;
use ca::tls::{DialOptions, ExpectRole};
use proto::ca::GetRootCertificateRequest;
use proto::ca::ca_client::CaClient;
use tokio::sync::{Notify, watch};
use tonic::Code;
use tonic::transport::Channel;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a manager may take to say whether it still knows this node.
const GREETING_TIMEOUT: Duration = Duration::from_secs(3);

/// Reaches other members of the group.
#[derive(Clone)]
pub(crate) struct RaftDialer(pub(crate) Tls);

#[async_trait::async_trait]
impl raft::Dialer for RaftDialer {
    async fn dial(&self, addr: &str) -> Result<Channel, BoxError> {
        Ok(self
            .0
            .connect(addr, ExpectRole::Manager, &DialOptions::default())
            .await?)
    }

    /// A connection outlives the certificate it was made with, but is then refused.
    fn generation(&self) -> u64 {
        self.0.generation()
    }
}

/// Reaches managers for the agent, and notices when they say that this node was removed.
#[derive(Clone)]
pub(crate) struct AgentDialer {
    tls: Tls,
    removed: watch::Sender<bool>,
    refused: Arc<Notify>,
}

impl AgentDialer {
    /// `removed` becomes true once a manager says so; `refused` is told when this node and a manager
    /// do not take each other's certificates, as when the root was replaced while it was off.
    pub(crate) fn new(tls: Tls, removed: watch::Sender<bool>, refused: Arc<Notify>) -> Self {
        Self {
            tls,
            removed,
            refused,
        }
    }

    fn look_for_refusal(&self, error: &(dyn std::error::Error + 'static)) {
        if ca::tls::refusal(error).is_some() {
            self.refused.notify_one();
        }
    }
}

#[async_trait::async_trait]
impl agent::ManagerDialer for AgentDialer {
    async fn dial(&self, addr: &str) -> Result<Channel, agent::DialError> {
        let options = DialOptions::default();
        let connected = self.tls.connect(addr, ExpectRole::Manager, &options).await;
        let channel = connected.inspect_err(|error| self.look_for_refusal(error))?;
        // Open to everybody but those who were removed: asking it tells the two apart.
        let mut client = CaClient::new(channel.clone());
        let greeting = client.get_root_certificate(GetRootCertificateRequest {});
        if let Err(status) = tokio::time::timeout(GREETING_TIMEOUT, greeting).await? {
            self.look_for_refusal(&status);
            if status.code() == Code::PermissionDenied {
                tracing::warn!(
                    manager = addr,
                    reason = status.message(),
                    "refused by a manager"
                );
                self.removed.send_replace(true);
                return Err(status.into());
            }
        }
        Ok(channel)
    }
}
