//! The way to whom is asked: the daemon of this machine by its socket, or managers elsewhere.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use proto::control::control_client::ControlClient;
use proto::daemon::daemon_client::DaemonClient;
use proto::daemon::images_client::ImagesClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::context::{self, Document};
use crate::error::Error;

/// Where the daemon listens unless told otherwise.
pub(crate) const HOST_DEFAULT: &str = "unix:///run/swarm/swarmd.sock";

/// Size of one answer at most, in bytes: a list of 100 000 tasks fits.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// Whom to ask. Nothing is connected before it is needed, so that a mistake on the command line is
/// told first.
#[derive(Clone, Debug)]
pub(crate) struct Host(Way);

#[derive(Clone)]
enum Way {
    /// The daemon at this socket.
    Socket(String),
    /// What a context says.
    Context(Box<Document>),
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(host) => f.write_str(host),
            Self::Context(document) => document.fmt(f),
        }
    }
}

impl Host {
    /// The daemon at this socket.
    pub(crate) fn socket(host: String) -> Self {
        Self(Way::Socket(host))
    }

    /// The cluster of a context.
    pub(crate) fn context(document: Document) -> Self {
        Self(Way::Context(Box::new(document)))
    }

    pub(crate) async fn connect(&self) -> Result<Connection, Error> {
        match &self.0 {
            Way::Socket(host) => Connection::open(host).await,
            Way::Context(document) => match &document.way {
                context::Way::Socket { host } => Connection::open(host).await,
                context::Way::Remote { managers, .. } => Connection::dial(document, managers).await,
            },
        }
    }
}

/// Clients of the daemon's services over one connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    channel: Channel,
    /// The context, when the other end is a manager elsewhere.
    remote: Option<String>,
}

impl Connection {
    /// Connects to the first manager that answers.
    async fn dial(document: &Document, managers: &[String]) -> Result<Self, Error> {
        let Some(credential) = document.way.credential()? else {
            return Err(Error::Failed("the context has no certificate".to_owned()));
        };
        let mut problems = vec![];
        for addr in managers {
            match credential.connect(addr).await {
                Ok(channel) => {
                    return Ok(Self {
                        channel,
                        remote: Some(document.name.clone()),
                    });
                }
                Err(error) => problems.push(chain(&error)),
            }
        }
        Err(Error::Connect(format!(
            "no manager of context {} can be reached: {}",
            document.name,
            problems.join("; ")
        )))
    }

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
        Ok(Self {
            channel,
            remote: None,
        })
    }

    pub(crate) fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Whether the other end is a manager elsewhere.
    pub(crate) fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// The daemon of this machine.
    pub(crate) fn daemon(&self) -> Result<DaemonClient<Channel>, Error> {
        self.local()?;
        Ok(DaemonClient::new(self.channel.clone()))
    }

    /// The images of this machine.
    pub(crate) fn images(&self) -> Result<ImagesClient<Channel>, Error> {
        self.local()?;
        Ok(ImagesClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    /// What is about one machine is asked on that machine.
    fn local(&self) -> Result<(), Error> {
        match &self.remote {
            None => Ok(()),
            Some(context) => Err(Error::Usage(format!(
                "this command is about the machine it runs on, and context {context} is a cluster \
                 elsewhere: run it there, or with --context default here"
            ))),
        }
    }
}

/// An error with all its reasons.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

pub(crate) fn socket_path(host: &str) -> Result<PathBuf, Error> {
    let path = host.strip_prefix("unix://").unwrap_or(host);
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err(Error::Usage(format!(
        "host {host:?} cannot be used: it must be unix:///path/to/the/daemon's/socket; managers elsewhere \
             are reached by a context, see `swarmctl context --help`"
    )))
}

fn explain(path: &Path, error: &std::io::Error) -> Error {
    let path = path.display();
    Error::Connect(match error.kind() {
        ErrorKind::NotFound => format!(
            "there is no socket at {path}: start swarmd, or name its socket with -H unix:///path \
             or SWARM_HOST"
        ),
        ErrorKind::ConnectionRefused => format!(
            "nobody listens at {path}: swarmd has stopped; start it again, or name another socket \
             with -H unix:///path or SWARM_HOST"
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
