//! `--network`: a name, or comma-separated keys (X03); and address pools of `network create`.

use std::net::IpAddr;

use ipnet::IpNet;
use types::network::{AddressPool, NetworkAttachmentSpec};

use super::csv;

/// One network a service is to be on.
pub(crate) fn attachment(text: &str) -> Result<NetworkAttachmentSpec, String> {
    let mut attachment = NetworkAttachmentSpec::default();
    if !text.contains('=') {
        text.clone_into(&mut attachment.target);
    } else {
        for field in csv::fields(text)? {
            match field.split_once('=').unwrap_or((&field, "")) {
                ("name", name) => name.clone_into(&mut attachment.target),
                ("alias", alias) => attachment.aliases.push(alias.to_owned()),
                ("driver-opt", option) => {
                    let (key, value) = option.split_once('=').ok_or_else(|| {
                        format!("driver-opt {option:?} must be driver-opt=KEY=VALUE")
                    })?;
                    let options = &mut attachment.driver_options;
                    options.insert(key.to_owned(), value.to_owned());
                }
                (key, _) => {
                    return Err(format!(
                        "unexpected key {key:?}: there are name, alias and driver-opt"
                    ));
                }
            }
        }
    }
    if attachment.target.is_empty() {
        return Err("the network is missing: give its name, or name=NAME".to_owned());
    }
    Ok(attachment)
}

/// What belongs to the subnets of one network, as its flags gave it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolFlags {
    pub(crate) subnets: Vec<IpNet>,
    pub(crate) ranges: Vec<IpNet>,
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) aux: Vec<(String, IpAddr)>,
}

/// Gives each range, gateway and auxiliary address to the subnet it lies in.
pub(crate) fn pools(flags: PoolFlags) -> Result<Vec<AddressPool>, String> {
    let mut pools: Vec<AddressPool> = flags
        .subnets
        .into_iter()
        .map(|subnet| AddressPool {
            subnet,
            range: None,
            gateway: None,
            aux: [].into(),
        })
        .collect();
    let of = |pools: &[AddressPool], what: &str, address: IpAddr| {
        let found = pools.iter().position(|pool| pool.subnet.contains(&address));
        found.ok_or_else(|| {
            format!("no matching subnet for {what} {address}: add a --subnet that holds it")
        })
    };
    for range in flags.ranges {
        let index = of(&pools, "range", range.network())?;
        if pools[index].range.replace(range).is_some() {
            return Err(format!(
                "more than one --ip-range for subnet {}",
                pools[index].subnet
            ));
        }
    }
    for gateway in flags.gateways {
        let index = of(&pools, "gateway", gateway)?;
        if pools[index].gateway.replace(gateway).is_some() {
            return Err(format!(
                "more than one --gateway for subnet {}",
                pools[index].subnet
            ));
        }
    }
    for (name, address) in flags.aux {
        let index = of(&pools, "aux-address", address)?;
        pools[index].aux.insert(name, address);
    }
    Ok(pools)
}

/// `NAME=ADDRESS`.
pub(crate) fn aux(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text.split_once('=').ok_or("it must be NAME=ADDRESS")?;
    let parsed = address.parse();
    let parsed = parsed.map_err(|_| format!("{address:?} is no IP address"))?;
    Ok((name.to_owned(), parsed))
}

/// A subnet in CIDR form.
pub(crate) fn subnet(text: &str) -> Result<IpNet, String> {
    text.parse()
        .map_err(|_| "it must be a subnet like 10.1.0.0/24 or fd00:1::/64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_by_name_or_keys() {
        assert_eq!(attachment("web").unwrap().target, "web");
        let long = attachment("name=web,alias=a,alias=b,\"driver-opt=x=y,z\"").unwrap();
        assert_eq!((long.target.as_str(), long.aliases.len()), ("web", 2));
        assert_eq!(long.driver_options["x"], "y,z");
        for (text, expected) in [
            ("", "the network is missing: give its name, or name=NAME"),
            (
                "alias=a",
                "the network is missing: give its name, or name=NAME",
            ),
            (
                "name=a,ip=1",
                "unexpected key \"ip\": there are name, alias and driver-opt",
            ),
            (
                "name=a,driver-opt=x",
                "driver-opt \"x\" must be driver-opt=KEY=VALUE",
            ),
        ] {
            assert_eq!(attachment(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn every_address_finds_its_subnet() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let flags = PoolFlags {
            subnets: vec![net("10.1.0.0/24"), net("fd00::/64")],
            ranges: vec![net("10.1.0.128/25")],
            gateways: vec![ip("fd00::9"), ip("10.1.0.9")],
            aux: vec![("router".into(), ip("10.1.0.200"))],
        };
        let pools = pools(flags.clone()).unwrap();
        assert_eq!(pools[0].gateway, Some(ip("10.1.0.9")));
        assert_eq!(pools[1].gateway, Some(ip("fd00::9")));
        assert_eq!(pools[0].range, Some(net("10.1.0.128/25")));
        assert_eq!(pools[0].aux["router"], ip("10.1.0.200"));
        let twice = PoolFlags {
            gateways: vec![ip("10.1.0.1"), ip("10.1.0.2")],
            ..flags.clone()
        };
        assert!(
            super::pools(twice)
                .unwrap_err()
                .contains("more than one --gateway")
        );
        let lost = PoolFlags {
            gateways: vec![ip("10.9.0.1")],
            ..flags
        };
        assert_eq!(
            super::pools(lost).unwrap_err(),
            "no matching subnet for gateway 10.9.0.1: add a --subnet that holds it"
        );
        assert!(aux("x").is_err() && aux("x=y").is_err());
        assert!(subnet("10.0.0.0").is_err());
    }
}
