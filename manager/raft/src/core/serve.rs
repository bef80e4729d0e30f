//! What other members ask of this one, handed to the library.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use openraft::Snapshot;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest,
};
use proto::raft as pb;
use tokio::time::Instant;
use tonic::Status;

use super::Core;
use super::codec;
use super::facts::Facts;
use super::types::TypeConfig;
use crate::snapshot::Image;
use crate::transport::removed_status;

/// Answers to a stream of entries.
pub(crate) type AppendAnswers =
    Pin<Box<dyn Stream<Item = Result<pb::AppendEntriesResponse, Status>> + Send>>;

/// Larger states than this are not believed: they have to fit memory twice.
const STATE_BYTES_MAX: u64 = 16 << 30;

impl Core {
    /// Refuses what is meant for another member, and tells a removed sender so.
    fn admit(&self, to: u64, from: Option<pb::Vote>) -> Result<(), Status> {
        let me = self.facts.member_id();
        if to != me {
            return Err(Status::failed_precondition(format!(
                "this is member {me:x}, not {to:x}"
            )));
        }
        if from.is_some_and(|vote| self.facts.is_removed(vote.candidate)) {
            return Err(removed_status());
        }
        Ok(())
    }

    pub(crate) async fn serve_append(
        &self,
        mut requests: tonic::Streaming<pb::AppendEntriesRequest>,
    ) -> Result<AppendAnswers, Status> {
        // The first one decides about the sender; later ones come over the same stream.
        let Some(first) = requests.message().await? else {
            return Ok(Box::pin(futures::stream::empty()));
        };
        self.admit(first.to, first.vote)?;
        let me = self.facts.member_id();
        let facts = Arc::clone(&self.facts);
        let rest = requests.take_while(|r| std::future::ready(r.is_ok()));
        let input = futures::stream::once(async { Ok(first) })
            .chain(rest)
            .map(move |request| {
                let request = request.ok().filter(|r| r.to == me)?;
                append_from(request, &facts).ok()
            })
            // A request that makes no sense ends the stream; the leader opens another one.
            .take_while(|request| std::future::ready(request.is_some()))
            .filter_map(std::future::ready);
        let answers = self.raft.stream_append(input).map(|answer| match answer {
            Ok(result) => Ok(append_answer(result)),
            Err(fatal) => Err(Status::unavailable(fatal.to_string())),
        });
        Ok(Box::pin(answers))
    }

    pub(crate) async fn serve_heartbeat(
        &self,
        request: pb::AppendEntriesRequest,
    ) -> Result<pb::AppendEntriesResponse, Status> {
        self.admit(request.to, request.vote)?;
        let request = append_from(request, &self.facts)?;
        let input = futures::stream::once(async { request });
        let mut answers = std::pin::pin!(self.raft.stream_append(input));
        match answers.next().await {
            Some(Ok(result)) => Ok(append_answer(result)),
            Some(Err(fatal)) => Err(Status::unavailable(fatal.to_string())),
            None => Err(Status::unavailable("consensus has stopped")),
        }
    }

    pub(crate) async fn serve_vote(
        &self,
        request: pb::VoteRequest,
        pre: bool,
    ) -> Result<pb::VoteResponse, Status> {
        self.admit(request.to, request.vote)?;
        let mut rpc = VoteRequest::<TypeConfig>::new(
            codec::required_vote(request.vote)?,
            request.last_log_id.map(codec::log_id_from),
        );
        rpc.leadership_transfer = request.leadership_transfer;
        let answer = if pre {
            self.raft.pre_vote(rpc).await
        } else {
            self.raft.vote(rpc).await
        };
        let answer = answer.map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(pb::VoteResponse {
            vote: Some(codec::vote_to(&answer.vote)),
            granted: answer.vote_granted,
            last_log_id: answer.last_log_id.as_ref().map(codec::log_id_to),
        })
    }

    pub(crate) async fn serve_snapshot(
        &self,
        mut chunks: tonic::Streaming<pb::SnapshotChunk>,
    ) -> Result<pb::InstallSnapshotResponse, Status> {
        use pb::snapshot_chunk::Part;
        let Some(pb::SnapshotChunk {
            part: Some(Part::Request(request)),
        }) = chunks.message().await?
        else {
            return Err(Status::invalid_argument(
                "a snapshot starts with its header",
            ));
        };
        self.admit(request.to, request.vote)?;
        let vote = codec::required_vote(request.vote)?;
        let header = request
            .header
            .ok_or_else(|| Status::invalid_argument("the header is missing"))?;
        let meta = codec::meta_from(&header)?;
        if header.size_bytes > STATE_BYTES_MAX {
            return Err(Status::resource_exhausted("the state is too large"));
        }
        let size = usize::try_from(header.size_bytes)
            .map_err(|_| Status::resource_exhausted("the state is too large"))?;
        let mut state = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            let Some(Part::Data(data)) = chunk.part else {
                return Err(Status::invalid_argument("data follows the header"));
            };
            if state.len() + data.len() > size {
                return Err(Status::invalid_argument("more data than announced"));
            }
            state.extend_from_slice(&data);
            self.facts
                .heard_of_leader(vote.leader_id.node_id, Instant::now());
        }
        if state.len() != size {
            return Err(Status::invalid_argument("less data than announced"));
        }
        let snapshot = Snapshot {
            meta,
            snapshot: Image::in_memory(header, state),
        };
        let answer = self
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(pb::InstallSnapshotResponse {
            vote: Some(codec::vote_to(&answer.vote)),
        })
    }

    pub(crate) async fn serve_transfer(
        &self,
        request: pb::TransferLeaderRequest,
    ) -> Result<pb::TransferLeaderResponse, Status> {
        self.admit(request.to, request.from_leader)?;
        let rpc = TransferLeaderRequest::<TypeConfig>::new(
            codec::required_vote(request.from_leader)?,
            request.successor,
            request.last_log_id.map(codec::log_id_from),
        );
        let answer = self
            .raft
            .handle_transfer_leader(rpc)
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(pb::TransferLeaderResponse {
            refusal: answer.err().map(|e| e.to_string()).unwrap_or_default(),
        })
    }
}

/// Also remembers the sign of life.
fn append_from(
    request: pb::AppendEntriesRequest,
    facts: &Facts,
) -> Result<AppendEntriesRequest<TypeConfig>, codec::Malformed> {
    let vote = codec::required_vote(request.vote)?;
    if vote.committed {
        facts.heard_of_leader(vote.leader_id.node_id, Instant::now());
    }
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id: request.prev.map(codec::log_id_from),
        leader_commit: request.leader_commit.map(codec::log_id_from),
        entries: request
            .entries
            .into_iter()
            .map(codec::entry_from)
            .collect::<Result<_, _>>()?,
    })
}

fn append_answer(result: StreamAppendResult<TypeConfig>) -> pb::AppendEntriesResponse {
    use pb::append_entries_response::Outcome;
    let outcome = match result {
        Ok(last) => Outcome::Matched(pb::Matched {
            last: last.as_ref().map(codec::log_id_to),
        }),
        Err(StreamAppendError::Conflict(id)) => Outcome::Conflict(codec::log_id_to(&id)),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::HigherVote(codec::vote_to(&vote)),
    };
    pb::AppendEntriesResponse {
        outcome: Some(outcome),
    }
}
