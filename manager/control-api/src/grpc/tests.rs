//! The API over a real unix socket: what goes in as messages comes out as messages.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::grpc::ControlService;
use crate::{
    ClusterStatus, ControlApi, Error, LogBatch, LogLine, LogOptions, LogSelector, LogSource,
    LogStream, LogStreamName, Manager,
};
use async_trait::async_trait;
use futures::StreamExt as _;
use hyper_util::rt::TokioIo;
use proto::control as wire;
use proto::control::control_client::ControlClient;
use store::Store;
use store::testing::LocalProposer;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Server};
use types::{NodeId, ServiceId, ServiceSpec, TaskId, Timestamp};

struct Alone;

impl ClusterStatus for Alone {
    fn self_id(&self) -> NodeId {
        NodeId::from_number(1)
    }
    fn leader(&self) -> Option<u64> {
        Some(1)
    }
    fn reachable(&self, _: u64) -> bool {
        true
    }
    fn managers(&self) -> Vec<Manager> {
        vec![]
    }
}

/// One line and one complaint.
struct OneLine;

#[async_trait]
impl LogSource for OneLine {
    async fn subscribe(&self, selector: LogSelector, _: LogOptions) -> Result<LogStream, Error> {
        let line = LogLine {
            service_id: selector.services[0],
            task_id: TaskId::from_number(7),
            node_id: NodeId::from_number(1),
            timestamp: Timestamp(5),
            stream: LogStreamName::Stderr,
            line: "hello".into(),
        };
        let lines = LogBatch {
            lines: vec![line],
            incomplete: vec![],
        };
        let missing = LogBatch {
            lines: vec![],
            incomplete: vec!["node x is down".into()],
        };
        let end = Err(Error::Logs("gone".into()));
        Ok(futures::stream::iter([Ok(lines), Ok(missing), end]).boxed())
    }
}

struct Served {
    client: ControlClient<Channel>,
    _server: JoinSet<()>,
    _dir: tempfile::TempDir,
}

async fn serve() -> Served {
    let store = Store::new();
    let proposer = Arc::new(LocalProposer::new(store.clone()));
    let api = ControlApi::new(store, proposer, Arc::new(Alone), Arc::new(OneLine));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListenerStream::new(UnixListener::bind(&path).unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let router = Server::builder().add_service(ControlService::server(api));
        router.serve_with_incoming(listener).await.unwrap();
    });
    Served {
        client: connect(&path).await,
        _server: server,
        _dir: dir,
    }
}

async fn connect(path: &Path) -> ControlClient<Channel> {
    let path = path.to_owned();
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://swarmd");
    ControlClient::new(endpoint.connect_with_connector(connect).await.unwrap())
}

fn spec(name: &str) -> ServiceSpec {
    let mut spec = ServiceSpec {
        name: name.to_owned(),
        ..ServiceSpec::default()
    };
    Arc::make_mut(&mut spec.task).container.image = "web:1".to_owned();
    spec
}

fn create(spec: &ServiceSpec) -> wire::CreateServiceRequest {
    wire::CreateServiceRequest {
        spec: Some(spec.into()),
    }
}

#[tokio::test]
async fn a_service_goes_its_way() {
    let mut served = serve().await;
    let client = &mut served.client;
    let created = client
        .create_service(create(&spec("web")))
        .await
        .unwrap()
        .into_inner();
    let service = types::Service::try_from(created.service.unwrap()).unwrap();
    assert_eq!(service.spec, spec("web"));

    let watched = wire::WatchServiceRequest { key: "web".into() };
    let mut watch = client.watch_service(watched).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap().service.unwrap();
    assert_eq!((first.running_tasks, first.desired_tasks), (0, 1));

    let mut changed = service.spec.clone();
    changed.labels.insert("a".into(), "b".into());
    let update = wire::UpdateServiceRequest {
        id: service.id.to_string(),
        version: service.meta.version.index,
        spec: Some((&changed).into()),
        rollback: false,
    };
    client.update_service(update.clone()).await.unwrap();
    let second = tokio::time::timeout(Duration::from_secs(10), watch.message())
        .await
        .unwrap();
    let second = second.unwrap().unwrap().service.unwrap().service.unwrap();
    assert_eq!(types::Service::try_from(second).unwrap().spec, changed);

    let stale = client.update_service(update).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    assert!(
        stale
            .message()
            .contains("update out of sequence: service web"),
        "{stale}"
    );

    let removed = wire::RemoveServiceRequest { key: "web".into() };
    let id = client
        .remove_service(removed)
        .await
        .unwrap()
        .into_inner()
        .id;
    assert_eq!(id.parse::<ServiceId>().unwrap(), service.id);
    assert!(watch.message().await.unwrap().unwrap().service.is_none());
    assert!(
        watch.message().await.unwrap().is_none(),
        "the stream ends with the service"
    );
}

