//! Programs of the node that listen at a port themselves, which publishing it would take away.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use types::network::Protocol;

/// Sockets of the node that clients can come to, as its kernel lists them.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    sockets: BTreeMap<(Protocol, u16), Vec<(IpAddr, u64)>>,
}

/// In a list of the kernel's: listening, and for datagrams bound but not to one peer.
const TCP_LISTEN: &str = "0A";
const UDP_UNCONNECTED: &str = "07";

impl Listeners {
    /// Those in the network namespace of the calling thread. What cannot be read counts as none.
    pub(crate) fn read() -> Self {
        let mut listeners = Self::default();
        for (file, protocol, state) in [
            ("tcp", Protocol::Tcp, TCP_LISTEN),
            ("tcp6", Protocol::Tcp, TCP_LISTEN),
            ("udp", Protocol::Udp, UDP_UNCONNECTED),
            ("udp6", Protocol::Udp, UDP_UNCONNECTED),
        ] {
            let path = format!("/proc/thread-self/net/{file}");
            let text = std::fs::read_to_string(path).unwrap_or_default();
            listeners.add(protocol, state, &text);
        }
        listeners
    }

    fn add(&mut self, protocol: Protocol, state: &str, text: &str) {
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            // sl, local, remote, state, queues, timer, retransmits, uid, timeout, inode (proc(5)).
            let [_, local, _, of, _, _, _, _, _, inode, ..] = words[..] else {
                continue;
            };
            let inode = inode.parse().ok();
            if let (Some((address, port)), Some(inode), true) = (place(local), inode, of == state) {
                let sockets = self.sockets.entry((protocol, port)).or_default();
                sockets.push((address, inode));
            }
        }
    }

    /// The socket that stands in the way of a port at an address, or at any; its number.
    pub(crate) fn at(&self, protocol: Protocol, port: u16, address: Option<IpAddr>) -> Option<u64> {
        let sockets = self.sockets.get(&(protocol, port))?;
        let meets =
            |own: &IpAddr| own.is_unspecified() || address.is_none_or(|address| address == *own);
        let found = sockets.iter().find(|(own, _)| meets(own));
        found.map(|(_, inode)| *inode)
    }
}

/// `0100007F:1F90`: the address in words of the machine's byte order, and the port.
fn place(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let address = if address.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let words = [word(0)?, word(8)?, word(16)?, word(24)?];
        let bytes: [u8; 16] = words.concat().try_into().ok()?;
        let address = Ipv6Addr::from(bytes);
        address.to_ipv4_mapped().map_or(address.into(), IpAddr::V4)
    };
    Some((address, port))
}

/// The program that has a socket, as `name (pid 12)`; it may not be for us to see.
pub(crate) fn program_of(inode: u64) -> Option<String> {
    let link = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut found = processes.filter_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        holds(&process.path(), &link)?;
        let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
        Some(format!("{} (pid {pid})", name.trim_end()))
    });
    found.next()
}

fn holds(process: &Path, link: &str) -> Option<()> {
    let mut files = std::fs::read_dir(process.join("fd")).ok()?.flatten();
    let is_it = |file: &std::fs::DirEntry| {
        std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == link)
    };
    files.any(|file| is_it(&file)).then_some(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn places_are_read_as_the_kernel_writes_them() {
        let native = |address: Ipv4Addr| format!("{:08X}", u32::from_ne_bytes(address.octets()));
        let text = format!("{}:1F90", native(Ipv4Addr::LOCALHOST));
        assert_eq!(place(&text), Some((Ipv4Addr::LOCALHOST.into(), 8080)));
        let any = format!("{}:0035", "0".repeat(32));
        assert_eq!(place(&any), Some((Ipv6Addr::UNSPECIFIED.into(), 53)));
        for text in ["", "0100007F", "0100007F:x", "01:0035", "é00007F:0035"] {
            assert_eq!(place(text), None, "{text}");
        }
    }

    #[test]
    fn a_listening_program_is_found_with_its_name() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        let (tcp_port, udp_port) = (
            tcp.local_addr().unwrap().port(),
            udp.local_addr().unwrap().port(),
        );
        let listeners = Listeners::read();
        let at = |address: &str| {
            let address = address.parse().ok();
            listeners.at(Protocol::Tcp, tcp_port, address)
        };
        let inode = at("").expect("it stands in the way of every address");
        assert_eq!(at("127.0.0.1"), Some(inode));
        assert_eq!(at("192.0.2.1"), None, "it has one address alone");
        let everywhere = listeners.at(Protocol::Udp, udp_port, "192.0.2.1".parse().ok());
        assert!(everywhere.is_some());
        let program = program_of(inode).unwrap();
        let own = format!("(pid {})", std::process::id());
        assert!(program.ends_with(&own), "{program}");
        drop(tcp);
        assert_eq!(Listeners::read().at(Protocol::Tcp, tcp_port, None), None);
    }
}
