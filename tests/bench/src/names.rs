//! Names answered in sandboxes: how many a second, how soon, and the memory that takes.

use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use datapath_client::{
    Datapath, NetworkRecords, Options, ProgramSource, RecordSet, SandboxView, TaskRecord,
};
use harness::Programs;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use tokio_util::sync::CancellationToken;
use types::NetworkId;

use crate::figures::Figures;

/// Sandboxes on the node.
const SANDBOXES: usize = 100;

/// Services in their network.
const SERVICES: u16 = 1000;

/// Sandboxes that ask at once, and how many questions each has under way.
const CLIENTS: usize = 2;
const WINDOW: usize = 8;

/// Questions each client asks in one run, and runs.
const QUESTIONS: usize = 100_000;
const RUNS: usize = 3;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn answers(programs: &Programs, figures: &mut Figures) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("swarm-bench-names-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let measured = measure(programs, dir.join("datapath.sock"), figures);
    std::fs::remove_dir_all(&dir)?;
    measured
}

fn measure(programs: &Programs, socket: PathBuf, figures: &mut Figures) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let program = programs.swarmd.with_file_name("swarm-datapath");
    let (handle, service) = Datapath::new(Options {
        program: ProgramSource::Path(program),
        socket: socket.clone(),
    });
    let shutdown = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn_on(service.run(shutdown), runtime.handle());
    let namespaces = (0..SANDBOXES)
        .map(|_| new_namespace().map(Arc::new))
        .collect::<Result<Vec<_>>>()?;
    runtime.block_on(async {
        handle.set_network(records()).await?;
        for (index, namespace) in namespaces.iter().enumerate() {
            let view = SandboxView {
                networks: vec![NetworkId::from_number(1)],
                dns_port: 53,
                ..SandboxView::default()
            };
            let id = format!("sandbox{index}").parse()?;
            handle.set_sandbox(id, Arc::clone(namespace), view).await?;
        }
        anyhow::Ok(())
    })?;
    let (mut rates, mut latencies) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let start = Instant::now();
        let mut times = ask_all(&namespaces[..CLIENTS])?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let count = times.len() as f64;
        rates.push(count / start.elapsed().as_secs_f64());
        times.sort_unstable();
        latencies.push(times[times.len() * 99 / 100].as_secs_f64() * 1000.0);
    }
    figures.add("dns.answers", "answers/s", rates);
    figures.add("dns.p99", "ms", latencies);
    let stream = datapath_client::connect(&socket)?;
    let pid = rustix::net::sockopt::socket_peercred(&stream)?.pid;
    figures.add(
        "memory.datapath100",
        "MiB",
        vec![rss_mib(pid.as_raw_pid())?],
    );
    runtime.block_on(handle.end())?;
    Ok(())
}

fn records() -> NetworkRecords {
    let set = |number: u16| {
        let [high, low] = number.to_be_bytes();
        RecordSet {
            owner: format!("service{number}"),
            version: 1,
            names: vec![format!("s{number}")],
            virtual_ips: vec![[10, 0, high, low].into()],
            tasks: vec![TaskRecord {
                names: vec![format!("s{number}.1")],
                addresses: vec![[10, 1, high, low].into()],
                node: None,
                is_serving: true,
            }],
        }
    };
    NetworkRecords {
        network: NetworkId::from_number(1),
        name: String::from("bench"),
        sets: (0..SERVICES).map(set).collect(),
    }
}

/// Asks in several sandboxes at once; returns how long each answer took.
fn ask_all(namespaces: &[Arc<OwnedFd>]) -> Result<Vec<Duration>> {
    std::thread::scope(|scope| {
        let clients: Vec<_> = namespaces
            .iter()
            .map(|namespace| scope.spawn(|| ask(namespace)))
            .collect();
        let mut times = Vec::new();
        for client in clients {
            match client.join() {
                Ok(taken) => times.extend(taken?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(times)
    })
}

fn ask(namespace: &OwnedFd) -> Result<Vec<Duration>> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect((datapath_client::DNS_ADDRESS, 53))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut times = Vec::with_capacity(QUESTIONS);
    let mut sent_at = [Instant::now(); WINDOW];
    let mut buffer = [0; 512];
    let send = |number: usize, sent_at: &mut [Instant; WINDOW]| -> Result<()> {
        let id = u16::try_from(number % WINDOW)?;
        let service = u16::try_from(number % usize::from(SERVICES))?;
        sent_at[number % WINDOW] = Instant::now();
        socket.send(&question(id, service))?;
        Ok(())
    };
    for number in 0..WINDOW {
        send(number, &mut sent_at)?;
    }
    for number in WINDOW..QUESTIONS + WINDOW {
        let length = socket.recv(&mut buffer).context("an answer is missing")?;
        let [a, b, _, code, _, _, _, count, ..] = buffer[..length] else {
            bail!("an answer of {length} bytes");
        };
        ensure!(code & 0xf == 0 && count == 1, "a failure was answered");
        let id = usize::from(u16::from_be_bytes([a, b]));
        times.push(sent_at[id].elapsed());
        if number < QUESTIONS {
            // Answers of one sandbox come in order, so that its number is free.
            send(number, &mut sent_at)?;
        }
    }
    Ok(times)
}

/// A question for a service's address.
fn question(id: u16, service: u16) -> Vec<u8> {
    let name = format!("s{service}");
    let mut packet = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    packet.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    packet.extend(name.bytes());
    // The root; type A, class IN.
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

fn new_namespace() -> Result<OwnedFd> {
    let make = || -> Result<OwnedFd> {
        #[expect(
            deprecated,
            reason = "safe here: a thread of its own shares no descriptors"
        )]
        rustix::thread::unshare(UnshareFlags::NEWNET)?;
        let status = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()?;
        ensure!(status.success(), "ip link set lo up: {status}");
        Ok(std::fs::File::open("/proc/thread-self/ns/net")?.into())
    };
    match std::thread::spawn(make).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn rss_mib(pid: i32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("a process has memory")?
        .parse()?;
    Ok(kib / 1024.0)
}
