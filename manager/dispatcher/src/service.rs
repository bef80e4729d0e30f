//! The RPC: lets an agent in, or sends it to the leader.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use proto::dispatcher::dispatcher_server::{Dispatcher as Rpc, DispatcherServer};
use proto::dispatcher::{self as wire, agent_message};
use seal::SealKey;
use store::{Action, ProposeError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};
use types::node::{NodeDescription, NodeState, NodeStatus};
use types::{Node, NodeId};

use crate::Dispatcher;
use crate::liveness::{Registered, TooMany};
use crate::mailbox::Mailbox;
use crate::session::Session;
use crate::term::Term;
use crate::wireguard_keys;

/// Metadata that names the leader's address when another manager was asked.
pub const LEADER_KEY: &str = "swarm-leader";

/// How long an agent may take to say who it is.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages towards the agent that may wait for the connection.
const OUTGOING_MAX: usize = 16;
/// Largest message taken from an agent: a full batch of reports with long texts.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// What a node may say of itself, encoded; it goes into every manager's memory.
const DESCRIPTION_BYTES_MAX: usize = 64 << 10;

impl Dispatcher {
    /// The gRPC service. It expects the origin of each request in its extensions
    /// ([`ca::authorize`]).
    #[must_use]
    pub fn into_service(self) -> DispatcherServer<Self> {
        DispatcherServer::new(self).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn not_leader(&self) -> Status {
        let mut status = Status::failed_precondition("this manager does not lead the swarm");
        let leader = (self.options.leader_addr)();
        if let Some(value) = leader.and_then(|addr| MetadataValue::try_from(addr).ok()) {
            status.metadata_mut().insert(LEADER_KEY, value);
        }
        status
    }
}

#[tonic::async_trait]
impl Rpc for Dispatcher {
    type SessionStream = ReceiverStream<Result<wire::ManagerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let node = ca::authorize::node(&request)?.node_id;
        let addr = ca::authorize::origin(&request)?.remote_addr;
        let addr = addr.map(|addr| addr.ip().to_canonical());
        let Some(term) = self.term() else {
            return Err(self.not_leader());
        };
        let mut incoming = request.into_inner();
        let (description, seal_key) = registration(&mut incoming).await?;
        let mailbox = Arc::new(Mailbox::new(&term.token));
        let registered = register(&term, node, &mailbox)?;
        let key = registered.key;
        if let Err(status) = note_ready(&term, node, addr, description, &registered).await {
            term.liveness()
                .broken(node, key, Instant::now(), term.disconnect_grace());
            term.sooner.notify_one();
            return Err(status);
        }
        tracing::info!(%node, resumed = registered.is_resumed, "node registered");
        let (outgoing, stream) = mpsc::channel(OUTGOING_MAX);
        let session = Session::new(term.clone(), node, key, mailbox, outgoing, seal_key);
        term.sessions.spawn(session.run(incoming));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// What the agent says of itself first.
async fn registration(
    incoming: &mut Streaming<wire::AgentMessage>,
) -> Result<(NodeDescription, Option<SealKey>), Status> {
    let first = tokio::time::timeout(REGISTER_TIMEOUT, incoming.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no registration came"))??;
    match first.and_then(|message| message.message) {
        Some(agent_message::Message::Register(wire::Register {
            description,
            seal_key,
        })) => {
            let description = description_of(description.unwrap_or_default())?;
            // An agent without a key gets no secrets.
            Ok((description, SealKey::try_from(&seal_key[..]).ok()))
        }
        Some(_) | None => Err(Status::invalid_argument(
            "a session begins with a registration",
        )),
    }
}

/// Reads what a node says of itself.
pub(crate) fn description_of(
    description: proto::objects::NodeDescription,
) -> Result<NodeDescription, Status> {
    if description.encoded_len() > DESCRIPTION_BYTES_MAX {
        return Err(Status::invalid_argument(
            "the description of the node is too large",
        ));
    }
    NodeDescription::try_from(description)
        .map_err(|e| Status::invalid_argument(format!("the description of the node: {e}")))
}

fn register(
    term: &Term,
    node: NodeId,
    mailbox: &Arc<Mailbox>,
) -> Result<Registered<Arc<Mailbox>>, Status> {
    if term.store.state().node(node).is_none() {
        return Err(not_registered(node));
    }
    let period = term.heartbeat_period();
    let now = Instant::now();
    let registered = term.liveness().register(node, mailbox.clone(), now, period);
    let mut registered = registered.map_err(|TooMany| {
        Status::unavailable("the node registered too often: try again in a few seconds")
    })?;
    if let Some(old) = registered.superseded.take() {
        old.end(Status::aborted("the node opened a newer session"));
    }
    term.suspicion().heard(node);
    term.sooner.notify_one();
    Ok(registered)
}

/// The node is not, or no longer, part of the cluster.
pub(crate) fn not_registered(node: NodeId) -> Status {
    Status::not_found(format!(
        "node {node} is not registered: it was removed from the swarm"
    ))
}

/// Has the store say that the node is ready. Returning from a short absence, which nobody has
/// noticed, needs no write.
async fn note_ready(
    term: &Term,
    node: NodeId,
    addr: Option<IpAddr>,
    mut description: NodeDescription,
    registered: &Registered<Arc<Mailbox>>,
) -> Result<(), Status> {
    let state = term.store.state();
    let stored = state.node(node).ok_or_else(|| not_registered(node))?;
    wireguard_keys::keep_own(&mut description, node, &state);
    let addr = address(stored, addr);
    let is_noted = registered.is_resumed
        && stored.status.state == NodeState::Ready
        && stored.status.addr == addr
        && stored.description.as_ref() == Some(&description);
    if is_noted {
        return Ok(());
    }
    let status = NodeStatus {
        state: NodeState::Ready,
        message: String::new(),
        addr,
    };
    let action = Action::NodeStatus {
        node,
        status,
        description: Some(description),
    };
    term.writer.commit(vec![action]).await.map_err(unwritten)
}

/// Where others reach the node. A manager's own agent may come over the loopback interface.
fn address(node: &Node, seen: Option<IpAddr>) -> Option<IpAddr> {
    let advertised = || {
        let addr = &node.manager_status.as_ref()?.addr;
        Some(addr.parse::<std::net::SocketAddr>().ok()?.ip())
    };
    match seen {
        Some(ip) if !ip.is_loopback() => Some(ip),
        Some(_) | None => advertised().or(seen).or(node.status.addr),
    }
}

/// What an agent is told when its news cannot be stored: it comes again.
pub(crate) fn unwritten(error: ProposeError) -> Status {
    Status::unavailable(error.to_string())
}
