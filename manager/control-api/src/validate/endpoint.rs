//! Published ports, the way a service is reached, and the networks it asks for.

use std::collections::BTreeSet;

use types::ServiceSpec;
use types::network::{
    Affinity, EndpointMode, EndpointSpec, NetworkAttachmentSpec, PublishMode, PublishedPort,
};

use super::{Checked, Invalid, name, network};

/// Ports one service may publish at most; each is a rule on every node.
const PORTS_MAX: usize = 1024;
/// Networks one service may be on at most; each is an interface of every task.
const NETWORKS_MAX: usize = 64;
/// Names one service may have on a network beside its own.
const ALIASES_MAX: usize = 64;

/// Ports and networks of a service, as far as they can be judged without the cluster.
///
/// # Errors
/// The first field that is wrong.
pub fn endpoint(spec: &ServiceSpec) -> Checked {
    networks(&spec.task.networks)?;
    ports(&spec.endpoint)?;
    let publishes = |port: &PublishedPort| port.mode == PublishMode::Ingress;
    let own = |network: &NetworkAttachmentSpec| matches!(network.target.as_str(), "host" | "none");
    if let Some(network) = spec.task.networks.iter().find(|network| own(network))
        && spec.endpoint.ports.iter().any(publishes)
    {
        return Err(Invalid::new(
            "EndpointSpec.Ports",
            format!(
                "a service on network {:?} cannot publish ports through the routing mesh: use \
                 another network, or mode=host with network host",
                network.target
            ),
        ));
    }
    Ok(())
}

fn ports(spec: &EndpointSpec) -> Checked {
    if spec.ports.len() > PORTS_MAX {
        return Err(Invalid::new(
            "EndpointSpec.Ports",
            format!("{} ports, at most {PORTS_MAX}", spec.ports.len()),
        ));
    }
    if spec.mode == EndpointMode::Dnsrr && spec.affinity != Affinity::None {
        return Err(Invalid::new(
            "EndpointSpec.Affinity",
            "affinity can't be used with dnsrr mode, where clients choose the task: use \
             --endpoint-mode vip",
        ));
    }
    let mut published = BTreeSet::new();
    for (index, port) in spec.ports.iter().enumerate() {
        let field = format!("EndpointSpec.Ports[{index}]");
        self::port(&field, port)?;
        if spec.mode == EndpointMode::Dnsrr && port.mode == PublishMode::Ingress {
            return Err(Invalid::new(
                field,
                format!(
                    "port {} published with ingress mode can't be used with dnsrr mode: use \
                     mode=host, or --endpoint-mode vip",
                    port.target_port
                ),
            ));
        }
        if port.published_port != 0 && !published.insert((port.protocol, port.published_port)) {
            return Err(Invalid::new(
                field,
                format!(
                    "duplicate published ports: {}/{} is published twice",
                    port.published_port, port.protocol
                ),
            ));
        }
    }
    Ok(())
}

fn port(field: &str, port: &PublishedPort) -> Checked {
    if port.target_port == 0 {
        return Err(Invalid::new(
            format!("{field}.TargetPort"),
            "the port in the container must be given: 1 to 65535",
        ));
    }
    if let Some(ip) = port.host_ip
        && (ip.is_unspecified() || ip.is_multicast())
    {
        return Err(Invalid::new(
            format!("{field}.HostIP"),
            format!("{ip} is not an address of a node: leave it out to publish on all addresses"),
        ));
    }
    if !port.interface.is_empty() {
        network::interface(&format!("{field}.Interface"), &port.interface)?;
    }
    if port.prefer_local && port.mode == PublishMode::Host {
        return Err(Invalid::new(
            format!("{field}.PreferLocal"),
            "a port published in host mode has local tasks only: leave prefer-local out",
        ));
    }
    if port.name.chars().any(char::is_control) {
        return Err(Invalid::new(
            format!("{field}.Name"),
            "control characters are not allowed",
        ));
    }
    Ok(())
}

fn networks(networks: &[NetworkAttachmentSpec]) -> Checked {
    if networks.len() > NETWORKS_MAX {
        return Err(Invalid::new(
            "Networks",
            format!("{} networks, at most {NETWORKS_MAX}", networks.len()),
        ));
    }
    for (index, network) in networks.iter().enumerate() {
        let field = format!("Networks[{index}]");
        if network.target.is_empty() {
            return Err(Invalid::new(
                format!("{field}.Target"),
                "the network must be named",
            ));
        }
        let alone = matches!(network.target.as_str(), "none" | "host");
        if alone && networks.len() > 1 {
            return Err(Invalid::new(
                "Networks",
                "a service on network \"none\" or \"host\" cannot be on another network as well",
            ));
        }
        if alone && !network.aliases.is_empty() {
            return Err(Invalid::new(
                format!("{field}.Aliases"),
                format!("network {:?} has no names: leave alias out", network.target),
            ));
        }
        if networks[..index].iter().any(|n| n.target == network.target) {
            return Err(Invalid::new(
                format!("{field}.Target"),
                format!("network {} is listed twice", network.target),
            ));
        }
        if network.aliases.len() > ALIASES_MAX {
            return Err(Invalid::new(
                format!("{field}.Aliases"),
                format!("{} aliases, at most {ALIASES_MAX}", network.aliases.len()),
            ));
        }
        for alias in &network.aliases {
            name(&format!("{field}.Aliases"), alias)?;
        }
    }
    Ok(())
}
