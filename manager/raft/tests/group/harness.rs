//! A group of members in one process, over real gRPC on loopback, whose links can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use swarm_raft::{BackendKind, BoxError, DataKey, Dialer, Options, Raft, StateMachine, Status};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::{Channel, Endpoint, Server};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps every applied command in order.
#[derive(Default)]
pub(crate) struct Journal {
    state: Mutex<(Vec<Vec<u8>>, usize)>,
}

impl Journal {
    pub(crate) fn commands(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state
            .0
            .iter()
            .map(|c| String::from_utf8_lossy(c).into_owned())
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().unwrap().0.len()
    }

    pub(crate) fn restores(&self) -> usize {
        self.state.lock().unwrap().1
    }
}

impl StateMachine for Journal {
    fn apply(&self, _: u64, data: &[u8]) -> Vec<u8> {
        let mut state = self.state.lock().unwrap();
        state.0.push(data.to_vec());
        format!(
            "{}. {}",
            state.0.len(),
            String::from_utf8_lossy(&data[..data.len().min(20)])
        )
        .into_bytes()
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let commands = self.state.lock().unwrap().0.clone();
        Box::new(move || {
            let mut bytes = Vec::new();
            for command in commands {
                bytes.extend_from_slice(&u32::try_from(command.len()).unwrap().to_be_bytes());
                bytes.extend_from_slice(&command);
            }
            bytes
        })
    }

    fn restore(&self, _: u64, mut data: &[u8]) -> Result<(), BoxError> {
        let mut commands = Vec::new();
        while let Some((length, rest)) = data.split_first_chunk::<4>() {
            let (command, rest) = rest
                .split_at_checked(u32::from_be_bytes(*length) as usize)
                .ok_or("the snapshot is cut")?;
            commands.push(command.to_vec());
            data = rest;
        }
        let mut state = self.state.lock().unwrap();
        state.0 = commands;
        state.1 += 1;
        Ok(())
    }
}

/// For every address a token that is cancelled while nobody can reach it and it reaches nobody.
#[derive(Clone, Default)]
pub(crate) struct Net(Arc<Mutex<BTreeMap<SocketAddr, CancellationToken>>>);

impl Net {
    fn token(&self, addr: SocketAddr) -> CancellationToken {
        self.0.lock().unwrap().entry(addr).or_default().clone()
    }

    fn cut(&self, addr: SocketAddr) {
        self.token(addr).cancel();
    }

    fn heal(&self, addr: SocketAddr) {
        self.0.lock().unwrap().remove(&addr);
    }
}

/// Dials for one member.
struct Wire {
    net: Net,
    own: SocketAddr,
}

#[async_trait::async_trait]
impl Dialer for Wire {
    async fn dial(&self, addr: &str) -> Result<Channel, BoxError> {
        let to: SocketAddr = addr.parse()?;
        let (net, own) = (self.net.clone(), self.own);
        let connect = tower::service_fn(move |_| {
            let net = net.clone();
            async move {
                if net.token(own).is_cancelled() || net.token(to).is_cancelled() {
                    return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
                }
                let stream = TcpStream::connect(to).await?;
                stream.set_nodelay(true)?;
                Ok(TokioIo::new(Link::new(stream, &net, [own, to])))
            }
        });
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?;
        Ok(endpoint.connect_with_connector(connect).await?)
    }
}

/// A connection that breaks when one of its ends is cut off.
struct Link {
    stream: TcpStream,
    cut: [Pin<Box<WaitForCancellationFutureOwned>>; 2],
}

impl Link {
    fn new(stream: TcpStream, net: &Net, ends: [SocketAddr; 2]) -> Self {
        Self {
            stream,
            cut: ends.map(|end| Box::pin(net.token(end).cancelled_owned())),
        }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self
            .cut
            .iter_mut()
            .any(|cut| cut.as_mut().poll(cx).is_ready())
        {
            return Err(io::Error::from(io::ErrorKind::ConnectionReset));
        }
        Ok(())
    }
}

impl tonic::transport::server::Connected for Link {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// One running member and its server.
pub(crate) struct Node {
    pub(crate) raft: Raft,
    pub(crate) journal: Arc<Journal>,
    pub(crate) addr: SocketAddr,
    pub(crate) options: Options,
    net: Net,
    server: JoinSet<()>,
}

impl Node {
    pub(crate) async fn start(options: Options, net: Net) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_at(options, net, listener).await
    }

