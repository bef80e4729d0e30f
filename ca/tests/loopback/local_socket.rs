//! The local socket: the kernel says who is there, the layer says what they may do.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ca::Tls;
use ca::authorize::{Authorize, Verdict};
use ca::unix::{self, Access};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Server};

use crate::echo::{ANYONE, Echo, LOCAL, NODES, RULES, ask};

/// A user that nobody is.
const NOBODY: u32 = 65_534;

struct Daemon {
    path: PathBuf,
    _serving: JoinSet<()>,
    _dir: tempfile::TempDir,
}

fn start(access: Access) -> Daemon {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("swarmd.sock");
    let listener = unix::bind(&path, None).unwrap();
    let incoming = unix::incoming(listener, access, CancellationToken::new());
    // Before `init` there is no identity, and local users have to be served all the same.
    let tls = Tls::new(None).unwrap();
    let layer = Authorize::new(RULES.iter().copied(), tls, Arc::new(|_| Verdict::Good)).unwrap();
    let echo = Echo {
        answer: Arc::new(|_| None),
        leader: None,
    };
    let served = Server::builder().layer(layer).add_service(echo);
    let mut serving = JoinSet::new();
    serving.spawn(async move { served.serve_with_incoming(incoming).await.unwrap() });
    Daemon {
        path,
        _serving: serving,
        _dir: dir,
    }
}

async fn dial(path: &Path) -> Channel {
    over(UnixStream::connect(path).await.unwrap()).await
}

async fn over(stream: UnixStream) -> Channel {
    let mut stream = Some(TokioIo::new(stream));
    Endpoint::from_static("http://local")
        .connect_with_connector(tower::service_fn(move |_| {
            let stream = stream
                .take()
                .ok_or_else(|| std::io::Error::other("one connection only"));
            async { stream }
        }))
        .await
        .unwrap()
}

#[tokio::test]
async fn the_daemons_own_user_is_a_local_user() {
    let daemon = start(Access::of_this_process(None));
    let channel = dial(&daemon.path).await;
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(
        ask(&channel, LOCAL, "").await.unwrap(),
        format!("local {uid}")
    );
    let status = ask(&channel, NODES, "").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("a local user may not call"),
        "{status}"
    );
}

#[tokio::test]
async fn other_users_are_told_why_they_are_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    // As if somebody had opened the socket's mode by hand.
    let daemon = start(Access::of_this_process(None));
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(daemon.path.parent().unwrap(), open.clone()).unwrap();
    std::fs::set_permissions(&daemon.path, open).unwrap();
    let path = daemon.path.clone();
    let stream = tokio::task::spawn_blocking(move || connect_as(NOBODY, &path))
        .await
        .unwrap();
    let channel = over(UnixStream::from_std(stream).unwrap()).await;
    for rpc in [LOCAL, ANYONE] {
        let status = ask(&channel, rpc, "").await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains("user 65534"), "{status}");
    }
}

/// Connects in a thread that has become another user; the kernel notes the user of that moment.
fn connect_as(uid: u32, path: &Path) -> std::os::unix::net::UnixStream {
    let path = path.to_owned();
    let stream = std::thread::spawn(move || {
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(uid)).unwrap();
        std::os::unix::net::UnixStream::connect(path).unwrap()
    })
    .join()
    .unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}
