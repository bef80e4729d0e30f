//! What the library sends to other members, over our own service.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use openraft::error::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, RPCTypes, RaftNetworkFactory, Snapshot};
use proto::raft as pb;

use super::codec::{self, Malformed};
use super::facts::Facts;
use super::types::{Entry, TypeConfig, Vote};
use crate::snapshot::{Image, SnapshotFile};
use crate::transport::{CallError, Lane, Peers};

/// Time to open a stream of entries, including the connection.
const OPEN_TIMEOUT: Duration = Duration::from_millis(1_000);
/// A stream whose requests get no answer for this long, twice in a row, is given up.
const STALL_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Heartbeats lost in a row after which the connection itself is suspected.
const LOST_HEARTBEATS_MAX: u32 = 5;
/// Bytes of state in one message.
const CHUNK_BYTES: usize = 1 << 20;
/// Time to send a snapshot: this much, and as much again for every 8 MiB.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

type RpcResult<T> = Result<T, RPCError<TypeConfig>>;
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type BoxStream<'a, T> = Pin<Box<dyn Stream<Item = T> + Send + 'a>>;
type AppendResults<'a> = BoxStream<'a, RpcResult<StreamAppendResult<TypeConfig>>>;

/// Makes a [`Link`] for every purpose and member.
pub(crate) struct Network {
    peers: Peers,
    snapshots: SnapshotFile,
    facts: Arc<Facts>,
}

impl Network {
    pub(crate) fn new(peers: Peers, snapshots: SnapshotFile, facts: Arc<Facts>) -> Self {
        Self {
            peers,
            snapshots,
            facts,
        }
    }

    fn link(&self, target: u64, node: &BasicNode, heartbeats: bool) -> Link {
        self.facts.set_addr(target, &node.addr);
        Link {
            peers: self.peers.clone(),
            snapshots: self.snapshots.clone(),
            facts: Arc::clone(&self.facts),
            target,
            heartbeats,
            lost_heartbeats: 0,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Link {
        self.link(target, node, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> Link {
        self.link(target, node, true)
    }
}

/// One member as the target of calls. Connects when it is used.
pub(crate) struct Link {
    peers: Peers,
    snapshots: SnapshotFile,
    facts: Arc<Facts>,
    target: u64,
    /// Sends single requests without entries instead of a stream.
    heartbeats: bool,
    lost_heartbeats: u32,
}

impl Link {
    fn addr(&self) -> String {
        self.facts.addr(self.target).unwrap_or_default()
    }

    fn rpc_error(&self, action: RPCTypes, error: CallError) -> RPCError<TypeConfig> {
        match error {
            CallError::Timeout { waited, .. } => RPCError::Timeout(Timeout {
                action,
                id: self.facts.member_id(),
                target: self.target,
                timeout: waited,
            }),
            CallError::Connect { .. } => RPCError::Unreachable(Unreachable::new(&error)),
            CallError::Removed { .. } => {
                self.facts.evict();
                RPCError::Unreachable(Unreachable::new(&error))
            }
            CallError::Broken { .. } => RPCError::Network(NetworkError::new(&error)),
        }
    }

    fn malformed(error: &Malformed) -> RPCError<TypeConfig> {
        RPCError::Network(NetworkError::new(error))
    }

    async fn ask_vote(
        &self,
        rpc: VoteRequest<TypeConfig>,
        option: &RPCOption,
        pre: bool,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let request = pb::VoteRequest {
            to: self.target,
            vote: Some(codec::vote_to(&rpc.vote)),
            last_log_id: rpc.last_log_id.as_ref().map(codec::log_id_to),
            leadership_transfer: rpc.leadership_transfer,
        };
        let timeout = option.soft_ttl();
        let answer = self
            .peers
            .call(
                &self.addr(),
                Lane::Control,
                timeout,
                |mut client| async move {
                    if pre {
                        client.pre_vote(request).await
                    } else {
                        client.vote(request).await
                    }
                },
            )
            .await
            .map_err(|e| self.rpc_error(RPCTypes::Vote, e))?;
        let vote = codec::required_vote(answer.vote).map_err(|e| Self::malformed(&e))?;
        let last_log_id = answer.last_log_id.map(codec::log_id_from);
        Ok(VoteResponse::new(vote, last_log_id, answer.granted))
    }

    /// One request without entries.
    async fn heartbeat(
        &mut self,
        rpc: &AppendEntriesRequest<TypeConfig>,
        timeout: Duration,
    ) -> RpcResult<StreamAppendResult<TypeConfig>> {
        let request = append_to(self.target, rpc);
        let addr = self.addr();
        // Not through `call`: one late answer must not cost the connection.
        let beat = async {
            let mut client = self.peers.client(&addr, Lane::Control).await?;
            let answered = client.heartbeat(request).await;
            answered.map_err(|status| self.peers.failed(&addr, Lane::Control, &status))
        };
        let outcome = match tokio::time::timeout(timeout, beat).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.lost_heartbeats += 1;
                if self.lost_heartbeats >= LOST_HEARTBEATS_MAX {
                    self.lost_heartbeats = 0;
                    self.peers.forget(&addr, Lane::Control);
                }
                Err(CallError::Timeout {
                    addr,
                    waited: timeout,
                })
            }
        };
        let answer = outcome.map_err(|e| self.rpc_error(RPCTypes::AppendEntries, e))?;
        self.lost_heartbeats = 0;
        append_result(answer.into_inner()).map_err(|e| Self::malformed(&e))
    }

    /// Opens a stream on which many requests are on their way at once.
    async fn open_stream<'s, S>(&'s mut self, input: S) -> RpcResult<AppendResults<'s>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let unanswered = Arc::new(AtomicUsize::new(0));
        let (target, addr) = (self.target, self.addr());
        let sent = Arc::clone(&unanswered);
        let requests = input.map(move |rpc| {
            sent.fetch_add(1, Ordering::Relaxed);
            append_to(target, &rpc)
        });
        let answers = self
            .peers
            .call(
                &addr,
                Lane::Entries,
                OPEN_TIMEOUT,
                |mut client| async move { client.append_entries(requests).await },
            )
            .await
            .map_err(|e| self.rpc_error(RPCTypes::AppendEntries, e))?;
        let link: &Self = self;
        let results = futures::stream::unfold(Some(answers), move |answers| {
            let (unanswered, addr) = (Arc::clone(&unanswered), addr.clone());
            async move {
                let mut answers = answers?;
                let result = link
                    .next_answer(&addr, &mut answers, &unanswered)
                    .await
                    .transpose()?;
                // After anything but a match the library starts again from another entry.
                let goes_on = matches!(result, Ok(Ok(_)));
                Some((result, goes_on.then_some(answers)))
            }
        });
        Ok(Box::pin(results))
    }

