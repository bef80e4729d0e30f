//! Networks: drivers and their options, address pools, and what goes together.

use std::net::IpAddr;

use ipnet::IpNet;
use store::subnets::VNIS_KEY;
use types::network::{AddressPool, NetworkDriver, VNI_MAX};
use types::{Labels, NetworkSpec};

use super::{Checked, Invalid, labels, name};

/// Subnets of one network at most: each is a VXLAN device and a bridge on every node.
const POOLS_MAX: usize = 32;
/// Smallest and largest packet size that can be set (IPv4's minimum, the kernel's maximum).
const MTU: std::ops::RangeInclusive<u32> = 576..=65_535;
/// Shortest prefix of a subnet: below it, a slip of the finger takes a continent.
const PREFIX_MIN_V4: u8 = 8;
const PREFIX_MIN_V6: u8 = 32;
/// Longest: a gateway and one address.
const PREFIX_MAX_V4: u8 = 30;
const PREFIX_MAX_V6: u8 = 126;

/// Option that sets the packet size, and its short form.
const MTU_KEYS: [&str; 2] = ["com.docker.network.driver.mtu", "mtu"];

/// Everything about a network that can be said without looking at the cluster.
///
/// # Errors
/// The first field that is wrong.
pub fn network_spec(spec: &NetworkSpec) -> Checked {
    name("Name", &spec.name)?;
    labels("Labels", &spec.labels)?;
    driver(spec)?;
    if !spec.ipv4 {
        return Err(Invalid::new(
            "EnableIPv4",
            "IPv4 cannot be switched off: leave it on, and add IPv6 with --ipv6",
        ));
    }
    kinds(spec)?;
    options(spec)?;
    pools(spec)
}

fn driver(spec: &NetworkSpec) -> Checked {
    match spec.driver {
        NetworkDriver::Overlay
        | NetworkDriver::Bridge
        | NetworkDriver::Macvlan
        | NetworkDriver::Ipvlan => Ok(()),
        NetworkDriver::Host | NetworkDriver::None => Err(Invalid::new(
            "DriverConfiguration.Name",
            format!(
                "there is one network {:?} on every node already: use that, or choose the driver \
                 overlay, bridge, macvlan or ipvlan",
                spec.driver.to_string()
            ),
        )),
    }
}

/// What kinds of networks go together.
fn kinds(spec: &NetworkSpec) -> Checked {
    let is_overlay = spec.driver == NetworkDriver::Overlay;
    let wrong = |field: &str, problem: &str| Err(Invalid::new(field, problem));
    if spec.ingress && !is_overlay {
        return wrong(
            "Ingress",
            "an ingress network must be an overlay: use -d overlay",
        );
    }
    if spec.ingress && spec.attachable {
        return wrong("Attachable", "the ingress network cannot be attachable");
    }
    if spec.ingress && spec.internal {
        return wrong("Internal", "the ingress network cannot be internal");
    }
    if spec.encrypted && !is_overlay {
        return wrong(
            "DriverConfiguration.Options[\"encrypted\"]",
            "only overlay networks leave their node: use -d overlay, or leave the option out",
        );
    }
    if spec.config_only && (spec.ingress || spec.attachable || spec.internal) {
        return wrong(
            "ConfigOnly",
            "a configuration for other networks is none itself: it cannot be ingress, attachable \
             or internal",
        );
    }
    if spec.config_only && spec.config_from.is_some() {
        return wrong(
            "ConfigFrom",
            "a configuration cannot take its configuration from another one",
        );
    }
    if spec.config_only && is_overlay {
        return wrong(
            "ConfigOnly",
            "configurations are for the drivers bridge, macvlan and ipvlan: name the one that \
             networks made from it will have, with -d",
        );
    }
    if spec.config_from.is_some() {
        if is_overlay {
            return wrong(
                "ConfigFrom",
                "an overlay is configured by the cluster: use -d bridge, macvlan or ipvlan, or \
                 leave --config-from out",
            );
        }
        if !spec.pools.is_empty() || !spec.options.is_empty() || spec.ipv6 {
            return wrong(
                "ConfigFrom",
                "subnets, options and --ipv6 come from the configuration: leave them out here",
            );
        }
    }
    Ok(())
}

