//! The `/etc` files that tell a program its own name and who to ask for others.

use crate::error::{During, Result, Step};
use crate::spec::{ContainerSpec, Dns, Network};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;

/// Where the files are seen, and where they are in the container's directory.
pub(super) const FILES: [(&str, &str); 3] = [
    ("/etc/hosts", "etc/hosts"),
    ("/etc/hostname", "etc/hostname"),
    ("/etc/resolv.conf", "etc/resolv.conf"),
];

/// What every `/etc/hosts` begins with, as Docker writes it.
const LOOPBACK_HOSTS: &str = "\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// Writes the files into `etc/` of the working directory, the container's.
pub(crate) fn write(spec: &ContainerSpec, hostname: &str) -> Result<()> {
    let of_machine = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let base = match spec.network {
        Network::Host => of_machine("/etc/hosts"),
        Network::Own | Network::Join(_) => LOOPBACK_HOSTS.to_owned(),
    };
    let resolv = match (&spec.dns, &spec.network) {
        (Some(dns), _) => resolv_conf(dns),
        (None, Network::Host) => of_machine("/etc/resolv.conf"),
        (None, Network::Own | Network::Join(_)) => {
            without_loopback_servers(&of_machine("/etc/resolv.conf"))
        }
    };
    let texts = [hosts(base, spec, hostname), format!("{hostname}\n"), resolv];
    for ((target, file), text) in FILES.into_iter().zip(texts) {
        let write = || -> std::io::Result<()> {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o644)
                .open(file)?;
            std::io::Write::write_all(&mut file, text.as_bytes())
        };
        write().during(Step::EtcFiles, target)?;
    }
    Ok(())
}

fn hosts(base: String, spec: &ContainerSpec, hostname: &str) -> String {
    let mut text = base;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    // With a network of its own but no address yet, the loopback is where the container is.
    let is_named = spec
        .extra_hosts
        .iter()
        .any(|entry| entry.names.iter().any(|name| name == hostname));
    if spec.network == Network::Own && !is_named {
        let _ = writeln!(text, "127.0.0.1\t{hostname}");
    }
    for entry in &spec.extra_hosts {
        let _ = writeln!(text, "{}\t{}", entry.address, entry.names.join(" "));
    }
    text
}

fn resolv_conf(dns: &Dns) -> String {
    let mut text = String::new();
    for server in &dns.nameservers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (key, values) in [("search", &dns.search), ("options", &dns.options)] {
        if !values.is_empty() {
            let _ = writeln!(text, "{key} {}", values.join(" "));
        }
    }
    text
}

/// The machine's file without resolvers that listen on the machine's own loopback.
fn without_loopback_servers(text: &str) -> String {
    let is_reachable = |line: &&str| {
        let mut words = line.split_ascii_whitespace();
        let address = match (words.next(), words.next()) {
            (Some("nameserver"), Some(address)) => address.parse::<IpAddr>(),
            _ => return true,
        };
        !address.is_ok_and(|address| address.is_loopback())
    };
    let mut kept: String = text
        .lines()
        .filter(is_reachable)
        .collect::<Vec<_>>()
        .join("\n");
    if !kept.is_empty() {
        kept.push('\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::HostEntry;

    #[test]
    fn hosts_names_the_container_and_what_was_added() {
        let entry = |address: &str, names: &[&str]| HostEntry {
            address: address.parse().unwrap(),
            names: names.iter().map(|name| String::from(*name)).collect(),
        };
        let own = ContainerSpec {
            extra_hosts: vec![entry("10.0.0.3", &["db", "database"])],
            ..ContainerSpec::default()
        };
        let text = hosts(LOOPBACK_HOSTS.to_owned(), &own, "web");
        assert!(
            text.ends_with("127.0.0.1\tweb\n10.0.0.3\tdb database\n"),
            "{text}"
        );
        let addressed = ContainerSpec {
            extra_hosts: vec![entry("fd00::5", &["web"])],
            ..ContainerSpec::default()
        };
        let text = hosts(LOOPBACK_HOSTS.to_owned(), &addressed, "web");
        assert!(
            text.ends_with("ff02::2\tip6-allrouters\nfd00::5\tweb\n"),
            "{text}"
        );
        let host = ContainerSpec {
            network: Network::Host,
            ..ContainerSpec::default()
        };
        assert_eq!(hosts("1.2.3.4 x".to_owned(), &host, "web"), "1.2.3.4 x\n");
    }

    #[test]
    fn resolvers() {
        let dns = Dns {
            nameservers: vec!["127.0.0.11".parse().unwrap()],
            search: vec!["a".into(), "b".into()],
            options: vec!["ndots:0".into()],
        };
        assert_eq!(
            resolv_conf(&dns),
            "nameserver 127.0.0.11\nsearch a b\noptions ndots:0\n"
        );
        let machine = "# c\nnameserver 127.0.0.53\nnameserver 9.9.9.9\nnameserver ::1\nsearch x\n";
        assert_eq!(
            without_loopback_servers(machine),
            "# c\nnameserver 9.9.9.9\nsearch x\n"
        );
        assert_eq!(without_loopback_servers(""), "");
    }
}