    async fn start_at(options: Options, net: Net, listener: TcpListener) -> Self {
        let addr = listener.local_addr().unwrap();
        let journal = Arc::new(Journal::default());
        let dialer = Arc::new(Wire {
            net: net.clone(),
            own: addr,
        });
        let raft = Raft::start(options.clone(), journal.clone(), dialer)
            .await
            .unwrap();
        let mut server = JoinSet::new();
        let service = raft.grpc_service();
        let accept = {
            let net = net.clone();
            async_stream(listener, move |stream| Link::new(stream, &net, [addr; 2]))
        };
        server.spawn(async move {
            Server::builder()
                .add_service(service)
                .serve_with_incoming(accept)
                .await
                .unwrap();
        });
        Self {
            raft,
            journal,
            addr,
            options,
            net,
            server,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.raft.member_id()
    }

    pub(crate) fn status(&self) -> Status {
        self.raft.status().borrow().clone()
    }

    pub(crate) async fn wait(&self, what: &str, wanted: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.raft.status();
        match tokio::time::timeout(PATIENCE, status.wait_for(wanted)).await {
            Ok(Ok(status)) => status.clone(),
            _ => panic!("{what}: {:?}", self.status()),
        }
    }

    pub(crate) async fn wait_len(&self, len: usize) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.journal.len() < len {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{} of {len} applied, {:?}",
                self.journal.len(),
                self.status()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn propose(&self, data: &str) -> String {
        let committed = self.raft.propose(data.as_bytes().to_vec()).await.unwrap();
        String::from_utf8(committed.response).unwrap()
    }

    pub(crate) fn cut(&self) {
        self.net.cut(self.addr);
    }

    pub(crate) fn heal(&self) {
        self.net.heal(self.addr);
    }

    /// Ends the member without a word to the others, and frees its directory.
    pub(crate) async fn kill(mut self) -> (Options, SocketAddr, Net) {
        self.cut();
        self.server.shutdown().await;
        self.raft.shutdown().await;
        (self.options, self.addr, self.net)
    }

    /// Starts a killed member again where it was.
    pub(crate) async fn restart((options, addr, net): (Options, SocketAddr, Net)) -> Self {
        net.heal(addr);
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(addr).unwrap();
        Self::start_at(options, net, socket.listen(64).unwrap()).await
    }
}

fn async_stream(
    listener: TcpListener,
    wrap: impl Fn(TcpStream) -> Link,
) -> impl tokio_stream::Stream<Item = io::Result<Link>> {
    use tokio_stream::StreamExt as _;
    tokio_stream::wrappers::TcpListenerStream::new(listener).map(move |stream| {
        let stream = stream?;
        stream.set_nodelay(true)?;
        Ok(wrap(stream))
    })
}

/// Several members and the directory they live in.
pub(crate) struct Group {
    pub(crate) nodes: Vec<Node>,
    pub(crate) net: Net,
    dir: tempfile::TempDir,
    change: fn(&mut Options),
}

impl Group {
    /// `count` voters, of which the first was bootstrapped.
    pub(crate) async fn new(count: u64) -> Self {
        Self::with(count, |_| {}).await
    }

    pub(crate) async fn with(count: u64, change: fn(&mut Options)) -> Self {
        let mut group = Self::empty(change);
        for _ in 0..count {
            group.grow().await;
        }
        group
    }

    fn empty(change: fn(&mut Options)) -> Self {
        // RUST_LOG shows what happens in a failing test.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer();
        drop(log.try_init());
        let dir = tempfile::tempdir().unwrap();
        Self {
            nodes: Vec::new(),
            net: Net::default(),
            dir,
            change,
        }
    }

    fn options(&self, id: u64) -> Options {
        let key = DataKey::new([u8::try_from(id % 256).unwrap(); 32]);
        let mut options = Options::new(self.dir.path().join(id.to_string()), id, key);
        options.backend = BackendKind::default();
        (self.change)(&mut options);
        options
    }

    /// A started member that is in no group.
    pub(crate) async fn fresh(&self, id: u64) -> Node {
        Node::start(self.options(id), self.net.clone()).await
    }

    /// Adds one more voter.
    pub(crate) async fn grow(&mut self) -> u64 {
        let id = 1 + self.nodes.iter().map(Node::id).max().unwrap_or(0);
        let node = self.fresh(id).await;
        match self.nodes.first() {
            None => node.raft.bootstrap(&node.addr.to_string()).await.unwrap(),
            Some(first) => {
                node.raft
                    .join(&first.addr.to_string(), &node.addr.to_string())
                    .await
                    .unwrap();
            }
        }
        self.nodes.push(node);
        id
    }

    /// Waits until all agree on a leader that answers, and returns its place.
    pub(crate) async fn leader(&self) -> usize {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let statuses: Vec<Status> = self.nodes.iter().map(Node::status).collect();
            let leaders: BTreeSet<_> = statuses.iter().map(|s| s.leader).collect();
            let leads = statuses.iter().position(|s| s.is_leader);
            if leaders.len() == 1
                && let Some(at) = leads
            {
                return at;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "no leader: {statuses:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A leader and the others.
    pub(crate) async fn split(&mut self) -> Node {
        let at = self.leader().await;
        self.nodes.remove(at)
    }

    /// Waits until all have applied the same, and returns it.
    pub(crate) async fn converged(&self, len: usize) -> Vec<String> {
        for node in &self.nodes {
            node.wait_len(len).await;
        }
        let journals: BTreeMap<Vec<String>, u64> = self
            .nodes
            .iter()
            .map(|n| (n.journal.commands(), n.id()))
            .collect();
        assert_eq!(journals.len(), 1, "members differ: {journals:?}");
        journals.into_keys().next().unwrap()
    }
}
