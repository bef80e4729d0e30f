//! A gRPC service without protobuf: text in, and who asked comes back as text.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _};
use ca::authorize::{self, Caller, Peer, Rule};
use futures::future::{BoxFuture, FutureExt as _};
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tower::Service;

/// Answers anybody, with the root bundle when asked for it.
pub(crate) const ANYONE: &str = "/test.Echo/Anyone";
/// Answers nodes.
pub(crate) const NODES: &str = "/test.Echo/Nodes";
/// Answers managers.
pub(crate) const MANAGERS: &str = "/test.Echo/Managers";
/// Answers users of this machine.
pub(crate) const LOCAL: &str = "/test.Echo/Local";
/// Answers nobody, for want of a rule.
pub(crate) const NO_RULE: &str = "/test.Echo/NoRule";
/// Passes the request on to `NODES` of another server, saying who asked.
pub(crate) const RELAY: &str = "/test.Echo/Relay";

pub(crate) const RULES: &[Rule] = &[
    (ANYONE, &[Caller::Anyone]),
    (NODES, &[Caller::Worker, Caller::Manager]),
    (MANAGERS, &[Caller::Manager]),
    (LOCAL, &[Caller::Local]),
    (RELAY, &[Caller::Anyone]),
];

/// What the service does with text that it is asked, beyond saying who asked.
pub(crate) type Answer = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Echo {
    pub(crate) answer: Answer,
    pub(crate) leader: Option<Channel>,
}

impl Echo {
    async fn handle(
        self,
        path: String,
        request: Request<String>,
    ) -> Result<Response<String>, Status> {
        let origin = *authorize::origin(&request)?;
        if path == RELAY {
            let leader = self
                .leader
                .ok_or_else(|| Status::failed_precondition("no leader"))?;
            let mut onward = Request::new(request.into_inner());
            authorize::forward(&origin, onward.metadata_mut());
            return send(leader, NODES, onward).await;
        }
        if let Some(answer) = (self.answer)(request.get_ref()) {
            return Ok(Response::new(answer));
        }
        let who = match origin.peer {
            Peer::Anonymous => "anonymous".to_owned(),
            Peer::Node(node) => format!("{} {}", node.role, node.node_id),
            Peer::Local(local) => format!("local {}", local.uid),
            Peer::Client(client) => format!("{} {}", client.role, client.client_id),
        };
        let via = origin
            .forwarded_by
            .map(|node| format!(" via {node}"))
            .unwrap_or_default();
        assert_eq!(authorize::caller(&request)?, origin.peer.caller());
        Ok(Response::new(format!("{who}{via}")))
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let handler = Handler {
            echo: self.clone(),
            path: request.uri().path().to_owned(),
        };
        async move { Ok(tonic::server::Grpc::new(Text).unary(handler, request).await) }.boxed()
    }
}

struct Handler {
    echo: Echo,
    path: String,
}

impl UnaryService<String> for Handler {
    type Response = String;
    type Future = BoxFuture<'static, Result<Response<String>, Status>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        self.echo.clone().handle(self.path.clone(), request).boxed()
    }
}

/// Calls an RPC with some text.
pub(crate) async fn ask(
    channel: &Channel,
    path: &'static str,
    text: &str,
) -> Result<String, Status> {
    send(channel.clone(), path, Request::new(text.to_owned()))
        .await
        .map(Response::into_inner)
}

/// Calls an RPC with a request as it is.
pub(crate) async fn send(
    channel: Channel,
    path: &'static str,
    request: Request<String>,
) -> Result<Response<String>, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    // As generated clients do it, keeping the cause for `ca::tls::refusal`.
    client
        .ready()
        .await
        .map_err(|e| Status::from_error(Box::new(e)))?;
    client
        .unary(request, PathAndQuery::from_static(path), Text)
        .await
}

#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, item: String, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put_slice(item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = src.copy_to_bytes(src.remaining());
        String::from_utf8(bytes.into())
            .map(Some)
            .map_err(|e| Status::internal(e.to_string()))
    }
}
