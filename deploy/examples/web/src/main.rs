//! A small service to try a swarm with: says who it is and who asks, and ends in good order.
//!
//! `PORT` (8080) is where it listens, by HTTP and by UDP, and by SCTP where the kernel has it;
//! `NAME` (the host's) and `VERSION` (1) are what it calls itself. With `READY_FILE` it works only
//! while that file is there.
//! `web check` asks the service of the same container whether it works: a health check.

mod http;
mod message;

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Connections that are served at the same time; more wait.
const CLIENTS_MAX: usize = 512;

/// How long clients that are being served may take when the service is asked to end.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Time between two looks at whether something has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the service knows of itself.
struct Service {
    host: String,
    version: String,
    ready_file: Option<String>,
    /// Clients that are being served.
    clients: AtomicUsize,
    is_ending: AtomicBool,
}

impl Service {
    fn is_ready(&self) -> bool {
        let mut file = self.ready_file.iter();
        file.all(|file| std::path::Path::new(file).exists())
    }

    fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// The answer that names both sides.
    fn who(&self, client: SocketAddr) -> String {
        let Self { host, version, .. } = self;
        format!(
            "host={host} version={version} client={}\n",
            client.ip().to_canonical()
        )
    }
}

fn main() -> std::io::Result<()> {
    let env = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.into());
    let port = env("PORT", "8080");
    let port: u16 = port
        .parse()
        .map_err(|_| std::io::Error::other(format!("PORT={port} is not a port: 1 to 65535")))?;
    if std::env::args().nth(1).as_deref() == Some("check") {
        return http::check(port);
    }
    let uname = rustix::system::uname();
    let service = Arc::new(Service {
        host: env("NAME", &uname.nodename().to_string_lossy()),
        version: env("VERSION", "1"),
        ready_file: std::env::var("READY_FILE").ok(),
        clients: AtomicUsize::new(0),
        is_ending: AtomicBool::new(false),
    });
    end_when_asked(Arc::clone(&service))?;
    let listener = listen(port)?;
    log(&format!(
        "{} version {} listens on {port}",
        service.host, service.version
    ));
    message::serve(&service, port);
    for client in listener.incoming() {
        match client {
            Ok(client) => accept(&service, client),
            Err(error) => log(&format!("client: {error}")),
        }
    }
    Ok(())
}

/// Both families where there are two.
fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
}

/// Serves a client in a thread of its own.
fn accept(service: &Arc<Service>, client: TcpStream) {
    while service.clients.load(Ordering::Relaxed) >= CLIENTS_MAX {
        std::thread::sleep(LOOK_EVERY);
    }
    service.clients.fetch_add(1, Ordering::Relaxed);
    let of_client = Arc::clone(service);
    let served = std::thread::Builder::new().spawn(move || {
        let served = http::serve(client, &of_client);
        of_client.clients.fetch_sub(1, Ordering::Relaxed);
        match served {
            Ok(Some(code)) => std::process::exit(code),
            Ok(None) => {}
            Err(error) => log(&format!("client: {error}")),
        }
    });
    if let Err(error) = served {
        service.clients.fetch_sub(1, Ordering::Relaxed);
        log(&format!("client: {error}"));
    }
}

/// As pid 1 of a container the process gets only the signals it asked for. Who is being served is
/// served to the end, and told not to come back.
fn end_when_asked(service: Arc<Service>) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([15, 2])?;
    std::thread::spawn(move || {
        let Some(signal) = signals.forever().next() else {
            return;
        };
        log(&format!("signal {signal}, bye"));
        service.is_ending.store(true, Ordering::Relaxed);
        let asked = Instant::now();
        while service.clients.load(Ordering::Relaxed) > 0 && asked.elapsed() < STOP_MAX {
            std::thread::sleep(LOOK_EVERY);
        }
        std::process::exit(0);
    });
    Ok(())
}

fn log(line: &str) {
    // A closed standard output must not end the service.
    drop(writeln!(std::io::stdout(), "{line}"));
}
