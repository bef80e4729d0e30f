//! Reaching other members: connections, and what a call to a peer can end in.

pub(crate) mod server;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::raft as pb;
use proto::raft::raft_client::RaftClient;
use tonic::transport::Channel;

use crate::BoxError;

/// Largest message: an entry of the largest proposal, or a batch of smaller ones.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// A host that does not answer at all costs this much.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Set on a refusal that means: you are not a member any more.
const REFUSAL: &str = "swarm-raft-refusal";
const REMOVED: &str = "member-removed";

/// Opens connections to other managers; the daemon's does so with mutual TLS.
#[async_trait::async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// Connects to the manager at `addr`. The channel may reconnect by itself; it is dropped, and
    /// another one dialled, when calls over it fail.
    ///
    /// # Errors
    /// Nobody answers there, or not a manager of this cluster.
    async fn dial(&self, addr: &str) -> Result<Channel, BoxError>;

    /// Grows when connections should be made anew although they work, because what they were made
    /// with was replaced. Calls under way on an older one go on.
    fn generation(&self) -> u64 {
        0
    }
}

/// What a connection is for. Snapshots and entries must not delay heartbeats and votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Small calls whose delay matters.
    Control,
    /// Entries and proposals.
    Entries,
    /// Snapshots.
    Snapshot,
}

/// Why a call to a peer failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nothing was sent.
    #[error("cannot connect to {addr}: {reason}")]
    Connect { addr: String, reason: String },
    /// No answer in time.
    #[error("no answer from {addr} within {waited:?}")]
    Timeout { addr: String, waited: Duration },
    /// The peer says that this member was removed.
    #[error("removed from the group, says {addr}")]
    Removed { addr: String },
    /// The connection broke or the peer refused.
    #[error("call to {addr} failed: {reason}")]
    Broken { addr: String, reason: String },
}

/// The connections of one member to the others.
#[derive(Clone)]
pub(crate) struct Peers {
    dialer: Arc<dyn Dialer>,
    channels: Arc<Mutex<HashMap<(String, Lane), Connection>>>,
}

/// A connection, and the generation of the dialer it was made at.
#[derive(Clone)]
struct Connection {
    channel: Channel,
    generation: u64,
}

impl Peers {
    pub(crate) fn new(dialer: Arc<dyn Dialer>) -> Self {
        Self {
            dialer,
            channels: Arc::default(),
        }
    }

    /// A client for the member at `addr`, over an open connection or a new one.
    pub(crate) async fn client(
        &self,
        addr: &str,
        lane: Lane,
    ) -> Result<RaftClient<Channel>, CallError> {
        let key = (addr.to_owned(), lane);
        let open = self.lock().get(&key).cloned();
        let generation = self.dialer.generation();
        let channel = match open {
            Some(open) if open.generation == generation => open.channel,
            Some(_) | None => {
                let failed = |reason| CallError::Connect {
                    addr: addr.to_owned(),
                    reason,
                };
                let channel = tokio::time::timeout(CONNECT_TIMEOUT, self.dialer.dial(addr))
                    .await
                    .map_err(|_| failed(format!("no connection within {CONNECT_TIMEOUT:?}")))?
                    .map_err(|e| failed(chain(e.as_ref())))?;
                let connection = Connection {
                    channel: channel.clone(),
                    generation,
                };
                self.lock().insert(key, connection);
                channel
            }
        };
        Ok(RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Drops a connection over which calls fail, so that the next call dials again.
    pub(crate) fn forget(&self, addr: &str, lane: Lane) {
        self.lock().remove(&(addr.to_owned(), lane));
    }

    /// One call, within `timeout` including the time to connect.
    pub(crate) async fn call<T, F>(
        &self,
        addr: &str,
        lane: Lane,
        timeout: Duration,
        call: impl FnOnce(RaftClient<Channel>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let whole = async {
            let client = self.client(addr, lane).await?;
            call(client)
                .await
                .map_err(|status| self.failed(addr, lane, &status))
        };
        match tokio::time::timeout(timeout, whole).await {
            Ok(outcome) => outcome.map(tonic::Response::into_inner),
            Err(_) => {
                self.forget(addr, lane);
                Err(CallError::Timeout {
                    addr: addr.to_owned(),
                    waited: timeout,
                })
            }
        }
    }

    /// What a failed call means, and drops the connection if it is to blame.
    pub(crate) fn failed(&self, addr: &str, lane: Lane, status: &tonic::Status) -> CallError {
        let addr = addr.to_owned();
        if status
            .metadata()
            .get(REFUSAL)
            .is_some_and(|r| r.as_bytes() == REMOVED.as_bytes())
        {
            return CallError::Removed { addr };
        }
        let reason = chain(status);
        // Statuses made here have a source; those sent by the peer have none.
        if std::error::Error::source(status).is_none() {
            return CallError::Broken { addr, reason };
        }
        self.forget(&addr, lane);
        if is_connect_error(status) {
            CallError::Connect { addr, reason }
        } else {
            CallError::Broken { addr, reason }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, Lane), Connection>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The status that tells a peer it was removed.
pub(crate) fn removed_status() -> tonic::Status {
    let mut status = tonic::Status::failed_precondition("member was removed from the group");
    status.metadata_mut().insert(
        REFUSAL,
        tonic::metadata::MetadataValue::from_static(REMOVED),
    );
    status
}

/// Whether the request never left: only then is repeating a proposal safe.
fn is_connect_error(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// An error and everything below it, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    line
}

/// A member as messages carry it.
pub(crate) fn member(id: u64, addr: &str) -> pb::Member {
    pb::Member {
        id,
        addr: addr.to_owned(),
    }
}
