//! Calls about networks.

use proto::control as wire;
use types::NetworkSpec;

use super::convert;
use crate::{
    Connection, ControlApi, Error, Invalid, NetworkDetails, NetworkPeer, NetworkService,
    NetworkTask, NetworkView, SubnetUse,
};

pub(super) async fn create(
    api: &ControlApi,
    request: wire::CreateNetworkRequest,
) -> Result<wire::CreateNetworkResponse, Error> {
    let missing = || Error::Invalid(Invalid::new("spec", "is missing"));
    let spec = request.spec.ok_or_else(missing)?;
    let spec = NetworkSpec::try_from(spec).map_err(convert::malformed)?;
    let created = api.create_network(spec).await?;
    Ok(wire::CreateNetworkResponse {
        network: Some((&*created.network).into()),
        warnings: created.warnings,
    })
}

pub(super) fn list(api: &ControlApi) -> wire::ListNetworksResponse {
    wire::ListNetworksResponse {
        networks: api.list_networks().iter().map(Into::into).collect(),
    }
}

pub(super) fn get(
    api: &ControlApi,
    request: &wire::GetNetworkRequest,
) -> Result<wire::GetNetworkResponse, Error> {
    let NetworkDetails {
        view,
        services,
        peers,
    } = api.get_network(&request.key)?;
    Ok(wire::GetNetworkResponse {
        network: Some((&view).into()),
        services: services.iter().map(Into::into).collect(),
        peers: peers.iter().map(Into::into).collect(),
    })
}

pub(super) async fn remove(
    api: &ControlApi,
    request: &wire::RemoveNetworkRequest,
) -> Result<wire::RemoveNetworkResponse, Error> {
    let network = api.remove_network(&request.key).await?;
    Ok(wire::RemoveNetworkResponse {
        id: network.id.to_string(),
        name: network.spec.name.clone(),
    })
}

pub(super) async fn connect(
    api: &ControlApi,
    request: wire::ConnectNetworkRequest,
) -> Result<wire::ConnectNetworkResponse, Error> {
    let address = |text: &String| -> Result<_, Error> {
        let parsed = text.parse();
        parsed
            .map_err(|_| Invalid::new("IPAddress", format!("{text:?} is not an IP address")).into())
    };
    let asked = Connection {
        addresses: request
            .addresses
            .iter()
            .map(address)
            .collect::<Result<_, Error>>()?,
        network: request.network,
        task: request.task,
        aliases: request.aliases,
    };
    let place = api.connect_network(&asked).await?;
    Ok(wire::ConnectNetworkResponse {
        place: Some((&place).into()),
    })
}

impl From<&NetworkView> for wire::NetworkView {
    fn from(view: &NetworkView) -> Self {
        Self {
            network: Some((&*view.network).into()),
            subnets: view.subnets.iter().map(Into::into).collect(),
            in_use: view.in_use,
            problem: view.problem.clone(),
            predefined: view.predefined,
        }
    }
}

impl From<&SubnetUse> for wire::SubnetUse {
    fn from(used: &SubnetUse) -> Self {
        let count = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        Self {
            addresses: count(used.addresses),
            free: count(used.free),
        }
    }
}

impl From<&NetworkService> for wire::NetworkService {
    fn from(service: &NetworkService) -> Self {
        Self {
            id: service.id.to_string(),
            name: service.name.clone(),
            virtual_ips: texts(&service.virtual_ips),
            ports: service.ports.iter().map(Into::into).collect(),
            tasks: service.tasks.iter().map(Into::into).collect(),
        }
    }
}

impl From<&NetworkTask> for wire::NetworkTask {
    fn from(task: &NetworkTask) -> Self {
        Self {
            id: task.id.to_string(),
            name: task.name.clone(),
            addresses: texts(&task.addresses),
            node_id: task.node.map(|id| id.to_string()).unwrap_or_default(),
            node_name: task.node_name.clone(),
            state: task.state.number().into(),
        }
    }
}

impl From<&NetworkPeer> for wire::NetworkPeer {
    fn from(peer: &NetworkPeer) -> Self {
        Self {
            node_id: peer.node.to_string(),
            name: peer.name.clone(),
            data_path: texts(&peer.data_path),
        }
    }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
