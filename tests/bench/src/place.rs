//! A network namespace in which things are done, and how much TCP moves between two of them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long a connection may take to come about: handshakes of tunnels and resolution of addresses
/// come first.
const CONNECT_MAX: Duration = Duration::from_secs(15);

/// Bytes written and read at once.
const BLOCK_BYTES: usize = 256 << 10;

/// A network namespace.
pub(crate) struct Place(File);

impl Place {
    /// The namespace of this name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        Self::at(&format!("/run/netns/{name}"))
    }

    /// The namespace of a process.
    pub(crate) fn of_process(pid: u32) -> Result<Self> {
        Self::at(&format!("/proc/{pid}/ns/net"))
    }

    fn at(path: &str) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {path}"))?;
        Ok(Self(file))
    }

    /// The namespace itself.
    pub(crate) fn file(&self) -> &File {
        &self.0
    }

    /// Does something inside, on a thread of its own.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                self.enter()?;
                work()
            });
            match done.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves this thread inside.
    pub(crate) fn enter(&self) -> Result<()> {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(self.0.as_fd(), kind).context("moving into a namespace")
    }
}

/// Runs `ip` with these words.
pub(crate) fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(words.split_ascii_whitespace())
        .output()
        .context("running ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {words}: {}", said.trim());
    Ok(())
}

/// Moves bytes over one TCP connection for a while. Returns what arrived, in Gbit/s.
pub(crate) fn throughput(
    from: &Place,
    to: &Place,
    address: SocketAddr,
    duration: Duration,
) -> Result<f64> {
    let listener = to.run(|| Ok(TcpListener::bind(address)?))?;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || -> Result<()> {
            from.enter()?;
            let mut stream = connect(address)?;
            stream.set_write_timeout(Some(CONNECT_MAX))?;
            let block = vec![0x5a; BLOCK_BYTES];
            let start = Instant::now();
            while start.elapsed() < duration {
                stream.write_all(&block)?;
            }
            Ok(())
        });
        let received = receive(&listener, &sender);
        match sender.join() {
            Ok(sent) => sent?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        received
    })
}

fn receive(
    listener: &TcpListener,
    sender: &std::thread::ScopedJoinHandle<'_, Result<()>>,
) -> Result<f64> {
    listener.set_nonblocking(true)?;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if sender.is_finished() {
                    bail!("nobody connected");
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(CONNECT_MAX))?;
    let mut block = vec![0; BLOCK_BYTES];
    let (start, mut bytes) = (Instant::now(), 0_u64);
    loop {
        match stream.read(&mut block)? {
            0 => break,
            count => bytes += count as u64,
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let bits = (bytes * 8) as f64;
    Ok(bits / start.elapsed().as_secs_f64() / 1e9)
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let start = Instant::now();
    loop {
        match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            Ok(stream) => return Ok(stream),
            Err(_) if start.elapsed() < CONNECT_MAX => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("connecting to {address}"));
            }
        }
    }
}
