//! `swarmctl network ls`

use clap::Args;
use proto::control::{ListNetworksRequest, NetworkView};
use serde_json::Value;
use types::Network;

use super::scope;
use crate::connect::Host;
use crate::error::Error;
use crate::filter::{Filter, Filters};
use crate::format::{Column, Format, Row, hidden, json, print_list, row, shown};
use crate::natural;
use crate::task_list::truncate;

const COLUMNS: [Column; 9] = [
    shown("ID", "NETWORK ID"),
    shown("Name", "NAME"),
    shown("Driver", "DRIVER"),
    shown("Scope", "SCOPE"),
    hidden("IPv4", "IPV4"),
    hidden("IPv6", "IPV6"),
    hidden("Internal", "INTERNAL"),
    hidden("Labels", "LABELS"),
    hidden("CreatedAt", "CREATED AT"),
];

/// Characters of an id that a table shows.
const ID_LEN: usize = 12;

/// List the networks
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl network ls
  swarmctl network ls --filter driver=overlay --filter dangling=true
  swarmctl network ls --format '{{.Name}} {{.Driver}}'")]
pub(crate) struct Ls {
    /// Only networks that match: id, name, driver, label, scope, type (builtin, custom), dangling
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// table, json, or a template like {{.Name}} {{.Driver}}
    #[arg(long)]
    format: Option<Format>,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        const KNOWN: [&str; 7] = ["id", "name", "driver", "label", "scope", "type", "dangling"];
        let filters = Filters::new(&self.filters, &KNOWN)?;
        let mut control = host.connect().await?.control();
        let list = control.list_networks(ListNetworksRequest {}).await?;
        let rows = rows(list.into_inner().networks, &filters, self.no_trunc)?;
        print_list(&COLUMNS, rows, self.format.as_ref(), self.quiet)
    }
}

fn rows(views: Vec<NetworkView>, filters: &Filters<'_>, whole: bool) -> Result<Vec<Row>, Error> {
    let mut networks = vec![];
    for view in views {
        let network = Network::try_from(view.network.clone().unwrap_or_default())?;
        if matches(&network, &view, filters) {
            networks.push((network, view.predefined));
        }
    }
    networks.sort_by(|a, b| natural::order(&a.0.spec.name, &b.0.spec.name));
    let rows = networks.into_iter().map(|(network, predefined)| {
        let spec = &network.spec;
        let id = network.id.to_string();
        let created = network.meta.created_at;
        row(
            &COLUMNS,
            [
                if whole { id } else { truncate(&id, ID_LEN) }.into(),
                spec.name.as_str().into(),
                spec.driver.to_string().into(),
                scope(predefined).into(),
                Value::from(spec.ipv4),
                Value::from(spec.ipv6),
                Value::from(spec.internal),
                json(&spec.labels),
                if created.is_set() {
                    created.to_string()
                } else {
                    String::new()
                }
                .into(),
            ],
        )
    });
    Ok(rows.collect())
}

fn matches(network: &Network, view: &NetworkView, filters: &Filters<'_>) -> bool {
    let spec = &network.spec;
    let builtin = if view.predefined || spec.ingress {
        "builtin"
    } else {
        "custom"
    };
    let dangling = (!view.in_use && !view.predefined).to_string();
    filters.any("id", |wanted| network.id.as_str().starts_with(wanted))
        && filters.any("name", |wanted| spec.name.contains(wanted))
        && filters.any("driver", |wanted| spec.driver.to_string() == wanted)
        && filters.any("scope", |wanted| scope(view.predefined) == wanted)
        && filters.any("type", |wanted| builtin == wanted)
        && filters.any("dangling", |wanted| dangling == wanted)
        && filters.labels("label", &spec.labels)
}

#[cfg(test)]
mod tests {
    use types::network::NetworkDriver;
    use types::{Meta, NetworkId, NetworkSpec};

    use super::*;
    use crate::format::list;

    fn view(number: u128, name: &str, driver: NetworkDriver, in_use: bool) -> NetworkView {
        let network = Network {
            id: NetworkId::from_number(number),
            meta: Meta::default(),
            spec: NetworkSpec {
                name: name.into(),
                driver,
                ..NetworkSpec::default()
            },
            subnets: vec![],
        };
        NetworkView {
            network: Some((&network).into()),
            in_use,
            predefined: driver == NetworkDriver::Host,
            ..NetworkView::default()
        }
    }

    fn show(filters: &[&str], format: &str) -> String {
        let views = vec![
            view(2, "web", NetworkDriver::Overlay, true),
            view(1, "host", NetworkDriver::Host, true),
            view(3, "db", NetworkDriver::Overlay, false),
        ];
        let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
        let known = ["driver", "dangling", "scope", "type"];
        let filters = Filters::new(&filters, &known).unwrap();
        let format: Format = format.parse().unwrap();
        let rows = rows(views, &filters, false).unwrap();
        list(&COLUMNS, rows, Some(&format), false).unwrap()
    }

    #[test]
    fn the_table_is_dockers() {
        let expected = [
            "NETWORK ID     NAME      DRIVER    SCOPE",
            "000000000000   db        overlay   swarm",
            "000000000000   host      host      local",
            "000000000000   web       overlay   swarm",
        ];
        assert_eq!(show(&[], "table").lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn filters_choose() {
        for (filters, expected) in [
            (&["dangling=true"][..], "db\n"),
            (&["scope=local"], "host\n"),
            (&["type=custom"], "db\nweb\n"),
            (&["driver=overlay", "dangling=false"], "web\n"),
        ] {
            assert_eq!(show(filters, "{{.Name}}"), expected, "{filters:?}");
        }
    }
}
