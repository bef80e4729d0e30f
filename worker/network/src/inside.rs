//! Sets up a container's own side: interfaces, addresses, routes, kernel parameters.

mod compare;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::link::LinkAttribute;

use crate::message;
use crate::namespace;
use crate::observe;
use crate::sandbox::{Interface, Sandbox};
use crate::socket::{Request, Socket};
use crate::state::LinkName;

pub(crate) use compare::missing;

/// Sets up everything inside. Whatever is there already stays, so that it can be done again.
pub(crate) fn set_up(namespace: &OwnedFd, sandbox: &Sandbox, mtus: &[u32]) -> io::Result<()> {
    namespace::inside(namespace, || {
        set_namespace_parameters()?;
        for interface in &sandbox.interfaces {
            set_parameters(interface)?;
        }
        let mut socket = Socket::open()?;
        let links = observe::links(&mut socket)?;
        let mut steps = Vec::new();
        // Our own interfaces have it wherever the kernel has.
        let has_ipv6 = std::fs::exists("/proc/sys/net/ipv6")?;
        for (interface, mtu) in sandbox.interfaces.iter().zip(mtus) {
            let name = LinkName::existing(&interface.name);
            let index = links
                .iter()
                .find(|(_, found, _)| *found == name)
                .map(|link| link.0);
            let missing = || io::Error::new(io::ErrorKind::NotFound, interface.name.clone());
            let all = requests(interface, index.ok_or_else(missing)?, *mtu);
            steps.extend(all.into_iter().filter(|one| has_ipv6 || !one.is_ipv6()));
        }
        let mut failed = socket.execute(&steps)?;
        // What is there already stays.
        failed.retain(|(_, errno)| *errno != rustix::io::Errno::EXIST);
        match failed.first() {
            Some((_, errno)) => Err((*errno).into()),
            None => Ok(()),
        }
    })
}

fn requests(interface: &Interface, index: u32, mtu: u32) -> Vec<Request> {
    let up = message::set_link(index, vec![LinkAttribute::Mtu(mtu)], Some(true));
    let mut requests = vec![up];
    let addresses = interface.addresses.iter();
    requests.extend(addresses.map(|address| message::add_address(index, *address)));
    let on_link = interface.on_link.iter();
    requests.extend(on_link.map(|subnet| message::add_route(index, *subnet, None)));
    for gateway in &interface.gateways {
        let everywhere = match gateway {
            IpAddr::V4(_) => IpNet::V4(Ipv4Net::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 fits")),
            IpAddr::V6(_) => IpNet::V6(Ipv6Net::new(Ipv6Addr::UNSPECIFIED, 0).expect("0 fits")),
        };
        requests.push(message::add_route(index, everywhere, Some(*gateway)));
    }
    for gateway in &interface.mesh_gateways {
        if interface.address(gateway.is_ipv4()).is_some() {
            requests.extend(message::lead_back(index, *gateway));
        }
    }
    requests
}

/// `/proc/sys/net` is that of the thread's namespace.
fn set_parameters(interface: &Interface) -> io::Result<()> {
    let name = &interface.name;
    let set = |path: &str, value: &str| match std::fs::write(path, value) {
        // A kernel without IPv6 has none of its parameters.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    let has_ipv6 = interface.address(false).is_some();
    // As Docker: no address that nobody asked for.
    set(
        &format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"),
        if has_ipv6 { "0" } else { "1" },
    )?;
    if has_ipv6 {
        // Addresses are known to be free, and nobody on an overlay would hear the question.
        set(&format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0")?;
        set(&format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "0")?;
    }
    if interface.is_ingress {
        // Requests from everywhere arrive here, whatever the way back to them would be.
        set(&format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "0")?;
        set("/proc/sys/net/ipv4/conf/all/rp_filter", "0")?;
    }
    Ok(())
}

/// Parameters of a container's namespace that do not belong to an interface: Docker's.
fn set_namespace_parameters() -> io::Result<()> {
    // Programs bind any port and ping without privileges, as their namespace is theirs alone.
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
    match std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647") {
        // In a user namespace not all groups are mapped.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// Whether the calling thread's namespace lets links have IPv6: the kernel may lack it, and an
/// administrator may have switched it off.
pub(crate) fn has_ipv6() -> bool {
    let off = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    off.is_ok_and(|off| off.trim() == "0")
}

/// Whether the packet filter of the calling thread's namespace sees what bridges pass on, in both
/// families: `br_netfilter`, which Docker and Kubernetes need.
pub(crate) fn filters_bridged() -> bool {
    ["iptables", "ip6tables"].iter().all(|family| {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        std::fs::read_to_string(path).is_ok_and(|on| on.trim() == "1")
    })
}

/// Has the machine pass packets between its links, in the namespace of the calling thread.
pub(crate) fn forward(has_ipv6: bool) -> io::Result<()> {
    turn_on("/proc/sys/net/ipv4/ip_forward")?;
    if has_ipv6 && std::fs::exists("/proc/sys/net/ipv6/conf/all/forwarding")? {
        // A machine that forwards takes no routes from routers any more, unless told to.
        for entry in std::fs::read_dir("/proc/sys/net/ipv6/conf")? {
            let accepts = entry?.path().join("accept_ra");
            if std::fs::read_to_string(&accepts).is_ok_and(|value| value.trim() == "1") {
                std::fs::write(&accepts, "2")?;
            }
        }
        turn_on("/proc/sys/net/ipv6/conf/all/forwarding")?;
    }
    Ok(())
}

/// Lets what the machine sends to a published port of 127.0.0.1 leave by a bridge, in the
/// namespace of the calling thread. Nothing comes in that way: the packet filter sees to it.
pub(crate) fn admit_loopback(bridge: &str) -> io::Result<()> {
    match turn_on(&format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet")) {
        // It is about to be made.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn turn_on(path: &str) -> io::Result<()> {
    if std::fs::read_to_string(path)?.trim() == "0" {
        std::fs::write(path, "1")?;
    }
    Ok(())
}
