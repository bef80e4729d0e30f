//! A UDP socket that sends and receives many packets of one size in one call.
#![allow(
    unsafe_code,
    reason = "segmentation sizes travel in control messages no safe wrapper knows"
)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Numbers of `linux/udp.h`.
const UDP_SEGMENT: libc::c_int = 103;
const UDP_GRO: libc::c_int = 104;

/// Packets the kernel takes in one call at most (`UDP_MAX_SEGMENTS` of the oldest kernels).
const SEGMENTS_MAX: usize = 64;

/// Bytes it takes in one call at most, below what IP's length can say.
const SEND_BYTES_MAX: usize = 65_000;

/// Bytes of the socket's buffers: a burst of some milliseconds at 10 Gbit/s.
const BUFFER_BYTES: libc::c_int = 4 << 20;

/// Room for the control messages of one call, aligned for their header.
type Control = [u64; 8];

/// One family's socket.
#[derive(Debug)]
pub(crate) struct Socket {
    udp: UdpSocket,
    /// False once the kernel refused to cut for us.
    segments: AtomicBool,
}

impl Socket {
    /// Binds the port on every address of one family.
    pub(crate) fn bind(family: IpAddr, port: u16) -> io::Result<Self> {
        let (domain, any): (_, SocketAddr) = match family {
            IpAddr::V4(_) => (libc::AF_INET, (Ipv4Addr::UNSPECIFIED, port).into()),
            IpAddr::V6(_) => (libc::AF_INET6, (Ipv6Addr::UNSPECIFIED, port).into()),
        };
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers; the descriptor is checked and given its owner at once.
        let udp = unsafe {
            let fd = libc::socket(domain, kind, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            <UdpSocket as std::os::fd::FromRawFd>::from_raw_fd(fd)
        };
        let fd = udp.as_raw_fd();
        if domain == libc::AF_INET6 {
            // Each family has its own socket.
            set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        // Beyond the system's limit where we may; smaller buffers only lose bursts.
        for (option, fallback) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
        ] {
            if set_option(fd, libc::SOL_SOCKET, option, BUFFER_BYTES).is_err() {
                set_option(fd, libc::SOL_SOCKET, fallback, BUFFER_BYTES)?;
            }
        }
        if set_option(fd, libc::SOL_UDP, UDP_GRO, 1).is_err() {
            tracing::warn!("the kernel joins no UDP packets: encrypted networks are slower");
        }
        let (raw, len) = raw_address(any);
        // SAFETY: the address outlives the call and `len` is its length.
        if unsafe { libc::bind(fd, (&raw const raw).cast(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            udp,
            segments: AtomicBool::new(true),
        })
    }

    /// Sends packets of `size` bytes, the last of which may be shorter. What the network does not
    /// take is lost, as packets are.
    pub(crate) fn send(&self, packets: &[u8], size: usize, to: SocketAddr) -> io::Result<()> {
        let per_call = (SEND_BYTES_MAX / size).clamp(1, SEGMENTS_MAX) * size;
        for chunk in packets.chunks(per_call) {
            if chunk.len() > size && self.segments.load(Ordering::Relaxed) {
                match self.send_once(chunk, Some(size), to) {
                    Err(error) if refuses_segments(&error) => {
                        tracing::warn!(%error, "the kernel cuts no UDP packets: encrypted networks are slower");
                        self.segments.store(false, Ordering::Relaxed);
                    }
                    result => {
                        result?;
                        continue;
                    }
                }
            }
            for packet in chunk.chunks(size) {
                self.send_once(packet, None, to)?;
            }
        }
        Ok(())
    }

    fn send_once(&self, bytes: &[u8], size: Option<usize>, to: SocketAddr) -> io::Result<()> {
        let (mut raw, len) = raw_address(to);
        let mut vector = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut control: Control = [0; 8];
        // SAFETY: an all-zero message header is a valid one.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_name = (&raw mut raw).cast();
        message.msg_namelen = len;
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        if let Some(size) = size {
            let size = u16::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
            message.msg_control = control.as_mut_ptr().cast();
            // SAFETY: `control` is larger than one message of two bytes and aligned as its header;
            // the header written is the first of it.
            unsafe {
                message.msg_controllen = libc::CMSG_SPACE(2) as _;
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_UDP;
                (*header).cmsg_type = UDP_SEGMENT;
                (*header).cmsg_len = libc::CMSG_LEN(2) as _;
                libc::CMSG_DATA(header).cast::<u16>().write_unaligned(size);
            }
        }
        // SAFETY: everything the header points to outlives the call.
        let sent = unsafe { libc::sendmsg(self.udp.as_raw_fd(), &raw const message, 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Receives packets: all bytes, the size of each but the last, and from where.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, usize, SocketAddr)> {
        // SAFETY: all-zero addresses and message headers are valid.
        let (mut from, mut message): (libc::sockaddr_storage, libc::msghdr) =
            unsafe { (zeroed(), zeroed()) };
        let mut vector = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let mut control: Control = [0; 8];
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>() as _;
        // SAFETY: everything the header points to outlives the call and has the length it says.
        let got = unsafe { libc::recvmsg(self.udp.as_raw_fd(), &raw mut message, 0) };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        let mut size = got;
        // SAFETY: the kernel filled `control` with whole messages, which these macros walk.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(&raw const message);
            while !header.is_null() {
                if (*header).cmsg_level == libc::SOL_UDP && (*header).cmsg_type == UDP_GRO {
                    let told = libc::CMSG_DATA(header)
                        .cast::<libc::c_int>()
                        .read_unaligned();
                    size = usize::try_from(told).unwrap_or(got).max(1);
                }
                header = libc::CMSG_NXTHDR(&raw const message, header);
            }
        }
        let from = address(&from).ok_or(io::ErrorKind::InvalidData)?;
        Ok((got, size, from))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.udp.as_fd()
    }
}

/// Errors by which kernels and devices say that they do not cut packets.
fn refuses_segments(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EIO | libc::ENOPROTOOPT)
    )
}

fn set_option(fd: i32, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is an int that outlives the call.
    let result = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), len) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn raw_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: an all-zero address is a valid one, and large enough for either family below.
    let mut raw: libc::sockaddr_storage = unsafe { zeroed() };
    let len = match address {
        SocketAddr::V4(address) => {
            // SAFETY: a storage may be seen as an address of any family.
            let v4 = unsafe { &mut *(&raw mut raw).cast::<libc::sockaddr_in>() };
            v4.sin_family = libc::AF_INET as _;
            v4.sin_port = address.port().to_be();
            v4.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            // SAFETY: as above.
            let v6 = unsafe { &mut *(&raw mut raw).cast::<libc::sockaddr_in6>() };
            v6.sin6_family = libc::AF_INET6 as _;
            v6.sin6_port = address.port().to_be();
            v6.sin6_addr.s6_addr = address.ip().octets();
            v6.sin6_scope_id = address.scope_id();
            size_of::<libc::sockaddr_in6>()
        }
    };
    (raw, len as libc::socklen_t)
}

fn address(raw: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(raw.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says what the storage holds.
            let v4 = unsafe { &*(&raw const *raw).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*(&raw const *raw).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}
