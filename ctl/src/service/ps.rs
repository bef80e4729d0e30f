//! `swarmctl service ps`

use clap::Args;
use proto::control::{GetServiceRequest, ListTasksRequest};

use crate::connect::Host;
use crate::error::Error;
use crate::task_list::TaskListOptions;

/// List the tasks of services
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl service ps web
  swarmctl service ps --filter desired-state=running --no-trunc web api
  swarmctl service ps --format '{{.Name}} {{.Node}} {{.CurrentState}}' web")]
pub(crate) struct Ps {
    /// Ids, names or beginnings of ids
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    list: TaskListOptions,
}

impl Ps {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        let mut control = connection.control();
        // What exists is shown even when something else was not found.
        let mut found = vec![];
        let mut errors = vec![];
        for key in self.services {
            match control
                .get_service(GetServiceRequest { key: key.clone() })
                .await
            {
                Ok(_) => found.push(key),
                Err(status) => errors.push(status.into()),
            }
        }
        if !found.is_empty() {
            let request = ListTasksRequest {
                services: found,
                nodes: vec![],
            };
            if let Err(error) = self.list.print(&connection, request).await {
                errors.push(error);
            }
        }
        Error::join(errors)
    }
}
