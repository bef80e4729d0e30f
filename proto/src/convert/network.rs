//! Messages of networks, attachments, published ports and endpoints.

use types::network::{
    AddressPool, Affinity, Endpoint, EndpointMode, EndpointSpec, NetworkAttachment,
    NetworkAttachmentSpec, NetworkDriver, Protocol, PublishMode, PublishedPort, Subnet, VirtualIp,
};
use types::{Network, NetworkSpec};

use super::{ConvertError, enums, known, parse, required};
use crate::objects;

enums!(
    NetworkDriver,
    objects::NetworkDriver,
    Overlay = Overlay,
    Bridge = Bridge,
    Macvlan = Macvlan,
    Ipvlan = Ipvlan,
    Host = Host,
    None = None,
);
enums!(
    EndpointMode,
    objects::EndpointMode,
    Vip = Vip,
    Dnsrr = Dnsrr
);
enums!(
    Affinity,
    objects::Affinity,
    None = None,
    SourceIp = SourceIp
);
enums!(
    Protocol,
    objects::Protocol,
    Tcp = Tcp,
    Udp = Udp,
    Sctp = Sctp
);
enums!(
    PublishMode,
    objects::PublishMode,
    Ingress = Ingress,
    Host = Host
);

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn optional<T: std::str::FromStr>(
    field: &'static str,
    text: &str,
) -> Result<Option<T>, ConvertError>
where
    T::Err: std::fmt::Display,
{
    match text {
        "" => Ok(None),
        text => parse(field, text).map(Some),
    }
}

pub(super) fn all<T, U>(messages: Vec<T>) -> Result<Vec<U>, ConvertError>
where
    U: TryFrom<T, Error = ConvertError>,
{
    messages.into_iter().map(TryInto::try_into).collect()
}

fn port(field: &'static str, number: u32) -> Result<u16, ConvertError> {
    u16::try_from(number)
        .map_err(|_| ConvertError::new(field, format!("{number} is not a port, 0 to 65535 is")))
}

