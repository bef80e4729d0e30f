//! The service that other members call.

use std::time::Duration;

use proto::raft as pb;
use proto::raft::raft_server;
use tonic::{Request, Response, Status, Streaming};

use crate::{Error, Raft};

/// The gRPC service of one member; made by [`Raft::grpc_service`].
pub struct GrpcService {
    raft: Raft,
}

impl GrpcService {
    pub(crate) fn new(raft: Raft) -> Self {
        Self { raft }
    }

    fn membership_answer(&self, outcome: Result<(), Error>) -> Response<pb::MembershipResponse> {
        let status = self.raft.status();
        let members = status.borrow().members.clone();
        Response::new(pb::MembershipResponse {
            refusal: outcome.err().map(|e| e.to_refusal()),
            members: members
                .iter()
                .map(|m| super::member(m.id, &m.addr))
                .collect(),
        })
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl raft_server::Raft for GrpcService {
    type AppendEntriesStream = crate::core::AppendAnswers;

    async fn append_entries(
        &self,
        request: Request<Streaming<pb::AppendEntriesRequest>>,
    ) -> Answer<Self::AppendEntriesStream> {
        self.raft
            .inner
            .core
            .serve_append(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn heartbeat(
        &self,
        request: Request<pb::AppendEntriesRequest>,
    ) -> Answer<pb::AppendEntriesResponse> {
        self.raft
            .inner
            .core
            .serve_heartbeat(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Answer<pb::VoteResponse> {
        self.raft
            .inner
            .core
            .serve_vote(request.into_inner(), false)
            .await
            .map(Response::new)
    }

    async fn pre_vote(&self, request: Request<pb::VoteRequest>) -> Answer<pb::VoteResponse> {
        self.raft
            .inner
            .core
            .serve_vote(request.into_inner(), true)
            .await
            .map(Response::new)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Answer<pb::InstallSnapshotResponse> {
        self.raft
            .inner
            .core
            .serve_snapshot(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Answer<pb::TransferLeaderResponse> {
        self.raft
            .inner
            .core
            .serve_transfer(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn propose(&self, request: Request<pb::ProposeRequest>) -> Answer<pb::ProposeResponse> {
        use pb::propose_response::Outcome;
        let request = request.into_inner();
        let timeout = Duration::from_millis(request.timeout_ms.into());
        let outcome = match self
            .raft
            .inner
            .propose_here(request.data.into(), timeout)
            .await
        {
            Ok(c) => Outcome::Committed(pb::Committed {
                index: c.index,
                response: c.response,
            }),
            Err(refusal) => Outcome::Refusal(refusal),
        };
        Ok(Response::new(pb::ProposeResponse {
            outcome: Some(outcome),
        }))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Answer<pb::ReadIndexResponse> {
        use pb::read_index_response::Outcome;
        let timeout = Duration::from_millis(request.into_inner().timeout_ms.into());
        let outcome = match self.raft.inner.read_here(timeout).await {
            Ok(index) => Outcome::Index(index),
            Err(refusal) => Outcome::Refusal(refusal),
        };
        Ok(Response::new(pb::ReadIndexResponse {
            outcome: Some(outcome),
        }))
    }

    async fn add_member(
        &self,
        request: Request<pb::AddMemberRequest>,
    ) -> Answer<pb::MembershipResponse> {
        let request = request.into_inner();
        let member = request
            .member
            .ok_or_else(|| Status::invalid_argument("the member is missing"))?;
        if member.id == 0 || member.addr.is_empty() {
            return Err(Status::invalid_argument(
                "a member has an id and an address",
            ));
        }
        let added = self
            .raft
            .inner
            .add_member(member.id, &member.addr, request.forwarded)
            .await;
        Ok(self.membership_answer(added))
    }

    async fn remove_member(
        &self,
        request: Request<pb::RemoveMemberRequest>,
    ) -> Answer<pb::MembershipResponse> {
        let request = request.into_inner();
        let removed = self
            .raft
            .inner
            .remove_member(request.id, request.forwarded)
            .await;
        Ok(self.membership_answer(removed))
    }

    async fn health(&self, _: Request<pb::HealthRequest>) -> Answer<pb::HealthResponse> {
        Ok(Response::new(pb::HealthResponse {
            member_id: self.raft.member_id(),
        }))
    }

    async fn notice_removed(
        &self,
        request: Request<pb::NoticeRemovedRequest>,
    ) -> Answer<pb::NoticeRemovedResponse> {
        if request.into_inner().id == self.raft.member_id() {
            self.raft.inner.facts.evict();
        }
        Ok(Response::new(pb::NoticeRemovedResponse {}))
    }
}
