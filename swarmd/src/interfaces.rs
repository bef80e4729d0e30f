//! Asks the machine for the addresses of its interfaces.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::address::InterfaceAddress;

/// Every address of every interface.
pub(crate) fn of_this_machine() -> std::io::Result<Vec<InterfaceAddress>> {
    let interfaces = if_addrs::get_if_addrs()?;
    let address = |it: if_addrs::Interface| InterfaceAddress {
        address: it.ip(),
        interface: it.name,
    };
    Ok(interfaces.into_iter().map(address).collect())
}

/// The address this machine uses towards `remote`. Sends nothing.
pub(crate) fn towards(remote: SocketAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_there_and_leads_to_itself() {
        let all = of_this_machine().unwrap();
        assert!(
            all.iter()
                .any(|it| it.interface == "lo" && it.address.is_loopback()),
            "{all:?}"
        );
        assert_eq!(
            towards("127.0.0.1:1".parse().unwrap()).unwrap(),
            IpAddr::from([127, 0, 0, 1])
        );
    }
}
