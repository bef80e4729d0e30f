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
    /// The data path takes no port.
    #[error(
        "data path address {0:?} has a port: write an IP address or the name of an interface; the \
         port is one for the whole swarm, chosen by `init --data-path-port`"
    )]
    DataPathPort(String),
    /// The data path needs an address packets can be sent from.
    #[error(
        "data path address {value:?} cannot be used, {problem}: name an interface or one of {}",
        list_or_none(.machine)
    )]
    DataPath {
        /// What was given.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
        /// What this machine has.
        machine: Vec<IpAddr>,
    },
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
    format!("several ({})", join(addresses))
}

fn list_or_none(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return "this machine's addresses, of which it has none".to_owned();
    }
    join(addresses)
}

fn join(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(", ")
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

/// What carries packets between containers: `text` as the user gave it, an address or the name of
/// an interface, then its first address of each family. Empty when nothing was given.
///
/// # Errors
/// When the text is no address or interface of this machine that others could send to, or has a
/// port.
pub fn data_path(text: &str, machine: &[InterfaceAddress]) -> Result<Vec<IpAddr>, Error> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let refused = |problem| Error::DataPath {
        value: text.to_owned(),
        problem,
        machine: usable(machine).collect(),
    };
    if machine.iter().any(|entry| entry.interface == text) {
        let own = machine.iter().filter(|entry| entry.interface == text);
        let own: Vec<_> = own.cloned().collect();
        let found = one_of_each(usable(&own));
        if found.is_empty() {
            return Err(refused("the interface has no address others could send to"));
        }
        return Ok(found);
    }
    let has_port = text.parse::<SocketAddr>().is_ok()
        || text
            .split_once(':')
            .is_some_and(|(name, _)| machine.iter().any(|entry| entry.interface == name));
    if has_port {
        return Err(Error::DataPathPort(text.to_owned()));
    }
    let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() else {
        return Err(refused("it is neither an address nor an interface here"));
    };
    if address.is_unspecified() || address.is_multicast() || is_link_local(&address) {
        return Err(refused("others could not send to it"));
    }
    // Packets are sent from it as well.
    if !machine.iter().any(|entry| entry.address == address) {
        return Err(refused("this machine does not have it"));
    }
    Ok(vec![address])
}

/// What carries packets between containers when the user has not said: what others are told, and
/// the address of the other family that the same interface has, if any.
#[must_use]
pub fn data_path_of(advertised: IpAddr, machine: &[InterfaceAddress]) -> Vec<IpAddr> {
    if advertised.is_unspecified() {
        return Vec::new();
    }
    let interface = machine.iter().find(|entry| entry.address == advertised);
    let same: Vec<_> = machine
        .iter()
        .filter(|entry| interface.is_some_and(|it| it.interface == entry.interface))
        .cloned()
        .collect();
    one_of_each(std::iter::once(advertised).chain(usable(&same)))
}

/// Addresses others could send to.
fn usable(machine: &[InterfaceAddress]) -> impl Iterator<Item = IpAddr> {
    let addresses = machine.iter().map(|entry| entry.address);
    addresses.filter(|ip| !ip.is_loopback() && !is_link_local(ip))
}

/// The first address of each family.
fn one_of_each(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for address in addresses {
        if found.iter().all(|one| one.is_ipv4() != address.is_ipv4()) {
            found.push(address);
        }
    }
    found
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
    fn the_data_path_is_chosen_or_follows_from_what_others_are_told() {
        let ips = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let machine = machine(&[
            ("lo", "127.0.0.1"),
            ("eth0", "10.0.0.5"),
            ("eth0", "10.0.0.6"),
            ("eth1", "fe80::1"),
            ("eth1", "fd01::5"),
            ("eth1", "10.1.0.5"),
            ("eth2", "fe80::2"),
        ]);
        for (text, expected) in [
            ("", &[][..]),
            ("10.0.0.6", &["10.0.0.6"]),
            ("[fd01::5]", &["fd01::5"]),
            ("eth0", &["10.0.0.5"]),
            ("eth1", &["fd01::5", "10.1.0.5"]),
        ] {
            assert_eq!(data_path(text, &machine), Ok(ips(expected)), "{text}");
        }
        for (text, words) in [
            ("10.0.0.5:4789", "has a port"),
            ("eth1:4789", "has a port"),
            ("eth2", "no address others could send to"),
            ("eth9", "neither an address nor an interface"),
            ("10.0.0", "neither an address nor an interface"),
            ("10.0.0.7", "this machine does not have it"),
            ("0.0.0.0", "others could not send to it"),
            ("fe80::1", "others could not send to it"),
        ] {
            let error = data_path(text, &machine).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
            assert!(error.starts_with("data path address"), "{error}");
        }
        for (advertised, expected) in [
            ("10.0.0.6", &["10.0.0.6"][..]),
            ("10.1.0.5", &["10.1.0.5", "fd01::5"]),
            ("fd01::5", &["fd01::5", "10.1.0.5"]),
            ("192.0.2.1", &["192.0.2.1"]),
            ("0.0.0.0", &[]),
        ] {
            let found = data_path_of(advertised.parse().unwrap(), &machine);
            assert_eq!(found, ips(expected), "{advertised}");
        }
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