    async fn next_answer(
        &self,
        addr: &str,
        answers: &mut tonic::Streaming<pb::AppendEntriesResponse>,
        unanswered: &AtomicUsize,
    ) -> RpcResult<Option<StreamAppendResult<TypeConfig>>> {
        let mut was_waiting = false;
        loop {
            match tokio::time::timeout(STALL_TIMEOUT, answers.message()).await {
                Ok(Ok(None)) => return Ok(None),
                Ok(Ok(Some(answer))) => {
                    unanswered.fetch_sub(1, Ordering::Relaxed);
                    let result = append_result(answer).map_err(|e| Self::malformed(&e))?;
                    return Ok(Some(result));
                }
                Ok(Err(status)) => {
                    let error = self.peers.failed(addr, Lane::Entries, &status);
                    return Err(self.rpc_error(RPCTypes::AppendEntries, error));
                }
                Err(_) => {
                    let is_waiting = unanswered.load(Ordering::Relaxed) > 0;
                    if is_waiting && was_waiting {
                        self.peers.forget(addr, Lane::Entries);
                        let waited = STALL_TIMEOUT;
                        let error = CallError::Timeout {
                            addr: addr.to_owned(),
                            waited,
                        };
                        return Err(self.rpc_error(RPCTypes::AppendEntries, error));
                    }
                    was_waiting = is_waiting;
                }
            }
        }
    }
}

impl NetBackoff<TypeConfig> for Link {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetVote<TypeConfig> for Link {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        self.ask_vote(rpc, &option, false).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        self.ask_vote(rpc, &option, true).await
    }
}

impl NetStreamAppend<TypeConfig> for Link {
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<AppendResults<'s>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            if !self.heartbeats {
                return self.open_stream(input).await;
            }
            let timeout = option.soft_ttl();
            let mut results = Vec::new();
            while let Some(rpc) = input.next().await {
                results.push(self.heartbeat(&rpc, timeout).await);
            }
            Ok(Box::pin(futures::stream::iter(results)) as AppendResults<'s>)
        })
    }
}

