//! A small HTTP service to try a swarm with: says who it is, and ends when asked to.
//!
//! `PORT` (8080) is where it listens, `VERSION` (1) is what it calls itself.
//! `GET /` greets, `GET /exit/N` answers and then exits with code N, anything else is 404.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// A client that sends nothing is dropped after this long.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest request head read, in bytes.
const HEAD_BYTES_MAX: u64 = 8 * 1024;

struct Greeting {
    host: String,
    version: String,
}

fn main() -> std::io::Result<()> {
    let env = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.into());
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let greeting = Greeting {
        host,
        version: env("VERSION", "1"),
    };
    let port = env("PORT", "8080");

    // As pid 1 of a container the process gets only the signals it asked for.
    let mut signals = signal_hook::iterator::Signals::new([15, 2])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            log(&format!("signal {signal}, bye"));
            std::process::exit(0);
        }
    });

    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    log(&format!(
        "{} version {} listens on {port}",
        greeting.host, greeting.version
    ));
    for client in listener.incoming() {
        match client.and_then(|client| serve(client, &greeting)) {
            Ok(Some(code)) => std::process::exit(code),
            Ok(None) => {}
            Err(error) => log(&format!("client: {error}")),
        }
    }
    Ok(())
}

/// Answers one request; returns the exit code it asked for.
fn serve(mut client: TcpStream, greeting: &Greeting) -> std::io::Result<Option<i32>> {
    client.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    client.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let mut head = BufReader::new(std::io::Read::take(&client, HEAD_BYTES_MAX));
    let mut request = String::new();
    head.read_line(&mut request)?;
    let mut line = String::new();
    while head.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or("");
    log(request.trim_end());

    let exit = path
        .strip_prefix("/exit/")
        .and_then(|code| code.parse::<i32>().ok());
    let (status, body) = match (path, exit) {
        ("/", _) => {
            let Greeting { host, version } = greeting;
            ("200 OK", format!("hello from {host}, version {version}\n"))
        }
        (_, Some(code)) => ("200 OK", format!("exiting with {code}\n")),
        (_, None) => ("404 Not Found", "not here\n".to_owned()),
    };
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    client.flush()?;
    Ok(exit)
}

fn log(line: &str) {
    // A closed standard output must not end the service.
    drop(writeln!(std::io::stdout(), "{line}"));
}
