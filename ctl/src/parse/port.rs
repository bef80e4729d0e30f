//! `--publish`: `[PUBLISHED:]TARGET[/PROTOCOL]` with ranges, or comma-separated keys (X02).

use std::ops::RangeInclusive;

use types::network::{Protocol, PublishMode, PublishedPort};

use super::csv;

/// The ports one flag publishes.
pub(crate) fn ports(text: &str) -> Result<Vec<PublishedPort>, String> {
    if text.contains('=') {
        long(text)
    } else {
        short(text)
    }
}

fn short(text: &str) -> Result<Vec<PublishedPort>, String> {
    let (numbers, protocol) = match text.split_once('/') {
        Some((numbers, protocol)) => (numbers, self::protocol(protocol)?),
        None => (text, Protocol::Tcp),
    };
    let (published, target) = numbers.rsplit_once(':').unwrap_or(("", numbers));
    if published.contains([':', '.', '[']) {
        return Err(
            "an address cannot be given in the short form: use published=PORT,target=PORT,\
             host-ip=ADDRESS"
                .to_owned(),
        );
    }
    let template = PublishedPort {
        protocol,
        ..PublishedPort::default()
    };
    each(published, target, &template)
}

fn long(text: &str) -> Result<Vec<PublishedPort>, String> {
    let mut port = PublishedPort::default();
    let (mut published, mut target) = (String::new(), None);
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').unwrap_or((&field, ""));
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        match (key.as_str(), value) {
            ("prefer-local", "" | "true" | "1") => port.prefer_local = true,
            ("prefer-local", "false" | "0") => port.prefer_local = false,
            ("prefer-local", other) => {
                return Err(format!("prefer-local {other:?} must be true or false"));
            }
            (_, "") => return Err(format!("invalid field {field:?}: it must be key=value")),
            ("target", value) => target = Some(value.to_owned()),
            ("published", value) => value.clone_into(&mut published),
            ("protocol", value) => port.protocol = protocol(value)?,
            ("mode", value) => port.mode = mode(value)?,
            ("host-ip", value) => {
                let ip = value.parse();
                port.host_ip = Some(ip.map_err(|_| format!("host-ip {value:?} is no IP address"))?);
            }
            ("interface", value) => value.clone_into(&mut port.interface),
            ("name", value) => value.clone_into(&mut port.name),
            (_, _) => {
                return Err(format!(
                    "unexpected key {key:?}: there are target, published, protocol, mode, host-ip, \
                     interface, prefer-local and name"
                ));
            }
        }
    }
    let target = target.ok_or("target is missing: the port in the container, as target=80")?;
    each(&published, &target, &port)
}

/// One port for each number of the ranges, which must be of one length.
fn each(
    published: &str,
    target: &str,
    template: &PublishedPort,
) -> Result<Vec<PublishedPort>, String> {
    let targets = range("target", target)?;
    let published = match published {
        "" | "0" => None,
        text => Some(range("published", text)?),
    };
    if let Some(published) = &published
        && published.len() != targets.len()
    {
        return Err(format!(
            "{} published ports for {} ports of the container: ranges must have one length",
            published.len(),
            targets.len()
        ));
    }
    let ports = targets
        .enumerate()
        .map(|(index, target_port)| PublishedPort {
            target_port,
            published_port: published
                .clone()
                .and_then(|mut published| published.nth(index))
                .unwrap_or(0),
            ..template.clone()
        });
    Ok(ports.collect())
}

fn range(what: &str, text: &str) -> Result<RangeInclusive<u16>, String> {
    let number = |text: &str| {
        let number = text.trim().parse::<u16>().ok().filter(|number| *number > 0);
        number.ok_or_else(|| format!("{what} {text:?} is not a port: 1 to 65535"))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first > last {
        return Err(format!(
            "{what} {text:?} is not a range: the lower port comes first"
        ));
    }
    Ok(first..=last)
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(format!(
            "protocol {text:?} is not known: use tcp, udp or sctp"
        )),
    }
}

fn mode(text: &str) -> Result<PublishMode, String> {
    match text.to_ascii_lowercase().as_str() {
        "ingress" => Ok(PublishMode::Ingress),
        "host" => Ok(PublishMode::Host),
        _ => Err(format!("mode {text:?} is not known: use ingress or host")),
    }
}

/// A port as lists show it: `*:8080->80/tcp`.
pub(crate) fn shown(port: &PublishedPort) -> String {
    let address = port
        .host_ip
        .map_or_else(|| "*".to_owned(), |ip| ip.to_string());
    format!(
        "{address}:{}->{}/{}",
        port.published_port, port.target_port, port.protocol
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> String {
        let show = |port: &PublishedPort| {
            let mut text = shown(port);
            if port.mode == PublishMode::Host {
                text += " host";
            }
            if port.prefer_local {
                text += " local";
            }
            format!("{text}{}{}", port.interface, port.name)
        };
        match ports(text) {
            Ok(ports) => ports.iter().map(show).collect::<Vec<_>>().join(" "),
            Err(problem) => problem,
        }
    }

    #[test]
    fn ports_as_docker_writes_them() {
        for (text, expected) in [
            ("80", "*:0->80/tcp"),
            ("8080:80", "*:8080->80/tcp"),
            ("8080:80/UDP", "*:8080->80/udp"),
            (":80/sctp", "*:0->80/sctp"),
            ("8000-8001:80-81", "*:8000->80/tcp *:8001->81/tcp"),
            ("80-81", "*:0->80/tcp *:0->81/tcp"),
            ("target=80", "*:0->80/tcp"),
            ("published=8080,target=80,mode=host", "*:8080->80/tcp host"),
            (
                "published=1-2,target=3-4,protocol=udp,prefer-local",
                "*:1->3/udp local *:2->4/udp local",
            ),
            (
                "published=1,target=3,host-ip=2001:db8::1,interface=eth0",
                "2001:db8::1:1->3/tcpeth0",
            ),
        ] {
            assert_eq!(outcome(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("", "target \"\" is not a port: 1 to 65535"),
            ("0", "target \"0\" is not a port: 1 to 65535"),
            ("x:80", "published \"x\" is not a port: 1 to 65535"),
            ("80:70000", "target \"70000\" is not a port: 1 to 65535"),
            (
                "80/icmp",
                "protocol \"icmp\" is not known: use tcp, udp or sctp",
            ),
            (
                "1-3:1-2",
                "3 published ports for 2 ports of the container: ranges must have one length",
            ),
            (
                "3-1",
                "target \"3-1\" is not a range: the lower port comes first",
            ),
            (
                "published=80",
                "target is missing: the port in the container, as target=80",
            ),
            (
                "target=80,mode=mesh",
                "mode \"mesh\" is not known: use ingress or host",
            ),
            ("target=80,host-ip=x", "host-ip \"x\" is no IP address"),
            (
                "target=80,prefer-local=x",
                "prefer-local \"x\" must be true or false",
            ),
        ] {
            assert_eq!(outcome(text), expected, "{text}");
        }
        assert!(outcome("1.2.3.4:80:80").contains("use published=PORT"));
        assert!(outcome("target=80,colour=red").contains("there are target, published"));
    }
}
