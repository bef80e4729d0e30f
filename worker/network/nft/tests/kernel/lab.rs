//! Namespaces on one bridge, with small servers and clients inside.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What a server sends to who asks with an exclamation mark.
pub(crate) const BULK_BYTES: usize = 300_000;

/// How long anything may take that is expected to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Whether namespaces can be made here; says so if not.
pub(crate) fn is_possible() -> bool {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: network namespaces need root");
        return false;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        println!("skipped: the tests make their namespaces with ip, which is not installed");
        return false;
    }
    true
}

/// Runs a program and fails with what it said.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| program.to_owned())?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", args.join(" "), words.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A network namespace; gone when dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    file: File,
}

impl Namespace {
    pub(crate) fn new(label: &str) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nft{}-{number}-{label}", std::process::id());
        run("ip", &["netns", "add", &name])?;
        let file = File::open(format!("/run/netns/{name}"))?;
        let namespace = Self { name, file };
        namespace.ip("link set lo up")?;
        namespace.set("net/ipv6/conf/all/accept_dad", "0")?;
        namespace.set("net/ipv6/conf/default/accept_dad", "0")?;
        namespace.set("net/ipv6/conf/default/router_solicitations", "0")?;
        Ok(namespace)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// `ip` in the namespace, with these words.
    pub(crate) fn ip(&self, words: &str) -> Result<String> {
        let mut args = vec!["-n", &self.name];
        args.extend(words.split_whitespace());
        run("ip", &args)
    }

    /// Some other program in the namespace.
    pub(crate) fn exec(&self, words: &str) -> Result<String> {
        let mut args = vec!["netns", "exec", &self.name];
        args.extend(words.split_whitespace());
        run("ip", &args)
    }

    /// Writes a setting under /proc/sys.
    pub(crate) fn set(&self, path: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{path}");
        self.inside(|| std::fs::write(&path, value).with_context(|| path.clone()))
    }

    /// Does something on a thread inside the namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(self.fd())?;
                work()
            });
            thread.join().expect("work inside does not panic")
        })
    }

    /// A server that answers every connection and every datagram with its label and the address
    /// it saw, on both families.
    pub(crate) fn serve(&self, label: &'static str, port: u16) -> Result<Server> {
        let address: SocketAddr = format!("[::]:{port}").parse()?;
        let (tcp, udp) = self.inside(|| {
            let udp = UdpSocket::bind(address).context("binding udp")?;
            udp.set_read_timeout(Some(Duration::from_millis(50)))?;
            let tcp = TcpListener::bind(address).context("binding tcp")?;
            Ok((tcp, udp))
        })?;
        tcp.set_nonblocking(true)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = vec![
            std::thread::spawn({
                let is_over = is_over.clone();
                move || serve_tcp(&tcp, label, &is_over)
            }),
            std::thread::spawn({
                let is_over = is_over.clone();
                move || serve_udp(&udp, label, &is_over)
            }),
        ];
        Ok(Server { is_over, threads })
    }

    /// Connects from inside.
    pub(crate) fn connect(&self, to: &str) -> Result<Conversation> {
        let to: SocketAddr = to.parse().with_context(|| to.to_owned())?;
        let stream = self.inside(move || {
            TcpStream::connect_timeout(&to, Duration::from_secs(3))
                .with_context(|| format!("connecting to {to}"))
        })?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        Ok(Conversation(stream))
    }

    /// Begins to connect from inside: the first packet is out, and whoever asks waits for the rest.
    pub(crate) fn knock(&self, to: &str) -> Result<Conversation> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
        let to: SocketAddr = to.parse().with_context(|| to.to_owned())?;
        let socket = self.inside(move || {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
            match connect(&socket, &to) {
                Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
                Err(errno) => Err(errno.into()),
            }
        })?;
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Conversation(stream))
    }

    /// One connection, one answer: the label and the address the server saw.
    pub(crate) fn ask(&self, to: &str) -> Result<(String, IpAddr)> {
        self.connect(to)?.ask()
    }

    /// A UDP socket connected from inside.
    pub(crate) fn udp(&self, to: &str) -> Result<UdpSocket> {
        let to: SocketAddr = to.parse().with_context(|| to.to_owned())?;
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = self.inside(move || {
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            Ok(socket)
        })?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(socket)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run("ip", &["netns", "del", &self.name]);
    }
}

