//! `/etc/resolv.conf`: the host's, and the one of a sandbox.

use crate::{DNS_ADDRESS, Forwarding, Origin, SERVERS_MAX};
use std::net::{IpAddr, SocketAddr};

/// Port of DNS.
const PORT: u16 = 53;

/// What a `resolv.conf` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Name servers, in order.
    pub servers: Vec<IpAddr>,
    /// Domains tried after a name.
    pub search: Vec<String>,
    /// Options, such as `ndots:2`.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads a `resolv.conf`. As in the C library, what is not understood is passed over, and the
    /// last `search` or `domain` counts.
    ///
    /// A server with a zone (`fe80::1%eth0`) is passed over, too.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or("");
            let mut words = line.split_whitespace();
            let keyword = words.next();
            let words = words.map(str::to_owned);
            match keyword {
                Some("nameserver") => conf
                    .servers
                    .extend(words.flat_map(|word| word.parse::<IpAddr>())),
                Some("search") => conf.search = words.filter(|word| word != ".").collect(),
                Some("domain") => conf.search = words.take(1).collect(),
                Some("options") => conf.options.extend(words),
                Some(_) | None => {}
            }
        }
        conf
    }

    /// What a container's `resolv.conf` says, given its node's and what its user asked for: our
    /// server, and names are tried as they are first.
    #[must_use]
    pub fn for_sandbox(host: &Self, user: &Self) -> Self {
        let mut options = user.options.clone();
        if user.ndots().is_none() {
            options.push("ndots:0".to_owned());
        }
        Self {
            servers: vec![DNS_ADDRESS.into()],
            search: Self::search_of(host, user),
            options,
        }
    }

    /// The same of a container that asks no server of ours: on the node's own network, or on none
    /// of the user's.
    #[must_use]
    pub fn without_us(host: &Self, user: &Self) -> Self {
        let either = |user: &[String], host: &[String]| {
            let chosen = if user.is_empty() { host } else { user };
            chosen.to_vec()
        };
        Self {
            servers: if user.servers.is_empty() {
                host.servers.clone()
            } else {
                user.servers.clone()
            },
            search: Self::search_of(host, user),
            options: either(&user.options, &host.options),
        }
    }

    fn search_of(host: &Self, user: &Self) -> Vec<String> {
        let search = if user.search.is_empty() {
            &host.search
        } else {
            &user.search
        };
        // A single dot is how a user asks for no search list at all.
        let search = search.iter().filter(|domain| *domain != ".");
        search.cloned().collect()
    }

    /// Where the names a sandbox's networks do not know are asked for.
    ///
    /// `is_outward` says whether the sandbox may reach the world. One that may not asks from its own
    /// namespace, and only servers its user named: the host's would answer from outside, and a
    /// loopback address means another machine's there.
    #[must_use]
    pub fn forwarding(host: &Self, user: &Self, is_outward: bool) -> Forwarding {
        let servers: Vec<IpAddr> = match (user.servers.is_empty(), is_outward) {
            (false, true) => user.servers.clone(),
            (true, true) => host.servers.clone(),
            (false, false) => {
                let own = |server: &&IpAddr| !server.is_loopback();
                user.servers.iter().filter(own).copied().collect()
            }
            (true, false) => Vec::new(),
        };
        Forwarding {
            servers: servers
                .into_iter()
                .take(SERVERS_MAX)
                .map(|server| SocketAddr::new(server, PORT))
                .collect(),
            origin: if is_outward {
                Origin::Node
            } else {
                Origin::Sandbox
            },
            keeps_single_labels: user.ndots().is_some_and(|ndots| ndots > 0),
        }
    }

    fn ndots(&self) -> Option<u32> {
        let ndots = |option: &String| option.strip_prefix("ndots:")?.parse().ok();
        self.options.iter().rev().find_map(ndots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_file_is_read_as_the_c_library_reads_it() {
        let text = "# made by hand\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\n\
                    nameserver 2001:db8::53 ; second\nsearch a.example b.example\n\
                    options edns0 timeout:1\nsortlist 1.2.3.4\n";
        let conf = ResolvConf::parse(text);
        assert_eq!(
            conf.servers,
            [
                "10.0.0.2".parse::<IpAddr>().unwrap(),
                "2001:db8::53".parse().unwrap()
            ]
        );
        assert_eq!(conf.search, ["a.example", "b.example"]);
        assert_eq!(conf.options, ["edns0", "timeout:1"]);
        assert_eq!(
            ResolvConf::parse("\0\u{fffd} nameserver"),
            ResolvConf::default()
        );
    }

    #[test]
    fn a_sandbox_asks_us_with_the_hosts_search_list() {
        let host = ResolvConf::parse("nameserver 10.0.0.2\nsearch corp.example\noptions edns0");
        let none = ResolvConf::default();
        assert_eq!(
            ResolvConf::for_sandbox(&host, &none),
            ResolvConf::parse("nameserver 127.0.0.11\nsearch corp.example\noptions ndots:0")
        );
        let user = ResolvConf {
            search: vec![String::from(".")],
            options: vec![String::from("ndots:2")],
            ..ResolvConf::default()
        };
        assert_eq!(
            ResolvConf::for_sandbox(&host, &user),
            ResolvConf::parse("nameserver 127.0.0.11\noptions ndots:2")
        );
        assert_eq!(
            ResolvConf::without_us(&host, &user),
            ResolvConf::parse("nameserver 10.0.0.2\noptions ndots:2")
        );
    }

    #[test]
    fn an_inward_sandbox_asks_nobody_of_the_host() {
        let host = ResolvConf::parse("nameserver 127.0.0.53\nnameserver 10.0.0.2");
        let none = ResolvConf::default();
        let outward = ResolvConf::forwarding(&host, &none, true);
        assert_eq!(outward.servers.len(), 2);
        assert_eq!(outward.origin, Origin::Node);
        assert_eq!(ResolvConf::forwarding(&host, &none, false).servers, []);
        let user = ResolvConf::parse("nameserver 127.0.0.1\nnameserver 10.1.0.9\noptions ndots:1");
        let inward = ResolvConf::forwarding(&host, &user, false);
        assert_eq!(inward.servers, ["10.1.0.9:53".parse().unwrap()]);
        assert_eq!(inward.origin, Origin::Sandbox);
        assert!(inward.keeps_single_labels);
    }
}
