//! Names as they are looked up: lower case, dots between labels.

use hickory_proto::rr::Name;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest name in bytes, as text without the last dot (RFC 1035).
pub const BYTES_MAX: usize = 253;

/// A name as text in lower case; `None` for the root, and for names that have no such text as a
/// label holds a dot.
#[must_use]
pub fn key(name: &Name) -> Option<String> {
    let mut text = Vec::with_capacity(name.len());
    for label in name.iter() {
        if label.contains(&b'.') {
            return None;
        }
        if !text.is_empty() {
            text.push(b'.');
        }
        text.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    String::from_utf8(text).ok().filter(|text| !text.is_empty())
}

/// The DNS name of a text; `None` when a label is empty or too long.
#[must_use]
pub fn name(text: &str) -> Option<Name> {
    Name::from_labels(text.split('.').map(str::as_bytes)).ok()
}

/// The address a name for reverse lookups stands for.
#[must_use]
pub fn reversed(key: &str) -> Option<IpAddr> {
    if let Some(digits) = key.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut labels = digits.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = labels.next()?.parse().ok()?;
        }
        return labels
            .next()
            .is_none()
            .then(|| Ipv4Addr::from(octets).into());
    }
    let digits = key.strip_suffix(".ip6.arpa")?;
    let mut value = 0_u128;
    let mut labels = digits.rsplit('.');
    for _ in 0..32 {
        let label = labels.next()?;
        if label.len() != 1 {
            return None;
        }
        value = value << 4 | u128::from(u8::from_str_radix(label, 16).ok()?);
    }
    labels
        .next()
        .is_none()
        .then(|| Ipv6Addr::from(value).into())
}

/// The name under which an address is looked up.
#[must_use]
pub fn reverse(address: IpAddr) -> String {
    let mut text = String::new();
    match address {
        IpAddr::V4(address) => {
            for octet in address.octets().iter().rev() {
                let _ = write!(text, "{octet}.");
            }
            text.push_str("in-addr.arpa");
        }
        IpAddr::V6(address) => {
            for octet in address.octets().iter().rev() {
                let _ = write!(text, "{:x}.{:x}.", octet & 0xf, octet >> 4);
            }
            text.push_str("ip6.arpa");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names_are_read_as_they_are_written() {
        for address in ["10.0.0.2", "255.1.0.9", "fd00::1:2", "2001:db8::ffff"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(reversed(&reverse(address)), Some(address));
        }
        for odd in [
            "in-addr.arpa",
            "1.2.3.in-addr.arpa",
            "1.2.3.4.5.in-addr.arpa",
            "256.2.3.4.in-addr.arpa",
            "x.ip6.arpa",
            "web",
        ] {
            assert_eq!(reversed(odd), None, "{odd}");
        }
    }

    #[test]
    fn names_are_compared_in_lower_case() {
        assert_eq!(key(&name("Web_1.FRONT").unwrap()).unwrap(), "web_1.front");
        assert_eq!(key(&Name::root()), None);
        assert!(name("a..b").is_none());
    }
}