/// Options nobody knows are refused: a mistyped `encrypted` would send packets in clear.
fn options(spec: &NetworkSpec) -> Checked {
    let known: &[&str] = match spec.driver {
        NetworkDriver::Overlay => &[VNIS_KEY],
        NetworkDriver::Macvlan => &["parent", "macvlan_mode"],
        NetworkDriver::Ipvlan => &["parent", "ipvlan_mode", "ipvlan_flag"],
        NetworkDriver::Bridge | NetworkDriver::Host | NetworkDriver::None => &[],
    };
    let modes: &[(&str, &[&str])] = &[
        ("macvlan_mode", &["bridge", "private", "vepa", "passthru"]),
        ("ipvlan_mode", &["l2", "l3", "l3s"]),
        ("ipvlan_flag", &["bridge", "private", "vepa"]),
    ];
    for (key, value) in &spec.options {
        let field = format!("DriverConfiguration.Options[{key:?}]");
        if MTU_KEYS.contains(&key.as_str()) {
            if !value.parse().is_ok_and(|mtu: u32| MTU.contains(&mtu)) {
                return Err(Invalid::new(
                    field,
                    format!("{value:?} is not a packet size: it must be 576 to 65535"),
                ));
            }
            continue;
        }
        if !known.contains(&key.as_str()) {
            return Err(Invalid::new(field, unknown_option(spec, known)));
        }
        if key == VNIS_KEY {
            vnis(&field, value, spec.pools.len())?;
        }
        if key == "parent" {
            interface(&field, value)?;
        }
        if let Some((_, allowed)) = modes.iter().find(|(mode, _)| mode == key)
            && !allowed.contains(&value.as_str())
        {
            return Err(Invalid::new(
                field,
                format!("{value:?} is not a mode: use {}", allowed.join(", ")),
            ));
        }
    }
    let needs_parent = matches!(spec.driver, NetworkDriver::Macvlan | NetworkDriver::Ipvlan)
        && spec.config_from.is_none();
    if needs_parent && !spec.options.contains_key("parent") {
        return Err(Invalid::new(
            "DriverConfiguration.Options[\"parent\"]",
            format!(
                "a {} network needs the interface of the nodes it is on: use --opt parent=NAME",
                spec.driver
            ),
        ));
    }
    Ok(())
}

fn unknown_option(spec: &NetworkSpec, known: &[&str]) -> String {
    let encrypted = match spec.driver {
        NetworkDriver::Overlay => Some("encrypted"),
        NetworkDriver::Bridge
        | NetworkDriver::Macvlan
        | NetworkDriver::Ipvlan
        | NetworkDriver::Host
        | NetworkDriver::None => None,
    };
    let all = encrypted.iter().chain(known).chain(&MTU_KEYS);
    let all: Vec<&str> = all.copied().collect();
    format!(
        "the driver {} does not know this option: it knows {}",
        spec.driver,
        all.join(", ")
    )
}

fn vnis(field: &str, value: &str, subnets: usize) -> Checked {
    let ids: Vec<Option<u32>> = value.split(',').map(|id| id.trim().parse().ok()).collect();
    let valid = |id: &Option<u32>| id.is_some_and(|id| (1..=VNI_MAX).contains(&id));
    if !ids.iter().all(valid) {
        return Err(Invalid::new(
            field,
            format!("{value:?} is not a list of VXLAN identifiers: numbers 1 to {VNI_MAX}"),
        ));
    }
    let mut distinct = ids.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < ids.len() {
        return Err(Invalid::new(field, format!("{value:?} names one twice")));
    }
    if ids.len() > subnets.max(1) {
        return Err(Invalid::new(
            field,
            format!("{} identifiers for {} subnets", ids.len(), subnets.max(1)),
        ));
    }
    Ok(())
}

/// A name the kernel takes for an interface.
pub(super) fn interface(field: &str, name: &str) -> Checked {
    let is_valid = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && name.chars().all(|c| c.is_ascii_graphic() && c != '/');
    if is_valid {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!("{name:?} cannot be an interface: 1 to 15 characters, no blanks, no '/'"),
    ))
}

