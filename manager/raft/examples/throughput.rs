//! Measures proposals a second, failover, and the restart of a member alone, over loopback.
//!
//! Prints `name: value unit` lines. The first argument is a directory for the log, on the disk one
//! wants to know about (the system's temporary one otherwise); the second limits it to `sled` or
//! `redb`, which is needed to know the memory of one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use swarm_raft::{BackendKind, BoxError, DataKey, Dialer, Options, Raft, StateMachine};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint, Server};

const VALUE_BYTES: usize = 1024;

#[derive(Default)]
struct Counter(AtomicU64);

impl StateMachine for Counter {
    fn apply(&self, _: u64, _: &[u8]) -> Vec<u8> {
        (self.0.fetch_add(1, Ordering::Relaxed) + 1)
            .to_be_bytes()
            .to_vec()
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let count = self.0.load(Ordering::Relaxed);
        Box::new(move || count.to_be_bytes().to_vec())
    }

    fn restore(&self, _: u64, data: &[u8]) -> Result<(), BoxError> {
        self.0
            .store(u64::from_be_bytes(data.try_into()?), Ordering::Relaxed);
        Ok(())
    }
}

struct Plain;

#[async_trait::async_trait]
impl Dialer for Plain {
    async fn dial(&self, addr: &str) -> Result<Channel, BoxError> {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?.tcp_nodelay(true);
        Ok(endpoint.connect().await?)
    }
}

struct Member {
    raft: Raft,
    addr: String,
    _server: JoinSet<()>,
}

async fn start(options: Options) -> Result<Member> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?.to_string();
    let raft = Raft::start(options, Arc::new(Counter::default()), Arc::new(Plain)).await?;
    let service = raft.grpc_service();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let incoming =
            tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        let served = Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming)
            .await;
        served.expect("serving on loopback does not fail");
    });
    Ok(Member {
        raft,
        addr,
        _server: server,
    })
}

async fn rate(raft: &Raft, clients: usize, time: Duration) -> Result<(f64, Duration)> {
    let until = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let raft = raft.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < until {
                let asked = Instant::now();
                raft.propose(vec![7; VALUE_BYTES]).await?;
                latencies.push(asked.elapsed());
            }
            Ok::<_, swarm_raft::Error>(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(latencies) = tasks.join_next().await {
        all.extend(latencies??);
    }
    all.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    let per_second = all.len() as f64 / time.as_secs_f64();
    Ok((
        per_second,
        all.get(all.len() * 99 / 100).copied().unwrap_or_default(),
    ))
}

async fn rates(name: &str, raft: &Raft) -> Result<()> {
    for clients in [1, 8, 64] {
        let (per_second, p99) = rate(raft, clients, Duration::from_secs(3)).await?;
        println!("{name}_clients_{clients}: {per_second:.0} proposals/s");
        println!(
            "{name}_clients_{clients}_p99: {:.2} ms",
            p99.as_secs_f64() * 1e3
        );
    }
    Ok(())
}

fn resident_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|l| l.starts_with("RssAnon:"))
        .context("no RssAnon")?;
    Ok(line
        .split_whitespace()
        .nth(1)
        .context("no number")?
        .parse()?)
}

async fn measure(backend: BackendKind, dir: &std::path::Path) -> Result<()> {
    let name = format!("{backend:?}").to_lowercase();
    let options = |id: u64| {
        let key = DataKey::new([1; 32]);
        let mut options = Options::new(dir.join(format!("{name}-{id}")), id, key);
        options.backend = backend;
        options
    };
    let before = resident_kib()?;
    let first = start(options(1)).await?;
    first.raft.bootstrap(&first.addr).await?;
    println!(
        "{name}_idle_memory: {} KiB",
        resident_kib()?.saturating_sub(before)
    );
    rates(&format!("{name}_alone"), &first.raft).await?;
    println!("{name}_memory_after_load: {} KiB", resident_kib()?);

    first.raft.clone().shutdown().await;
    let asked = Instant::now();
    let first = start(options(1)).await?;
    first.raft.propose(vec![1]).await?;
    println!(
        "{name}_restart_to_first_commit: {:.1} ms",
        asked.elapsed().as_secs_f64() * 1e3
    );
    first.raft.add_member(1, &first.addr).await?;

    let mut others = Vec::new();
    for id in [2, 3] {
        let member = start(options(id)).await?;
        member.raft.join(&first.addr, &member.addr).await?;
        others.push(member);
    }
    rates(&format!("{name}_three"), &first.raft).await?;
    let follower = &others[0];
    rates(&format!("{name}_three_by_follower"), &follower.raft).await?;

    let asked = Instant::now();
    first.raft.clone().shutdown().await;
    drop(first);
    // The first tries may be in doubt: their connection broke.
    while follower.raft.propose(vec![1]).await.is_err() {}
    println!(
        "{name}_failover_to_first_commit: {} ms",
        asked.elapsed().as_millis()
    );
    for member in others {
        member.raft.shutdown().await;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let dir = std::env::args()
        .nth(1)
        .map_or_else(|| temporary.path().to_owned(), Into::into);
    let only = std::env::args().nth(2);
    for backend in [BackendKind::Sled, BackendKind::Redb] {
        let name = format!("{backend:?}").to_lowercase();
        if only.as_ref().is_none_or(|only| *only == name) {
            measure(backend, &dir).await?;
        }
    }
    Ok(())
}
