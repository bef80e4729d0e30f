//! Calls to the example service from wherever the calling thread is: by TCP, UDP and SCTP.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, SocketType, ipproto};

/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(5);

/// What the service answers to `/who`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The host name of the task that answered.
    pub host: String,
    /// What that task calls itself.
    pub version: String,
    /// From where it was called.
    pub client: IpAddr,
}

impl Who {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| {
            let mut words = text.split_ascii_whitespace();
            let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.with_context(|| format!("{name} in {text:?}"))
        };
        Ok(Self {
            host: field("host")?.to_owned(),
            version: field("version")?.to_owned(),
            client: field("client")?.parse()?,
        })
    }
}

/// Who answers a connection of its own.
///
/// # Errors
/// When nobody does, as the service should.
pub fn who(at: SocketAddr) -> Result<Who> {
    Who::parse(&Conversation::with(at)?.last("GET /who")?)
}

/// The same of a client with this address.
///
/// # Errors
/// When nobody answers, as the service should.
pub fn who_from(client: IpAddr, at: SocketAddr) -> Result<Who> {
    let family = if at.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(client, 0))?;
    rustix::net::connect(&socket, &at).with_context(|| format!("connecting to {at}"))?;
    Who::parse(&Conversation::over(socket.into())?.last("GET /who")?)
}

/// Who answers a datagram from a port of its own.
///
/// # Errors
/// When nobody does in time, or the port is refused.
pub fn who_by_udp(at: SocketAddr) -> Result<Who> {
    let any: IpAddr = if at.is_ipv4() {
        [0; 4].into()
    } else {
        [0_u16; 8].into()
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.set_read_timeout(Some(CALL_MAX))?;
    socket.connect(at)?;
    socket.send(b"who?")?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer);
    let length = length.with_context(|| format!("an answer by UDP of {at}"))?;
    Who::parse(&String::from_utf8_lossy(&answer[..length]))
}

/// Whether this kernel speaks SCTP.
#[must_use]
pub fn has_sctp() -> bool {
    rustix::net::socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP)).is_ok()
}

/// Who answers a message by SCTP.
///
/// # Errors
/// When nobody does.
pub fn who_by_sctp(at: SocketAddr) -> Result<Who> {
    let family = if at.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket(family, SocketType::STREAM, Some(ipproto::SCTP))?;
    rustix::net::connect(&socket, &at).with_context(|| format!("connecting to {at} by SCTP"))?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"who?")?;
    let mut answer = [0; 512];
    let length = stream.read(&mut answer)?;
    Who::parse(&String::from_utf8_lossy(&answer[..length]))
}

/// Whether a connection is refused, neither taken nor left without an answer.
///
/// # Errors
/// Anything else that keeps it from being made.
pub fn is_refused(at: SocketAddr) -> Result<bool> {
    match TcpStream::connect_timeout(&at, CALL_MAX) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(true),
        Err(error) => Err(error).with_context(|| format!("connecting to {at}")),
    }
}

/// A connection that asks one thing after the other.
#[derive(Debug)]
pub struct Conversation {
    reader: BufReader<TcpStream>,
    stays: bool,
}

impl Conversation {
    /// A new connection.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn with(at: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&at, CALL_MAX);
        Self::over(stream.with_context(|| format!("connecting to {at}"))?)
    }

    fn over(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(CALL_MAX))?;
        stream.set_write_timeout(Some(CALL_MAX))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            reader: BufReader::new(stream),
            stays: true,
        })
    }

    /// Whether the service lets it ask more.
    #[must_use]
    pub fn stays(&self) -> bool {
        self.stays
    }

    /// Asks for `GET /path` or the like, and goes on.
    ///
    /// # Errors
    /// When the answer does not come or is no success.
    pub fn ask(&mut self, request: &str) -> Result<String> {
        self.send(request, "keep-alive", &[])?;
        self.answer()
    }

    /// The same as the last thing it asks.
    ///
    /// # Errors
    /// When the answer does not come or is no success.
    pub fn last(mut self, request: &str) -> Result<String> {
        self.send(request, "close", &[])?;
        self.answer()
    }

    /// Sends all this to the service as the last thing, and returns what it says to it.
    ///
    /// # Errors
    /// When it does not take it, or the answer does not come.
    pub fn put(mut self, body: &[u8]) -> Result<String> {
        self.send("PUT /", "close", body)?;
        self.answer()
    }

    /// Sends a request and does not wait for the answer.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, request: &str, connection: &str, body: &[u8]) -> Result<()> {
        let head = format!(
            "{request} HTTP/1.1\r\nHost: service\r\nConnection: {connection}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = self.reader.get_ref();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        Ok(())
    }

    /// Waits for the answer to what was sent.
    ///
    /// # Errors
    /// When it does not come or is no success.
    pub fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).context("an answer")?;
        if !line.starts_with("HTTP/1.1 200 ") {
            bail!("the answer is {:?}", line.trim_end());
        }
        let mut length = 0;
        loop {
            line.clear();
            self.reader.read_line(&mut line).context("its head")?;
            let text = line.trim_end().to_ascii_lowercase();
            match text.split_once(": ") {
                Some(("content-length", value)) => length = value.parse()?,
                Some(("connection", value)) => self.stays = value == "keep-alive",
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).context("its body")?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}
