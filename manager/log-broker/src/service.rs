//! The RPC: one stream for each node.

use proto::logs::log_broker_server::{LogBroker as Rpc, LogBrokerServer};
use proto::logs::{self as wire};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use types::NodeId;

use crate::LogBroker;
use crate::hub::{ORDERS_MAX, Orders};

impl LogBroker {
    /// The gRPC service. It expects the origin of each request in its extensions
    /// ([`ca::authorize`]).
    #[must_use]
    pub fn into_service(self) -> LogBrokerServer<Self> {
        LogBrokerServer::new(self)
    }

    /// Takes what a node publishes until its stream ends or it breaks the rules.
    async fn listen(
        self,
        node: NodeId,
        orders: Orders,
        mut incoming: Streaming<wire::PublishMessage>,
    ) {
        let alive = CancellationToken::new();
        let key = {
            let mut hub = self.hub.lock();
            if !hub.is_open() {
                return;
            }
            hub.publisher(node, orders.clone(), alive.clone())
        };
        loop {
            let message = tokio::select! {
                message = incoming.message() => message,
                // A newer stream took this one's place, or leadership is lost.
                () = alive.cancelled() => break,
                // The node does not read any more.
                () = orders.closed() => break,
            };
            let Ok(Some(message)) = message else { break };
            let state = self.options.store.state();
            let received = self.hub.lock().receive(&state, node, message);
            if let Err(status) = received {
                tracing::warn!(%node, reason = status.message(), "a stream of logs was closed");
                drop(orders.try_send(Err(status)));
                break;
            }
        }
        self.hub.lock().publisher_gone(node, key);
    }
}

#[tonic::async_trait]
impl Rpc for LogBroker {
    type PublishStream = ReceiverStream<Result<wire::BrokerMessage, Status>>;

    async fn publish(
        &self,
        request: Request<Streaming<wire::PublishMessage>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let node = ca::authorize::node(&request)?.node_id;
        if !self.hub.lock().is_open() {
            return Err(Status::failed_precondition(
                "this manager does not lead the swarm",
            ));
        }
        let (orders, stream) = mpsc::channel(ORDERS_MAX);
        let broker = self.clone();
        self.streams
            .spawn(broker.listen(node, orders, request.into_inner()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