fn pools(spec: &NetworkSpec) -> Checked {
    if spec.pools.len() > POOLS_MAX {
        return Err(Invalid::new(
            "IPAMOptions.Configs",
            format!("{} subnets, at most {POOLS_MAX}", spec.pools.len()),
        ));
    }
    for (index, pool) in spec.pools.iter().enumerate() {
        let field = format!("IPAMOptions.Configs[{index}]");
        subnet(&format!("{field}.Subnet"), pool.subnet)?;
        self::pool(&field, pool)?;
        let before = spec.pools[..index].iter().map(|other| other.subnet);
        for other in before {
            if other.contains(&pool.subnet.network()) || pool.subnet.contains(&other.network()) {
                return Err(Invalid::new(
                    format!("{field}.Subnet"),
                    format!("ipam configuration: {} overlaps with {other}", pool.subnet),
                ));
            }
        }
    }
    let of_v6 = |pool: &&AddressPool| matches!(pool.subnet, IpNet::V6(_));
    let v6 = spec.pools.iter().filter(of_v6).count();
    let v4 = spec.pools.len() - v6;
    if v6 > 0 && !spec.ipv6 {
        return Err(Invalid::new(
            "IPAMOptions.Configs",
            "ipam configuration: an IPv6 subnet needs --ipv6",
        ));
    }
    if v6 > v4.max(1) {
        return Err(Invalid::new(
            "IPAMOptions.Configs",
            format!(
                "ipam configuration: {v6} IPv6 subnets for {} IPv4 subnets: every task gets an \
                 address of each, so give at most as many",
                v4.max(1)
            ),
        ));
    }
    Ok(())
}

/// A subnet that can be given to machines.
pub(super) fn subnet(field: &str, subnet: IpNet) -> Checked {
    let wrong = |problem: String| {
        Err(Invalid::new(
            field,
            format!("ipam configuration: {problem}"),
        ))
    };
    if subnet != subnet.trunc() {
        return wrong(format!(
            "{subnet} is an address in a subnet: did you mean {}?",
            subnet.trunc()
        ));
    }
    let (min, max) = match subnet {
        IpNet::V4(_) => (PREFIX_MIN_V4, PREFIX_MAX_V4),
        IpNet::V6(_) => (PREFIX_MIN_V6, PREFIX_MAX_V6),
    };
    if !(min..=max).contains(&subnet.prefix_len()) {
        return wrong(format!(
            "the prefix of {subnet} cannot be used: it must be /{min} to /{max}"
        ));
    }
    let reserved: &[(&str, &str)] = match subnet {
        IpNet::V4(_) => &[
            ("0.0.0.0/8", "this network"),
            ("127.0.0.0/8", "loopback"),
            ("169.254.0.0/16", "link-local"),
            ("224.0.0.0/3", "multicast and reserved"),
        ],
        IpNet::V6(_) => &[
            ("::/16", "loopback and mapped addresses"),
            ("fe80::/10", "link-local"),
            ("ff00::/8", "multicast"),
        ],
    };
    for (range, purpose) in reserved {
        let range: IpNet = range
            .parse()
            .expect("ranges of the table are written right");
        if range.contains(&subnet.network()) || subnet.contains(&range.network()) {
            return wrong(format!(
                "{subnet} overlaps with {range}, which is for {purpose}: choose a private subnet, \
                 like 10.1.0.0/24 or fd00:1::/64"
            ));
        }
    }
    Ok(())
}

fn pool(field: &str, pool: &AddressPool) -> Checked {
    let wrong = |part: &str, problem: String| {
        Err(Invalid::new(
            format!("{field}.{part}"),
            format!("ipam configuration: {problem}"),
        ))
    };
    let subnet = pool.subnet;
    if let Some(range) = pool.range
        && (range != range.trunc() || !subnet.contains(&range))
    {
        return wrong(
            "IPRange",
            format!("{range} is not a part of {subnet}: it must lie inside"),
        );
    }
    let is_host = |address: &IpAddr| {
        subnet.contains(address)
            && *address != subnet.network()
            && (address.is_ipv6() || *address != subnet.broadcast())
    };
    if let Some(gateway) = pool.gateway
        && !is_host(&gateway)
    {
        return wrong(
            "Gateway",
            format!("{gateway} is not an address of {subnet}: it must be a host address inside"),
        );
    }
    let mut seen: Vec<IpAddr> = pool.gateway.into_iter().collect();
    for (name, address) in &pool.aux {
        if !is_host(address) {
            return wrong(
                "AuxiliaryAddresses",
                format!("{name}={address} is not an address of {subnet}"),
            );
        }
        if seen.contains(address) {
            return wrong(
                "AuxiliaryAddresses",
                format!("{name}={address} is used for something else already"),
            );
        }
        seen.push(*address);
    }
    Ok(())
}

/// Labels of users; those of the daemon itself are not theirs to set (S20.25).
#[must_use]
pub fn is_reserved_label(labels: &Labels) -> bool {
    labels.contains_key("com.docker.swarm.predefined")
}
