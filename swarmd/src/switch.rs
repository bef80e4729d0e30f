//! The control service on the local socket: there while this node is a manager, refused otherwise.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use control_api::ControlApi;
use control_api::grpc::ControlService;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use proto::control::control_server::{ControlServer, SERVICE_NAME};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// What a user is told while there is no manager here.
type Refusal = Arc<dyn Fn() -> Status + Send + Sync>;

/// Passes requests on to the manager that runs in this process, if one does. Clones are the same.
#[derive(Clone)]
pub(crate) struct ControlSwitch {
    current: Arc<ArcSwapOption<ControlServer<ControlService>>>,
    refusal: Refusal,
}

impl ControlSwitch {
    /// Refuses everything with `refusal` at first.
    pub(crate) fn new(refusal: Refusal) -> Self {
        Self {
            current: Arc::default(),
            refusal,
        }
    }

    /// Passes requests on to `api` from now on.
    pub(crate) fn on(&self, api: ControlApi) {
        self.current
            .store(Some(Arc::new(ControlService::server(api))));
    }

    /// Refuses from now on; requests that are being answered go on.
    pub(crate) fn off(&self) {
        self.current.store(None);
    }
}

impl NamedService for ControlSwitch {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for ControlSwitch {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.current.load().as_deref() {
            Some(server) => server.clone().call(request),
            None => std::future::ready(Ok((self.refusal)().into_http())).boxed(),
        }
    }
}
