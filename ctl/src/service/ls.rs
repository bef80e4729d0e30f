//! `swarmctl service ls`

use clap::Args;
use proto::control::{ListServicesRequest, ServiceView};
use types::Service;
use types::network::PublishMode;
use types::service::ServiceMode;

use crate::connect::Host;
use crate::error::Error;
use crate::filter::{Filter, Filters};
use crate::format::{Column, Format, Row, print_list, row, shown};
use crate::natural;
use crate::parse::port;
use crate::task_list::{truncate, without_digest};

const COLUMNS: [Column; 6] = [
    shown("ID", "ID"),
    shown("Name", "NAME"),
    shown("Mode", "MODE"),
    shown("Replicas", "REPLICAS"),
    shown("Image", "IMAGE"),
    shown("Ports", "PORTS"),
];

/// Characters of an id that a table shows.
const ID_LEN: usize = 12;

/// List the services
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl service ls
  swarmctl service ls --filter label=owner=ops
  swarmctl service ls --format '{{.Name}} {{.Replicas}}'")]
pub(crate) struct Ls {
    /// Only services that match: id, name, label, mode
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// table, json, or a template like {{.Name}} {{.Replicas}}
    #[arg(long)]
    format: Option<Format>,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let filters = Filters::new(&self.filters, &["id", "name", "label", "mode"])?;
        let mut control = host.connect().await?.control();
        let views = control
            .list_services(ListServicesRequest {})
            .await?
            .into_inner()
            .services;
        let rows = rows(views, &filters, self.quiet)?;
        print_list(&COLUMNS, rows, self.format.as_ref(), self.quiet)
    }
}

fn rows(views: Vec<ServiceView>, filters: &Filters<'_>, whole: bool) -> Result<Vec<Row>, Error> {
    let mut services = vec![];
    for ServiceView {
        service,
        running_tasks,
        desired_tasks,
    } in views
    {
        let service = Service::try_from(service.unwrap_or_default())?;
        if matches(&service, filters) {
            services.push((service, running_tasks, desired_tasks));
        }
    }
    services.sort_by(|a, b| natural::order(&a.0.spec.name, &b.0.spec.name));
    let rows = services.into_iter().map(|(service, running, desired)| {
        let spec = &service.spec;
        let id = service.id.to_string();
        let replicas = match spec.task.placement.max_replicas {
            0 => format!("{running}/{desired}"),
            most => format!("{running}/{desired} (max {most} per node)"),
        };
        row(
            &COLUMNS,
            [
                if whole { id } else { truncate(&id, ID_LEN) }.into(),
                spec.name.as_str().into(),
                mode(spec.mode).into(),
                replicas.into(),
                without_digest(&spec.task.container.image).into(),
                ports(&service).into(),
            ],
        )
    });
    Ok(rows.collect())
}

/// Published ports, those given by the swarm included.
fn ports(service: &Service) -> String {
    let given = &service.endpoint;
    // Not given out yet: what was asked for.
    let ports = if given.spec == service.spec.endpoint {
        &given.ports
    } else {
        &service.spec.endpoint.ports
    };
    let ports = ports
        .iter()
        .filter(|port| port.mode == PublishMode::Ingress);
    ports.map(port::shown).collect::<Vec<_>>().join(", ")
}

/// The mode in a word.
pub(super) fn mode(mode: ServiceMode) -> &'static str {
    match mode {
        ServiceMode::Replicated { .. } => "replicated",
        ServiceMode::Global {} => "global",
    }
}

fn matches(service: &Service, filters: &Filters<'_>) -> bool {
    filters.any("id", |wanted| service.id.as_str().starts_with(wanted))
        && filters.any("name", |wanted| service.spec.name.starts_with(wanted))
        && filters.any("mode", |wanted| wanted == mode(service.spec.mode))
        && filters.labels("label", &service.spec.labels)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use types::{Meta, ServiceId, ServiceSpec, Version};

    use super::*;
    use crate::format::list;

    fn view(number: u128, name: &str, mode: ServiceMode, max_replicas: u64) -> ServiceView {
        let mut spec = ServiceSpec {
            name: name.into(),
            mode,
            ..ServiceSpec::default()
        };
        let task = Arc::make_mut(&mut spec.task);
        task.container.image = "registry:5000/web:1@sha256:00".into();
        task.placement.max_replicas = max_replicas;
        let service = Service {
            id: ServiceId::from_number(number << 64),
            meta: Meta::default(),
            spec,
            spec_version: Version::default(),
            previous_spec: None,
            update_status: None,
            endpoint: types::network::Endpoint::default(),
        };
        ServiceView {
            service: Some((&service).into()),
            running_tasks: 1,
            desired_tasks: 3,
        }
    }

    #[test]
    fn the_table_is_dockers() {
        let replicated = ServiceMode::Replicated { replicas: 3 };
        let views = vec![
            view(1, "web10", replicated, 2),
            view(2, "web2", replicated, 0),
            view(3, "agent", ServiceMode::Global {}, 0),
        ];
        let filters: Vec<Filter> = vec!["mode=replicated".parse().unwrap()];
        let known = ["id", "name", "label", "mode"];
        let show = |views, filters: &[Filter]| {
            let rows = rows(views, &Filters::new(filters, &known).unwrap(), false).unwrap();
            list(&COLUMNS, rows, None, false).unwrap()
        };
        assert_eq!(
            show(views.clone(), &[]),
            "ID             NAME      MODE         REPLICAS               IMAGE                 PORTS\n\
             000000000000   agent     global       1/3                    registry:5000/web:1\n\
             000000000000   web2      replicated   1/3                    registry:5000/web:1\n\
             000000000000   web10     replicated   1/3 (max 2 per node)   registry:5000/web:1\n"
        );
        assert!(!show(views, &filters).contains("agent"));
    }
}