impl From<&Network> for objects::Network {
    fn from(network: &Network) -> Self {
        Self {
            id: network.id.to_string(),
            meta: Some((&network.meta).into()),
            spec: Some((&network.spec).into()),
            subnets: network.subnets.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<objects::Network> for Network {
    type Error = ConvertError;
    fn try_from(message: objects::Network) -> Result<Self, ConvertError> {
        Ok(Self {
            id: parse("id", &message.id)?,
            meta: message.meta.unwrap_or_default().into(),
            spec: required("spec", message.spec)?.try_into()?,
            subnets: all(message.subnets)?,
        })
    }
}

impl From<&NetworkSpec> for objects::NetworkSpec {
    fn from(spec: &NetworkSpec) -> Self {
        Self {
            name: spec.name.clone(),
            labels: spec.labels.clone().into_iter().collect(),
            driver: objects::NetworkDriver::from(spec.driver).into(),
            options: spec.options.clone().into_iter().collect(),
            ipv4: spec.ipv4,
            ipv6: spec.ipv6,
            internal: spec.internal,
            attachable: spec.attachable,
            ingress: spec.ingress,
            encrypted: spec.encrypted,
            pools: spec.pools.iter().map(Into::into).collect(),
            config_from: spec.config_from.clone(),
            config_only: spec.config_only,
        }
    }
}

impl TryFrom<objects::NetworkSpec> for NetworkSpec {
    type Error = ConvertError;
    fn try_from(message: objects::NetworkSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            name: message.name,
            labels: message.labels.into_iter().collect(),
            driver: known::<objects::NetworkDriver>("driver", message.driver)?.into(),
            options: message.options.into_iter().collect(),
            ipv4: message.ipv4,
            ipv6: message.ipv6,
            internal: message.internal,
            attachable: message.attachable,
            ingress: message.ingress,
            encrypted: message.encrypted,
            pools: all(message.pools)?,
            config_from: message.config_from,
            config_only: message.config_only,
        })
    }
}

impl From<&AddressPool> for objects::AddressPool {
    fn from(pool: &AddressPool) -> Self {
        let aux = pool.aux.iter();
        Self {
            subnet: pool.subnet.to_string(),
            range: text(pool.range),
            gateway: text(pool.gateway),
            aux: aux.map(|(k, v)| (k.clone(), v.to_string())).collect(),
        }
    }
}

impl TryFrom<objects::AddressPool> for AddressPool {
    type Error = ConvertError;
    fn try_from(message: objects::AddressPool) -> Result<Self, ConvertError> {
        let aux = message.aux.into_iter();
        Ok(Self {
            subnet: parse("pools.subnet", &message.subnet)?,
            range: optional("pools.range", &message.range)?,
            gateway: optional("pools.gateway", &message.gateway)?,
            aux: aux
                .map(|(name, address)| Ok((name, parse("pools.aux", &address)?)))
                .collect::<Result<_, ConvertError>>()?,
        })
    }
}

impl From<&Subnet> for objects::Subnet {
    fn from(subnet: &Subnet) -> Self {
        Self {
            subnet: subnet.subnet.to_string(),
            gateway: subnet.gateway.to_string(),
            vni: subnet.vni,
        }
    }
}

impl TryFrom<objects::Subnet> for Subnet {
    type Error = ConvertError;
    fn try_from(message: objects::Subnet) -> Result<Self, ConvertError> {
        Ok(Self {
            subnet: parse("subnets.subnet", &message.subnet)?,
            gateway: parse("subnets.gateway", &message.gateway)?,
            vni: message.vni,
        })
    }
}

impl From<&NetworkAttachmentSpec> for objects::NetworkAttachmentSpec {
    fn from(spec: &NetworkAttachmentSpec) -> Self {
        Self {
            target: spec.target.clone(),
            aliases: spec.aliases.clone(),
            driver_options: spec.driver_options.clone().into_iter().collect(),
        }
    }
}

impl From<objects::NetworkAttachmentSpec> for NetworkAttachmentSpec {
    fn from(message: objects::NetworkAttachmentSpec) -> Self {
        Self {
            target: message.target,
            aliases: message.aliases,
            driver_options: message.driver_options.into_iter().collect(),
        }
    }
}

impl From<&NetworkAttachment> for objects::NetworkAttachment {
    fn from(attachment: &NetworkAttachment) -> Self {
        Self {
            network_id: attachment.network.to_string(),
            addresses: attachment
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
            aliases: attachment.aliases.clone(),
        }
    }
}

impl TryFrom<objects::NetworkAttachment> for NetworkAttachment {
    type Error = ConvertError;
    fn try_from(message: objects::NetworkAttachment) -> Result<Self, ConvertError> {
        let addresses = message.addresses.iter();
        Ok(Self {
            network: parse("attachments.network_id", &message.network_id)?,
            addresses: addresses
                .map(|address| parse("attachments.addresses", address))
                .collect::<Result<_, _>>()?,
            aliases: message.aliases,
        })
    }
}

impl From<&EndpointSpec> for objects::EndpointSpec {
    fn from(spec: &EndpointSpec) -> Self {
        Self {
            mode: objects::EndpointMode::from(spec.mode).into(),
            affinity: objects::Affinity::from(spec.affinity).into(),
            ports: spec.ports.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<objects::EndpointSpec> for EndpointSpec {
    type Error = ConvertError;
    fn try_from(message: objects::EndpointSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            mode: known::<objects::EndpointMode>("endpoint.mode", message.mode)?.into(),
            affinity: known::<objects::Affinity>("endpoint.affinity", message.affinity)?.into(),
            ports: all(message.ports)?,
        })
    }
}

impl From<&PublishedPort> for objects::PublishedPort {
    fn from(published: &PublishedPort) -> Self {
        Self {
            name: published.name.clone(),
            protocol: objects::Protocol::from(published.protocol).into(),
            target_port: published.target_port.into(),
            published_port: published.published_port.into(),
            mode: objects::PublishMode::from(published.mode).into(),
            host_ip: text(published.host_ip),
            interface: published.interface.clone(),
            prefer_local: published.prefer_local,
        }
    }
}

impl TryFrom<objects::PublishedPort> for PublishedPort {
    type Error = ConvertError;
    fn try_from(message: objects::PublishedPort) -> Result<Self, ConvertError> {
        Ok(Self {
            name: message.name,
            protocol: known::<objects::Protocol>("ports.protocol", message.protocol)?.into(),
            target_port: port("ports.target_port", message.target_port)?,
            published_port: port("ports.published_port", message.published_port)?,
            mode: known::<objects::PublishMode>("ports.mode", message.mode)?.into(),
            host_ip: optional("ports.host_ip", &message.host_ip)?,
            interface: message.interface,
            prefer_local: message.prefer_local,
        })
    }
}

impl From<&Endpoint> for objects::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            spec: Some((&endpoint.spec).into()),
            ports: endpoint.ports.iter().map(Into::into).collect(),
            virtual_ips: endpoint.virtual_ips.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<objects::Endpoint> for Endpoint {
    type Error = ConvertError;
    fn try_from(message: objects::Endpoint) -> Result<Self, ConvertError> {
        Ok(Self {
            spec: message.spec.unwrap_or_default().try_into()?,
            ports: all(message.ports)?,
            virtual_ips: all(message.virtual_ips)?,
        })
    }
}

impl From<&VirtualIp> for objects::VirtualIp {
    fn from(vip: &VirtualIp) -> Self {
        Self {
            network_id: vip.network.to_string(),
            address: vip.address.to_string(),
        }
    }
}

impl TryFrom<objects::VirtualIp> for VirtualIp {
    type Error = ConvertError;
    fn try_from(message: objects::VirtualIp) -> Result<Self, ConvertError> {
        Ok(Self {
            network: parse("virtual_ips.network_id", &message.network_id)?,
            address: parse("virtual_ips.address", &message.address)?,
        })
    }
}