pub(crate) fn enter(namespace: BorrowedFd<'_>) -> Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
        .context("entering a namespace")
}

/// A running server; stops when dropped.
pub(crate) struct Server {
    is_over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn answer(label: &str, peer: SocketAddr) -> String {
    format!("{label} {} {}\n", peer.ip().to_canonical(), peer.port())
}

fn serve_tcp(listener: &TcpListener, label: &str, is_over: &AtomicBool) {
    let mut open: Vec<(TcpStream, SocketAddr)> = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while !is_over.load(Ordering::Relaxed) {
        if let Ok((stream, peer)) = listener.accept() {
            let _ = stream.set_nonblocking(true);
            open.push((stream, peer));
        }
        open.retain_mut(|(stream, peer)| match stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(read) if buffer[..read].starts_with(b"!") => {
                // As much as it takes to fill many packets; then the connection ends.
                let _ = stream.set_nonblocking(false);
                let _ = stream.set_write_timeout(Some(PATIENCE));
                let _ = stream.write_all(&vec![0; BULK_BYTES]);
                false
            }
            Ok(read) if buffer[..read].starts_with(b"?") => {
                stream.write_all(answer(label, *peer).as_bytes()).is_ok()
            }
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn serve_udp(socket: &UdpSocket, label: &str, is_over: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !is_over.load(Ordering::Relaxed) {
        if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(answer(label, peer).as_bytes(), peer);
        }
    }
}

/// An open connection to a server.
pub(crate) struct Conversation(pub(crate) TcpStream);

impl Conversation {
    pub(crate) fn ask(&mut self) -> Result<(String, IpAddr)> {
        self.0.write_all(b"?")?;
        let mut line = Vec::new();
        let mut byte = [0];
        while self.0.read(&mut byte).context("reading the answer")? == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        parse(&line)
    }
}

/// Sends one datagram; the label and address of the answer, if there is one in time.
pub(crate) fn ask_udp(socket: &UdpSocket) -> Result<(String, IpAddr)> {
    socket.send(b"?")?;
    let mut buffer = [0; 256];
    let read = socket.recv(&mut buffer).context("receiving a datagram")?;
    parse(&buffer[..read])
}

fn parse(line: &[u8]) -> Result<(String, IpAddr)> {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let label = words.next().context("an empty answer")?.to_owned();
    let address = words.next().context("no address")?.parse()?;
    Ok((label, address))
}

/// What the operating system said.
pub(crate) fn error_kind(error: &anyhow::Error) -> Option<ErrorKind> {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>())
        .map(std::io::Error::kind)
}

/// Namespaces that hang on one bridge.
pub(crate) struct Network {
    hub: Namespace,
}

impl Network {
    pub(crate) fn new() -> Result<Self> {
        let hub = Namespace::new("hub")?;
        hub.ip("link add br0 type bridge nf_call_iptables 0 nf_call_ip6tables 0")?;
        hub.ip("link set br0 up")?;
        Ok(Self { hub })
    }

    /// A namespace on the bridge by `eth0`, at 10.77.0.N and fd77::N.
    pub(crate) fn attach(&self, label: &str, number: u8) -> Result<Namespace> {
        let namespace = Namespace::new(label)?;
        self.plug(&namespace, number)?;
        Ok(namespace)
    }

    pub(crate) fn plug(&self, namespace: &Namespace, number: u8) -> Result<()> {
        let name = &namespace.name;
        let port = format!("p{number}");
        self.hub.ip(&format!(
            "link add {port} type veth peer name eth0 netns {name}"
        ))?;
        self.hub.ip(&format!("link set {port} master br0 up"))?;
        namespace.ip("link set eth0 up")?;
        namespace.ip(&format!("addr add 10.77.0.{number}/24 dev eth0"))?;
        namespace.ip(&format!("addr add fd77::{number:x}/64 dev eth0 nodad"))?;
        Ok(())
    }
}
