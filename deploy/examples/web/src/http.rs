//! HTTP, as little as it takes: one connection, request after request.
//!
//! `GET /` greets and `/who` says who asks, `/bytes/N` sends N bytes, `/slow/MS` answers after that
//! many milliseconds, `/health` tells whether the service works, and `/exit/N` answers and then
//! exits with code N. `PUT` of anything says how many bytes came. Anything else is 404.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::{Service, log};

/// A client that sends nothing is dropped after this long.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The same once the service is to end, from then on or from the last answer.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest request head read, in bytes.
const HEAD_BYTES_MAX: u64 = 8 * 1024;

/// Most bytes sent or received for one request.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// Longest wait of `/slow`, in milliseconds.
const SLOW_MS_MAX: u64 = 60_000;

/// What a client asked for.
#[derive(Default)]
struct Request {
    line: String,
    body_bytes: u64,
    /// Whether the client wants to ask more on this connection.
    stays: bool,
}

/// What it gets.
struct Answer {
    status: &'static str,
    body: String,
    /// Bytes sent after the body.
    padding_bytes: u64,
    exit: Option<i32>,
}

/// Serves one connection; returns the exit code that was asked for.
pub(crate) fn serve(client: TcpStream, service: &Service) -> std::io::Result<Option<i32>> {
    let from = client.peer_addr()?;
    client.set_nodelay(true)?;
    client.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let mut reader = BufReader::new(client.try_clone()?);
    loop {
        if !has_more(&mut reader, service)? {
            return Ok(None);
        }
        let Some(request) = read(&mut reader)? else {
            return Ok(None);
        };
        log(&format!("{} {}", from.ip().to_canonical(), request.line));
        let received = std::io::copy(
            &mut Read::take(&mut reader, request.body_bytes),
            &mut std::io::sink(),
        )?;
        let answer = answer(&request, received, from, service);
        let stays = request.stays && !service.is_ending() && answer.exit.is_none();
        write(&client, &answer, stays)?;
        if !stays {
            return Ok(answer.exit);
        }
    }
}

/// Waits for the next request, shorter when the service is to end meanwhile.
fn has_more(reader: &mut BufReader<TcpStream>, service: &Service) -> std::io::Result<bool> {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    const LOOK_EVERY: Duration = Duration::from_millis(50);
    let (mut waited, mut ending) = (Duration::ZERO, Duration::ZERO);
    reader.get_ref().set_read_timeout(Some(LOOK_EVERY))?;
    while waited < CLIENT_TIMEOUT && ending < LAST_TIMEOUT {
        match reader.fill_buf() {
            Ok(bytes) => {
                let has_more = !bytes.is_empty();
                reader.get_ref().set_read_timeout(Some(CLIENT_TIMEOUT))?;
                return Ok(has_more);
            }
            Err(error) if matches!(error.kind(), TimedOut | WouldBlock) => {}
            Err(error) => return Err(error),
        }
        waited += LOOK_EVERY;
        if service.is_ending() {
            ending += LOOK_EVERY;
        }
    }
    Ok(false)
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut head = Read::take(reader, HEAD_BYTES_MAX);
    let mut request = Request::default();
    if head.read_line(&mut request.line)? == 0 {
        return Ok(None);
    }
    request.line.truncate(request.line.trim_end().len());
    request.stays = request.line.ends_with("HTTP/1.1");
    let mut line = String::new();
    while head.read_line(&mut line)? > 2 {
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let length: u64 = value.parse().map_err(std::io::Error::other)?;
            request.body_bytes = length.min(BODY_BYTES_MAX);
        } else if name.eq_ignore_ascii_case("connection") {
            request.stays &= !value.eq_ignore_ascii_case("close");
        }
        line.clear();
    }
    Ok(Some(request))
}

fn answer(request: &Request, received: u64, from: SocketAddr, service: &Service) -> Answer {
    let mut words = request.line.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let after = |prefix: &str| {
        path.strip_prefix(prefix)
            .and_then(|n| n.parse::<u64>().ok())
    };
    let mut answer = Answer {
        status: "200 OK",
        body: String::new(),
        padding_bytes: 0,
        exit: None,
    };
    let greeting = || {
        let Service { host, version, .. } = service;
        format!("hello from {host}, version {version}\n")
    };
    if method == "PUT" {
        answer.body = format!("received {received} bytes\n");
    } else if path == "/" {
        answer.body = greeting();
    } else if path == "/who" {
        answer.body = service.who(from);
    } else if let Some(bytes) = after("/bytes/") {
        answer.padding_bytes = bytes.min(BODY_BYTES_MAX);
    } else if let Some(time_ms) = after("/slow/") {
        std::thread::sleep(Duration::from_millis(time_ms.min(SLOW_MS_MAX)));
        answer.body = greeting();
    } else if path == "/health" {
        if !service.is_ready() {
            answer.status = "503 Service Unavailable";
        }
    } else if let Some(code) = path.strip_prefix("/exit/").and_then(|n| n.parse().ok()) {
        answer.body = format!("exiting with {code}\n");
        answer.exit = Some(code);
    } else {
        answer.status = "404 Not Found";
        "not here\n".clone_into(&mut answer.body);
    }
    answer
}

fn write(mut client: &TcpStream, answer: &Answer, stays: bool) -> std::io::Result<()> {
    let Answer { status, body, .. } = answer;
    let length = body.len() as u64 + answer.padding_bytes;
    let stays = if stays { "keep-alive" } else { "close" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: {stays}\r\n\r\n{body}"
    );
    client.write_all(head.as_bytes())?;
    std::io::copy(
        &mut Read::take(std::io::repeat(b'.'), answer.padding_bytes),
        &mut client,
    )?;
    client.flush()
}

/// Whether the service of this container works.
pub(crate) fn check(port: u16) -> std::io::Result<()> {
    let mut service = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    service.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    service.write_all(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")?;
    let mut status = String::new();
    BufReader::new(service).read_line(&mut status)?;
    if status.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(std::io::Error::other(format!(
        "the service answers {}",
        status.trim_end()
    )))
}
