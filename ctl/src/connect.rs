//! The way to the daemon on this machine: its unix socket.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use proto::control::control_client::ControlClient;
use proto::daemon::daemon_client::DaemonClient;
use proto::daemon::images_client::ImagesClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::error::Error;

/// Where the daemon listens unless told otherwise.
pub(crate) const HOST_DEFAULT: &str = "unix:///run/swarm/swarmd.sock";

/// Size of one answer at most, in bytes: a list of 100 000 tasks fits.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// Where the daemon is said to be. Nothing is connected before it is needed, so that a mistake on
/// the command line is told first.
#[derive(Clone, Debug)]
pub(crate) struct Host(String);

impl Host {
    pub(crate) fn new(host: String) -> Self {
        Self(host)
    }

    pub(crate) async fn connect(&self) -> Result<Connection, Error> {
        Connection::open(&self.0).await
    }
}

/// Clients of the daemon's services over one connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    channel: Channel,
}

impl Connection {
    /// Connects to `unix:///path`, or a plain absolute path.
    async fn open(host: &str) -> Result<Self, Error> {
        let path = socket_path(host)?;
        let first = UnixStream::connect(&path)
            .await
            .map_err(|error| explain(&path, &error))?;
        let first = Arc::new(Mutex::new(Some(first)));
        let connect = move |_: tonic::transport::Uri| {
            let taken = first.lock().ok().and_then(|mut first| first.take());
            let path = path.clone();
            async move {
                match taken {
                    Some(stream) => Ok(TokioIo::new(stream)),
                    None => UnixStream::connect(path).await.map(TokioIo::new),
                }
            }
        };
        let channel = Endpoint::from_static("http://swarmd")
            .connect_with_connector(tower::service_fn(connect))
            .await
            .map_err(|error| Error::Connect(format!("the daemon at {host} hung up: {error}")))?;
        Ok(Self { channel })
    }

    pub(crate) fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn daemon(&self) -> DaemonClient<Channel> {
        DaemonClient::new(self.channel.clone())
    }

    pub(crate) fn images(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}

fn socket_path(host: &str) -> Result<PathBuf, Error> {
    let path = host.strip_prefix("unix://").unwrap_or(host);
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err(Error::Usage(format!(
        "host {host:?} cannot be used: it must be unix:///path/to/the/daemon's/socket"
    )))
}

fn explain(path: &Path, error: &std::io::Error) -> Error {
    let path = path.display();
    Error::Connect(match error.kind() {
        ErrorKind::NotFound => format!(
            "there is no socket at {path}: start swarmd, or name its socket with -H unix:///path \
             or SWARMCTL_HOST"
        ),
        ErrorKind::ConnectionRefused => format!(
            "nobody listens at {path}: swarmd has stopped; start it again, or name another socket \
             with -H unix:///path or SWARMCTL_HOST"
        ),
        ErrorKind::PermissionDenied => format!(
            "permission to use the socket {path} is denied: run swarmctl as root or as the \
             socket's owner"
        ),
        _ => format!("the socket {path} cannot be connected to: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_unix_sockets() {
        for (host, path) in [
            ("unix:///run/x.sock", "/run/x.sock"),
            ("/run/x.sock", "/run/x.sock"),
        ] {
            assert_eq!(socket_path(host).unwrap(), Path::new(path));
        }
        for host in ["", "tcp://1.2.3.4:2377", "unix://x.sock", "x.sock"] {
            assert_eq!(socket_path(host).unwrap_err().exit_code(), 2, "{host}");
        }
    }
}