impl NetSnapshot<TypeConfig> for Link {
    type SnapshotData = Image;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, Image>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let Snapshot {
            snapshot: image, ..
        } = snapshot;
        let snapshots = self.snapshots.clone();
        let header = image.header.clone();
        let state = tokio::task::spawn_blocking(move || snapshots.state(&image))
            .await
            .map_err(|e| StreamingError::Network(NetworkError::new(&e)))?
            .map_err(|e| StreamingError::Network(NetworkError::new(&e)))?;
        tracing::info!(
            target = self.target,
            addr = self.addr(),
            bytes = state.len(),
            "sending a snapshot"
        );
        let request = pb::SnapshotRequest {
            to: self.target,
            vote: Some(codec::vote_to(&vote)),
            header: Some(header),
        };
        let eighths = u32::try_from(state.len() / (8 << 20)).unwrap_or(u32::MAX);
        let timeout = SNAPSHOT_TIMEOUT.saturating_mul(eighths.saturating_add(1));
        let chunks = chunks(request, state);
        let addr = self.addr();
        let send = self
            .peers
            .call(&addr, Lane::Snapshot, timeout, |mut client| async move {
                client.install_snapshot(chunks).await
            });
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = send => {
                let answer = sent.map_err(|e| self.rpc_error(RPCTypes::InstallSnapshot, e))?;
                let vote = codec::required_vote(answer.vote).map_err(|e| Self::malformed(&e))?;
                Ok(SnapshotResponse::new(vote))
            }
        }
    }
}

impl NetTransferLeader<TypeConfig> for Link {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<Result<(), TransferLeaderError<TypeConfig>>> {
        let request = pb::TransferLeaderRequest {
            to: self.target,
            from_leader: Some(codec::vote_to(req.from_leader())),
            successor: *req.to_node_id(),
            last_log_id: req.last_log_id().map(codec::log_id_to),
        };
        let answer = self
            .peers
            .call(
                &self.addr(),
                Lane::Control,
                option.soft_ttl(),
                |mut client| async move { client.transfer_leader(request).await },
            )
            .await
            .map_err(|e| self.rpc_error(RPCTypes::TransferLeader, e))?;
        if answer.refusal.is_empty() {
            return Ok(Ok(()));
        }
        // The library only logs the refusal; which of its two kinds it was does not matter here.
        Err(RPCError::Network(NetworkError::from_string(answer.refusal)))
    }
}

fn append_to(target: u64, rpc: &AppendEntriesRequest<TypeConfig>) -> pb::AppendEntriesRequest {
    pb::AppendEntriesRequest {
        to: target,
        vote: Some(codec::vote_to(&rpc.vote)),
        prev: rpc.prev_log_id.as_ref().map(codec::log_id_to),
        leader_commit: rpc.leader_commit.as_ref().map(codec::log_id_to),
        entries: rpc
            .entries
            .iter()
            .map(|e: &Entry| codec::entry_to(e))
            .collect(),
    }
}

fn append_result(
    answer: pb::AppendEntriesResponse,
) -> Result<StreamAppendResult<TypeConfig>, Malformed> {
    use pb::append_entries_response::Outcome;
    match answer.outcome {
        Some(Outcome::Matched(matched)) => Ok(Ok(matched.last.map(codec::log_id_from))),
        Some(Outcome::Conflict(id)) => Ok(Err(StreamAppendError::Conflict(codec::log_id_from(id)))),
        Some(Outcome::HigherVote(vote)) => {
            Ok(Err(StreamAppendError::HigherVote(codec::vote_from(vote))))
        }
        None => Err(Malformed("outcome is missing".to_owned())),
    }
}

/// The header, then the state in pieces, copied one at a time.
fn chunks(
    request: pb::SnapshotRequest,
    state: Arc<Vec<u8>>,
) -> impl Stream<Item = pb::SnapshotChunk> + Send + 'static {
    use pb::snapshot_chunk::Part;
    let header = pb::SnapshotChunk {
        part: Some(Part::Request(request)),
    };
    let pieces = state.len().div_ceil(CHUNK_BYTES);
    let data = futures::stream::iter(0..pieces).map(move |piece| {
        let start = piece * CHUNK_BYTES;
        let end = (start + CHUNK_BYTES).min(state.len());
        pb::SnapshotChunk {
            part: Some(Part::Data(state[start..end].to_vec())),
        }
    });
    futures::stream::once(async { header }).chain(data)
}
