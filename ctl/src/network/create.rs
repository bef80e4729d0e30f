//! `swarmctl network create`

use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;
use proto::control::CreateNetworkRequest;
use types::NetworkSpec;
use types::network::NetworkDriver;

use crate::connect::Host;
use crate::error::Error;
use crate::output;
use crate::parse::key_value;
use crate::parse::network::{PoolFlags, aux, pools, subnet};

/// Make a network
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  swarmctl network create web
  swarmctl network create --opt encrypted --subnet 10.1.0.0/24 --gateway 10.1.0.254 db
  swarmctl network create --ipv6 --subnet 10.2.0.0/24 --subnet fd00:2::/64 dual
  swarmctl network create --ingress --subnet 10.255.0.0/16 ingress
  swarmctl network create -d macvlan --opt parent=eth0 --subnet 192.168.1.0/24 lan
  swarmctl network create -d macvlan --config-only --opt parent=eth0.10 vlan10
  swarmctl network create -d macvlan --config-from vlan10 guests")]
pub(crate) struct Create {
    /// Name
    name: String,
    /// overlay, bridge, macvlan or ipvlan
    #[arg(short, long, value_name = "DRIVER", value_parser = driver, default_value = "overlay")]
    driver: NetworkDriver,
    /// Subnet, once for each [default: a free one of the swarm's pools]
    #[arg(long, value_name = "CIDR", value_parser = subnet)]
    subnet: Vec<IpNet>,
    /// Address of a subnet's gateway [default: its first]
    #[arg(long, value_name = "IP")]
    gateway: Vec<IpAddr>,
    /// Part of a subnet that addresses are given out of
    #[arg(long, value_name = "CIDR", value_parser = subnet)]
    ip_range: Vec<IpNet>,
    /// Address that is never given out, by the name of who has it
    #[arg(long, value_name = "NAME=IP", value_parser = aux)]
    aux_address: Vec<(String, IpAddr)>,
    /// Let containers outside of services join
    #[arg(long)]
    attachable: bool,
    /// No way out of it
    #[arg(long)]
    internal: bool,
    /// Make it the network that carries published ports; there is one at most
    #[arg(long)]
    ingress: bool,
    /// Give IPv6 addresses as well
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    ipv6: bool,
    /// Give IPv4 addresses
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    ipv4: bool,
    /// Option of the driver, like encrypted, mtu=1400 or parent=eth0
    #[arg(short, long = "opt", value_name = "KEY[=VALUE]", value_parser = key_value)]
    opt: Vec<(String, String)>,
    /// Label of the network
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Vec<(String, String)>,
    /// Make no network, only what --config-from of others takes
    #[arg(long)]
    config_only: bool,
    /// Take subnets and options from this configuration
    #[arg(long, value_name = "NETWORK")]
    config_from: Option<String>,
    /// Scope; every network is known to the whole swarm
    #[arg(long, value_name = "SCOPE", value_parser = ["swarm"], default_value = "swarm")]
    scope: String,
    /// Who gives out addresses
    #[arg(long, value_name = "DRIVER", value_parser = ["default"], default_value = "default")]
    ipam_driver: String,
}

fn driver(text: &str) -> Result<NetworkDriver, String> {
    let name = text.to_ascii_lowercase();
    let known = NetworkDriver::ALL.into_iter();
    let mut found = known.filter(|driver| driver.to_string() == name);
    found.next().ok_or_else(|| {
        format!("driver {text:?} is not known: use overlay, bridge, macvlan or ipvlan")
    })
}

impl Create {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let spec = self.into_spec()?;
        let mut control = host.connect().await?.control();
        let request = CreateNetworkRequest {
            spec: Some((&spec).into()),
        };
        let made = control.create_network(request).await?.into_inner();
        made.warnings
            .iter()
            .for_each(|warning| output::note(format!("warning: {warning}")));
        output::line(made.network.unwrap_or_default().id)?;
        Ok(())
    }

    fn into_spec(self) -> Result<NetworkSpec, Error> {
        let mut options: types::Labels = self.opt.into_iter().collect();
        // An option in Docker, a property here: whoever misspells it is told.
        let encrypted = match options.remove("encrypted").as_deref() {
            None | Some("false") => false,
            Some("" | "true") => true,
            Some(other) => {
                return Err(Error::Usage(format!(
                    "invalid value {other:?} for option encrypted: it must be true or false"
                )));
            }
        };
        let pools = pools(PoolFlags {
            subnets: self.subnet,
            ranges: self.ip_range,
            gateways: self.gateway,
            aux: self.aux_address,
        });
        Ok(NetworkSpec {
            name: self.name,
            labels: self.label.into_iter().collect(),
            driver: self.driver,
            options,
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            encrypted,
            pools: pools.map_err(Error::Usage)?,
            config_from: self.config_from,
            config_only: self.config_only,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches as _, Subcommand as _};

    use super::super::Verb;
    use super::*;

    fn spec(words: &[&str]) -> Result<NetworkSpec, String> {
        let command = Verb::augment_subcommands(clap::Command::new("network"));
        let words = ["network", "create"].iter().chain(words);
        let matches = command
            .try_get_matches_from(words)
            .map_err(|e| e.to_string())?;
        match Verb::from_arg_matches(&matches).map_err(|e| e.to_string())? {
            Verb::Create(create) => create.into_spec().map_err(|e| e.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_become_a_spec() {
        let plain = spec(&["web"]).unwrap();
        let expected = NetworkSpec {
            name: "web".into(),
            ..NetworkSpec::default()
        };
        assert_eq!(plain, expected, "an overlay, as in a swarm");
        let full = spec(&[
            "-d",
            "overlay",
            "--subnet",
            "10.1.0.0/24",
            "--subnet=fd00::/64",
            "--gateway",
            "10.1.0.9",
            "--ip-range",
            "10.1.0.128/25",
            "--aux-address",
            "r=10.1.0.2",
            "--attachable",
            "--internal",
            "--ipv6",
            "-o",
            "encrypted",
            "-o",
            "mtu=1400",
            "--label",
            "a=b",
            "db",
        ])
        .unwrap();
        assert!(full.encrypted && full.attachable && full.internal && full.ipv6 && full.ipv4);
        assert_eq!(full.pools.len(), 2);
        assert_eq!(full.options, [("mtu".into(), "1400".into())].into());
        assert!(
            !spec(&["--ipv4=false", "x"]).unwrap().ipv4,
            "refused by the swarm"
        );
        assert!(!spec(&["-o", "encrypted=false", "x"]).unwrap().encrypted);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (words, expected) in [
            (
                &["-d", "weave", "x"][..],
                "use overlay, bridge, macvlan or ipvlan",
            ),
            (&["--subnet", "10.0.0.0", "x"], "it must be a subnet like"),
            (
                &["--gateway", "10.0.0.1", "x"],
                "no matching subnet for gateway",
            ),
            (&["-o", "encrypted=yes", "x"], "it must be true or false"),
            (&["--scope", "local", "x"], "swarm"),
            (&[], "<NAME>"),
        ] {
            let error = spec(words).unwrap_err();
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }
}