#[tokio::test]
async fn each_mistake_has_its_code() {
    let mut served = serve().await;
    let client = &mut served.client;
    client.create_service(create(&spec("web"))).await.unwrap();
    let code = |result: Result<_, tonic::Status>| result.map(drop).unwrap_err().code();
    let client_of = || client.clone();
    let get = |key: &str| wire::GetServiceRequest { key: key.into() };

    let taken = client_of().create_service(create(&spec("web"))).await;
    assert_eq!(code(taken), Code::AlreadyExists);
    let wrong = client_of().create_service(create(&spec("web!"))).await;
    assert_eq!(code(wrong), Code::InvalidArgument);
    let empty = client_of()
        .create_service(wire::CreateServiceRequest::default())
        .await;
    assert_eq!(empty.unwrap_err().message(), "spec: is missing");
    assert_eq!(
        client_of()
            .get_service(get("nope"))
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    let id = client_of()
        .get_service(get("web"))
        .await
        .unwrap()
        .into_inner();
    let service = id.service.unwrap().service.unwrap();
    let version = service.meta.unwrap().version;
    let update = |spec: &ServiceSpec, rollback| wire::UpdateServiceRequest {
        id: service.id.clone(),
        version,
        spec: Some(spec.into()),
        rollback,
    };
    let renamed = client_of()
        .update_service(update(&spec("api"), false))
        .await
        .unwrap_err();
    assert_eq!(renamed.code(), Code::Unimplemented);
    let back = client_of()
        .update_service(update(&spec("web"), true))
        .await
        .unwrap_err();
    assert_eq!(back.code(), Code::FailedPrecondition);
    let no_cluster = client_of()
        .get_cluster(wire::GetClusterRequest {})
        .await
        .unwrap_err();
    assert_eq!(no_cluster.code(), Code::Unavailable);
    let role = wire::RotateJoinTokenRequest { role: 9 };
    let role = client_of().rotate_join_token(role).await.unwrap_err();
    assert_eq!(role.message(), "role: 9 is not a role");
}

#[tokio::test]
async fn a_request_beyond_a_transaction_is_refused_in_words() {
    let mut served = serve().await;
    let mut huge = spec("web");
    Arc::make_mut(&mut huge.task).container.args = vec!["x".repeat(8 << 20)];
    let refused = served
        .client
        .create_service(create(&huge))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
}

#[tokio::test]
async fn logs_come_with_what_is_missing() {
    let mut served = serve().await;
    served
        .client
        .create_service(create(&spec("web")))
        .await
        .unwrap();
    let request = wire::ServiceLogsRequest {
        keys: vec!["web".into()],
        options: None,
    };
    let mut logs = served
        .client
        .service_logs(request)
        .await
        .unwrap()
        .into_inner();
    let first = logs.message().await.unwrap().unwrap();
    assert_eq!(first.lines[0].line, b"hello");
    assert_eq!(first.lines[0].stream, proto::logs::LogStream::Stderr as i32);
    assert_eq!(
        logs.message().await.unwrap().unwrap().incomplete,
        ["node x is down"]
    );
    assert_eq!(logs.message().await.unwrap_err().code(), Code::Unavailable);
}
