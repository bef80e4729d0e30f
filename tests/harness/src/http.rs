//! One HTTP request, as a client without any library makes it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Body of a page, from the network namespace this thread is in.
///
/// # Errors
/// When there is no connection or no answer within `limit` each, or a status other than 200.
pub(crate) fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, limit)
        .with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(limit))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("reading from {address}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no end of head")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("{address} answered {}", head.lines().next().unwrap_or(""));
    }
    Ok(body.to_owned())
}
