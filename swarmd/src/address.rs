//! Addresses of a node: where it listens, and which address it tells others (S19.07).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Port of all that nodes say to each other.
pub const PORT_DEFAULT: u16 = 2377;

/// An address that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not an address.
    #[error("{field} {value:?} is not an address: write IP, IP:PORT or the name of an interface")]
    Malformed {
        /// The option.
        field: &'static str,
        /// What was given.
        value: String,
    },
    /// Others cannot reach "any address".
    #[error("advertise address {0} cannot be reached by others: name one address of this machine")]
    Unspecified(IpAddr),
    /// An interface without addresses.
    #[error("{field} {value:?}: the interface has no address")]
    NoAddress {
        /// The option.
        field: &'static str,
        /// What was given.
        value: String,
    },
    /// Nothing was given and there is no single choice.
    #[error(
        "could not choose an address to advertise, this machine has {}: give --advertise-addr",
        list(.0)
    )]
    Ambiguous(Vec<IpAddr>),
}

fn list(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return "none beyond the loopback".to_owned();
    }
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    format!("several ({})", texts.join(", "))
}

/// An interface and one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Name of the interface.
    pub interface: String,
    /// One of its addresses.
    pub address: IpAddr,
}

/// Where to listen: `text` as the user gave it, all addresses when empty.
///
/// # Errors
/// When the text is not an address or a known interface.
pub fn listen(text: &str, machine: &[InterfaceAddress]) -> Result<SocketAddr, Error> {
    if text.is_empty() {
        return Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT_DEFAULT));
    }
    parse("listen address", text, PORT_DEFAULT, machine)
}

/// What to tell others: `text` as the user gave it; else the address listened on if it is one
/// particular address; else the machine's only address.
///
/// # Errors
/// When the text is no usable address, or none was given and there is no single choice.
pub fn advertise(
    text: &str,
    listen: SocketAddr,
    machine: &[InterfaceAddress],
) -> Result<SocketAddr, Error> {
    if !text.is_empty() {
        let address = parse("advertise address", text, listen.port(), machine)?;
        if address.ip().is_unspecified() {
            return Err(Error::Unspecified(address.ip()));
        }
        return Ok(address);
    }
    if !listen.ip().is_unspecified() {
        return Ok(listen);
    }
    let candidates = |wanted: fn(&IpAddr) -> bool| -> Vec<IpAddr> {
        let addresses = machine.iter().map(|entry| entry.address);
        addresses
            .filter(|ip| !ip.is_loopback() && !is_link_local(ip) && wanted(ip))
            .collect()
    };
    // Two stacks on one wire are one choice: IPv4 stands for the machine then, as in Swarm.
    let mut found = candidates(IpAddr::is_ipv4);
    if found.is_empty() {
        found = candidates(IpAddr::is_ipv6);
    }
    match found[..] {
        [only] => Ok(SocketAddr::new(only, listen.port())),
        _ => Err(Error::Ambiguous(found)),
    }
}

/// A manager to join at.
///
/// # Errors
/// When the text is not `IP` or `IP:PORT`.
pub fn remote(text: &str) -> Result<SocketAddr, Error> {
    let address = parse("remote address", text, PORT_DEFAULT, &[])?;
    if address.ip().is_unspecified() {
        return Err(Error::Unspecified(address.ip()));
    }
    Ok(address)
}

fn parse(
    field: &'static str,
    text: &str,
    port: u16,
    machine: &[InterfaceAddress],
) -> Result<SocketAddr, Error> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let malformed = || Error::Malformed {
        field,
        value: text.to_owned(),
    };
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, port.parse().map_err(|_| malformed())?),
        None => (text, port),
    };
    let of_interface: Vec<IpAddr> = machine
        .iter()
        .filter(|entry| entry.interface == name)
        .map(|entry| entry.address)
        .collect();
    if of_interface.is_empty() {
        let known = machine.iter().any(|entry| entry.interface == name);
        let value = text.to_owned();
        return Err(if known {
            Error::NoAddress { field, value }
        } else {
            malformed()
        });
    }
    let first = of_interface
        .iter()
        .find(|ip| ip.is_ipv4())
        .unwrap_or(&of_interface[0]);
    Ok(SocketAddr::new(*first, port))
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(entries: &[(&str, &str)]) -> Vec<InterfaceAddress> {
        let entry = |(interface, address): &(&str, &str)| InterfaceAddress {
            interface: (*interface).to_owned(),
            address: address.parse().unwrap(),
        };
        entries.iter().map(entry).collect()
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn listening() {
        let machine = machine(&[
            ("lo", "127.0.0.1"),
            ("eth0", "10.0.0.5"),
            ("eth0", "fd00::5"),
        ]);
        let table = [
            ("", "0.0.0.0:2377"),
            ("10.0.0.5", "10.0.0.5:2377"),
            ("10.0.0.5:99", "10.0.0.5:99"),
            ("eth0", "10.0.0.5:2377"),
            ("eth0:99", "10.0.0.5:99"),
            ("::1", "[::1]:2377"),
            ("[::1]:99", "[::1]:99"),
        ];
        for (text, expected) in table {
            assert_eq!(listen(text, &machine), Ok(at(expected)), "{text}");
        }
        for text in ["nowhere", "eth0:x", "10.0.0.5:99999", "1.2.3"] {
            assert!(
                matches!(listen(text, &machine), Err(Error::Malformed { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn advertising() {
        let any = at("0.0.0.0:2377");
        let one = machine(&[
            ("lo", "127.0.0.1"),
            ("eth0", "10.0.0.5"),
            ("eth0", "fe80::1"),
        ]);
        let two = machine(&[("eth0", "10.0.0.5"), ("eth1", "10.1.0.5")]);
        let six = machine(&[("eth0", "fd00::5"), ("eth0", "fe80::1")]);
        assert_eq!(advertise("", any, &one), Ok(at("10.0.0.5:2377")));
        assert_eq!(advertise("", any, &six), Ok(at("[fd00::5]:2377")));
        assert_eq!(advertise("", at("10.1.0.5:7"), &two), Ok(at("10.1.0.5:7")));
        assert_eq!(advertise("eth1", any, &two), Ok(at("10.1.0.5:2377")));
        assert_eq!(advertise("192.0.2.1:5", any, &two), Ok(at("192.0.2.1:5")));
        assert!(matches!(advertise("", any, &two), Err(Error::Ambiguous(a)) if a.len() == 2));
        assert!(matches!(advertise("", any, &[]), Err(Error::Ambiguous(a)) if a.is_empty()));
        assert!(matches!(
            advertise("0.0.0.0", any, &one),
            Err(Error::Unspecified(_))
        ));
    }

    #[test]
    fn remotes_are_addresses() {
        assert_eq!(remote("10.0.0.1"), Ok(at("10.0.0.1:2377")));
        assert_eq!(remote("10.0.0.1:5"), Ok(at("10.0.0.1:5")));
        assert!(matches!(
            remote("host.example"),
            Err(Error::Malformed { .. })
        ));
        assert!(matches!(remote("0.0.0.0:1"), Err(Error::Unspecified(_))));
    }
}
