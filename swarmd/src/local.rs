//! The services on the local socket: this machine's daemon and images, and the cluster's control.

use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use ca::Tls;
use ca::authorize::{Authorize, Verdict};
use ca::unix::Access;
use image::ImageStore;
use proto::daemon::daemon_server::{Daemon as Rpc, DaemonServer};
use proto::daemon::images_server::ImagesServer;
use proto::daemon::{
    GetStatusRequest, GetStatusResponse, InitRequest, InitResponse, JoinRequest, JoinResponse,
    LeaveRequest, LeaveResponse, UnlockRequest, UnlockResponse, get_status_response,
};
use proto::objects;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use types::ClusterSpec;
use types::node::Availability;

use crate::daemon::Inner;
use crate::error::{LOCKED, chain};
use crate::images::ImagesService;
use crate::view::Standing;
use crate::{Error, Init, Join, View, authorize, image_use};

/// How long requests may go on once the daemon stops.
const STOP_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(300);

/// Makes the socket and serves it until `stop`.
pub(crate) fn serve(
    inner: &Arc<Inner>,
    images: ImageStore,
    socket: &Path,
    gid: Option<u32>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let refused = |source| Error::Socket {
        path: socket.to_owned(),
        source,
    };
    if let Some(parent) = socket.parent().filter(|parent| !parent.exists()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .and_then(|()| std::fs::set_permissions(parent, Permissions::from_mode(0o755)))
            .map_err(refused)?;
    }
    let listener = ca::unix::bind(socket, gid).map_err(refused)?;
    let nobody = Tls::new(None)?;
    // Callers on the socket are users, not nodes: no certificate counts here.
    let layer = Authorize::new(
        authorize::RULES.iter().copied(),
        nobody,
        Arc::new(|_| Verdict::Removed),
    )
    .expect("a test holds that no RPC has two rules");
    let environment = inner.environment();
    let in_use = image_use::by_tasks(environment.state_dir.task_records(), images.clone());
    let router = Server::builder()
        .layer(layer)
        .add_service(DaemonServer::new(DaemonService {
            inner: inner.clone(),
        }))
        .add_service(ImagesServer::new(ImagesService::new(images, in_use)))
        .add_service(environment.control.clone());
    let incoming = ca::unix::incoming(listener, Access::of_this_process(gid), stop.clone());
    let (stop, socket) = (stop.clone(), socket.to_owned());
    environment.tasks.spawn(async move {
        let stopped = stop.clone();
        let serving = router.serve_with_incoming_shutdown(incoming, stopped.cancelled_owned());
        let bounded = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_TIMEOUT).await;
        };
        tokio::select! {
            served = serving => {
                if let Err(error) = served {
                    tracing::error!(error = chain(&error), "the local socket is served no more");
                }
            }
            () = bounded => {}
        }
        // A socket that nobody answers would only puzzle users.
        drop(std::fs::remove_file(socket));
    });
    Ok(())
}

/// What a user is told who asks something of the cluster on a node that is no manager (S19.08).
pub(crate) fn no_manager(view: &View) -> Status {
    if view.standing == Standing::Locked {
        return Status::unavailable(LOCKED);
    }
    let what_to_do = match (&view.standing, view.error.as_str()) {
        (Standing::Error, error) => format!("it is in error: {error}"),
        (Standing::Locked, _) => LOCKED.to_owned(),
        (Standing::Inactive, _) => {
            "use `swarmctl init` or `swarmctl join` to make it part of a swarm".to_owned()
        }
        (Standing::Pending, _) => "it is on its way into the managers' group".to_owned(),
        (Standing::Active, _) => {
            "worker nodes cannot view or change the state of the cluster, run \
                                  this on a manager or promote this node"
                .to_owned()
        }
    };
    Status::failed_precondition(format!("this node is not a swarm manager: {what_to_do}"))
}

struct DaemonService {
    inner: Arc<Inner>,
}

#[tonic::async_trait]
impl Rpc for DaemonService {
    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let view = self.inner.view().borrow().clone();
        let state = match view.standing {
            Standing::Inactive => get_status_response::State::Inactive,
            Standing::Pending => get_status_response::State::Pending,
            Standing::Active => get_status_response::State::Active,
            Standing::Error => get_status_response::State::Error,
            Standing::Locked => get_status_response::State::Locked,
        };
        let mut answer = GetStatusResponse {
            state: state.into(),
            error: view.error,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            managers: view.managers,
            pid: std::process::id(),
            ..GetStatusResponse::default()
        };
        if let Some(member) = view.member {
            answer.node_id = member.node_id.to_string();
            answer.cluster_id = member.cluster_id.to_string();
            answer.role = objects::NodeRole::from(member.role).into();
            answer.advertise_addr = member.advertise_addr;
        }
        Ok(Response::new(answer))
    }

    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        let request = request.into_inner();
        let spec = request.spec.map(ClusterSpec::try_from).transpose();
        let init = Init {
            listen_addr: request.listen_addr,
            advertise_addr: request.advertise_addr,
            data_path_addr: request.data_path_addr,
            availability: availability(request.availability)?,
            spec: spec
                .map_err(|error| Status::invalid_argument(error.to_string()))?
                .unwrap_or_default(),
        };
        let made = self.inner.init(init).await?;
        Ok(Response::new(InitResponse {
            node_id: made.node_id.to_string(),
            advertise_addr: made.advertise_addr,
            worker_token: made.worker_token,
            unlock_key: made.unlock_key,
        }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        let join = Join {
            remote_addr: request.remote_addr,
            token: request.token,
            listen_addr: request.listen_addr,
            advertise_addr: request.advertise_addr,
            data_path_addr: request.data_path_addr,
            availability: availability(request.availability)?,
        };
        let node_id = self.inner.join(join).await?;
        let role = self.inner.view().borrow().member.as_ref().map(|it| it.role);
        Ok(Response::new(JoinResponse {
            node_id: node_id.to_string(),
            role: objects::NodeRole::from(role.unwrap_or_default()).into(),
        }))
    }

    async fn leave(
        &self,
        request: Request<LeaveRequest>,
    ) -> Result<Response<LeaveResponse>, Status> {
        self.inner.leave(request.into_inner().force).await?;
        Ok(Response::new(LeaveResponse {}))
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let key = zeroize::Zeroizing::new(request.into_inner().key);
        self.inner.unlock(&key).await?;
        Ok(Response::new(UnlockResponse {}))
    }
}

fn availability(number: i32) -> Result<Availability, Status> {
    objects::Availability::try_from(number)
        .map(Availability::from)
        .map_err(|_| Status::invalid_argument("availability: not a known one"))
}
