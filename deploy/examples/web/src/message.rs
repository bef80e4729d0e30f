//! The same answer by UDP, and by SCTP where the kernel has it: every message is told who sent it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketType, accept, bind, ipproto, listen, socket};

use crate::{Service, log};

/// Longest message that is read, in bytes.
const MESSAGE_BYTES_MAX: usize = 2048;

/// Associations that may wait to be accepted.
const BACKLOG: i32 = 16;

/// Answers in threads of their own.
pub(crate) fn serve(service: &Arc<Service>, port: u16) {
    let any = (Ipv6Addr::UNSPECIFIED, port);
    match UdpSocket::bind(any).or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))) {
        Ok(socket) => {
            let service = Arc::clone(service);
            std::thread::spawn(move || udp(&socket, &service));
        }
        Err(error) => log(&format!("udp: {error}")),
    }
    if let Ok(socket) = sctp_socket(any.into()) {
        let service = Arc::clone(service);
        std::thread::spawn(move || sctp(&socket, &service));
    }
}

fn udp(socket: &UdpSocket, service: &Service) {
    let mut message = [0; MESSAGE_BYTES_MAX];
    loop {
        // An answer that nobody took is told here too; others are still to be answered.
        if let Ok((_, from)) = socket.recv_from(&mut message) {
            drop(socket.send_to(service.who(from).as_bytes(), from));
        }
    }
}

fn sctp_socket(at: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let kind = SocketType::STREAM;
    let made = socket(AddressFamily::INET6, kind, Some(ipproto::SCTP))?;
    bind(&made, &at)?;
    listen(&made, BACKLOG)?;
    Ok(made)
}

/// One message of each client in turn: the calls of streams work for it too.
fn sctp(socket: &OwnedFd, service: &Service) {
    loop {
        let Ok(client) = accept(socket) else {
            continue;
        };
        let mut client = TcpStream::from(client);
        let Ok(from) = client.peer_addr() else {
            continue;
        };
        let mut message = [0; MESSAGE_BYTES_MAX];
        if client.read(&mut message).is_ok_and(|length| length > 0) {
            drop(client.write_all(service.who(from).as_bytes()));
        }
    }
}
