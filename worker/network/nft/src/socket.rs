//! Netlink sockets of the kernel's packet filter, each opened inside one network namespace.
#![allow(
    unsafe_code,
    reason = "the one socket option that no safe library offers"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
    sockopt,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Error, Result};

/// Room for the answers to one request; the kernel only takes what it needs.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;

/// The largest single datagram of a dump is 32 KiB; error answers are smaller.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;

/// Room for one answer. Sockets live as long as their namespaces and have none of their own.
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    pub(crate) fn new() -> Self {
        Self(vec![0; DATAGRAM_BYTES_MAX])
    }
}

/// A netlink socket to the packet filter of one network namespace. It stays in that namespace
/// wherever it is used from.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    send_buffer_bytes: usize,
}

impl Socket {
    /// Opens a socket in the namespace of the calling thread.
    pub(crate) fn open() -> Result<Self> {
        Self::new().map_err(|source| Error::Open { source })
    }

    /// Opens a socket in this network namespace. A thread made for it enters the namespace and
    /// ends; the calling thread stays where it is.
    pub(crate) fn open_in(namespace: BorrowedFd<'_>) -> Result<Self> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
                        .map_err(|errno| Error::EnterNamespace {
                            source: errno.into(),
                        })?;
                    Self::open()
                })
                .join()
                .expect("opening a socket does not panic")
        })
    }

    fn new() -> io::Result<Self> {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(NETFILTER),
        )?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER_BYTES)?;
        // Kernels without them (before 4.12) only explain less and answer at more length.
        let _ = set_netlink_option(fd.as_fd(), libc::NETLINK_EXT_ACK);
        let _ = set_netlink_option(fd.as_fd(), libc::NETLINK_CAP_ACK);
        Ok(Self {
            fd,
            send_buffer_bytes: 0,
        })
    }

    /// Sends one datagram, however large.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sending = |source: io::Error| Error::Send {
            bytes: bytes.len(),
            source,
        };
        let wanted = bytes.len() + 4096;
        if wanted > self.send_buffer_bytes {
            sockopt::set_socket_send_buffer_size_force(&self.fd, wanted)
                .map_err(|errno| sending(errno.into()))?;
            self.send_buffer_bytes = wanted;
        }
        let sent = loop {
            match sendto(
                &self.fd,
                bytes,
                SendFlags::empty(),
                &SocketAddrNetlink::new(0, 0),
            ) {
                Err(Errno::INTR) => {}
                other => break other.map_err(|errno| sending(errno.into()))?,
            }
        };
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(sending(io::Error::from(io::ErrorKind::WriteZero)))
        }
    }

    /// The next datagram, or none if nothing is waiting. The kernel answers while a request is
    /// being sent, so that what is not there then never comes.
    pub(crate) fn receive<'a>(&mut self, buffer: &'a mut Buffer) -> Result<Option<&'a [u8]>> {
        loop {
            match recv(&self.fd, buffer.0.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((read, _)) => return Ok(Some(&buffer.0[..read])),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => {
                    return Err(Error::Receive {
                        source: errno.into(),
                    });
                }
            }
        }
    }

    /// Drops whatever an earlier, broken-off exchange left behind.
    pub(crate) fn drain(&mut self) {
        // What does not fit is dropped with the rest.
        while recv(&self.fd, &mut [0; 16][..], RecvFlags::DONTWAIT).is_ok() {}
    }
}

/// Turns on a yes-or-no option of netlink sockets.
fn set_netlink_option(fd: BorrowedFd<'_>, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).expect("an int is short");
    // SAFETY: the pointer and the length describe `on`, which outlives the call; the kernel only
    // reads it. The descriptor is open for as long as it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
