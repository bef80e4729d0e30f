//! `swarmctl network inspect`

use clap::Args;
use proto::control::{GetNetworkRequest, GetNetworkResponse, NetworkService};
use serde_json::{Map, Value, json};
use types::network::PublishedPort;
use types::{Network, TaskState};

use super::scope;
use crate::connect::Host;
use crate::error::Error;
use crate::format::{Format, json, print_objects};
use crate::parse::port::shown;

/// Show everything about networks
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl network inspect web
  swarmctl network inspect --verbose web
  swarmctl network inspect --format '{{json .IPAM.Config}}' web")]
pub(crate) struct Inspect {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// json, or a template like {{.Driver}}
    #[arg(short, long)]
    format: Option<Format>,
    /// Show services and tasks on it, too
    #[arg(short, long)]
    verbose: bool,
}

impl Inspect {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let mut control = host.connect().await?.control();
        let mut objects = vec![];
        let mut errors = vec![];
        for key in self.networks {
            match control.get_network(GetNetworkRequest { key }).await {
                Ok(answer) => objects.push(object(answer.into_inner(), self.verbose)?),
                Err(status) => errors.push(status.into()),
            }
        }
        print_objects(&objects, self.format.as_ref())?;
        Error::join(errors)
    }
}

/// The network in the shape of Docker's API, with how full its subnets are.
fn object(answer: GetNetworkResponse, verbose: bool) -> Result<Value, Error> {
    let view = answer.network.unwrap_or_default();
    let network = Network::try_from(view.network.unwrap_or_default())?;
    let spec = &network.spec;
    let subnets = network.subnets.iter().zip(&view.subnets);
    let config: Vec<Value> = if network.subnets.is_empty() {
        let pools = spec.pools.iter();
        pools.map(|pool| json!({ "Subnet": pool.subnet })).collect()
    } else {
        let config = subnets.map(|(subnet, used)| {
            let pool = spec.pools.iter().find(|pool| pool.subnet == subnet.subnet);
            let mut config = json!({
                "Subnet": subnet.subnet,
                "Gateway": subnet.gateway,
                "VNI": subnet.vni,
                "Addresses": used.addresses,
                "Free": used.free,
            });
            if let Some(range) = pool.and_then(|pool| pool.range) {
                config["IPRange"] = json(range);
            }
            if let Some(pool) = pool.filter(|pool| !pool.aux.is_empty()) {
                config["AuxiliaryAddresses"] = json(&pool.aux);
            }
            config
        });
        config.collect()
    };
    let mut options = spec.options.clone();
    if spec.encrypted {
        options.insert("encrypted".to_owned(), String::new());
    }
    let mut object = json!({
        "Name": spec.name,
        "Id": network.id,
        "Created": network.meta.created_at.to_string(),
        "Scope": scope(view.predefined),
        "Driver": spec.driver,
        "EnableIPv4": spec.ipv4,
        "EnableIPv6": spec.ipv6,
        "IPAM": { "Driver": "default", "Options": null, "Config": config },
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": spec.ingress,
        "ConfigFrom": { "Network": spec.config_from.clone().unwrap_or_default() },
        "ConfigOnly": spec.config_only,
        "Options": options,
        "Labels": spec.labels,
        "Peers": answer.peers.iter().map(|peer| json!({
            "Name": peer.name,
            "ID": peer.node_id,
            "IP": peer.data_path.join(", "),
        })).collect::<Vec<_>>(),
    });
    if !view.problem.is_empty() {
        object["Problem"] = view.problem.into();
    }
    if verbose {
        let services = answer.services.into_iter();
        let services = services.map(|it| Ok((it.name.clone(), service(it)?)));
        object["Services"] = Value::Object(services.collect::<Result<Map<_, _>, Error>>()?);
    }
    Ok(object)
}

fn service(service: NetworkService) -> Result<Value, Error> {
    let ports: Vec<String> = service
        .ports
        .into_iter()
        .map(|port| Ok(shown(&PublishedPort::try_from(port)?)))
        .collect::<Result<_, Error>>()?;
    let tasks = service.tasks.into_iter().map(|task| {
        let state = u16::try_from(task.state).ok();
        let state = state.and_then(TaskState::from_number);
        json!({
            "Name": task.name,
            "ID": task.id,
            "EndpointIP": task.addresses.join(", "),
            "Node": task.node_name,
            "State": state.map(|state| state.to_string()).unwrap_or_default(),
        })
    });
    Ok(json!({
        "ID": service.id,
        "VIP": service.virtual_ips.join(", "),
        "Ports": ports,
        "Tasks": tasks.collect::<Vec<_>>(),
    }))
}
