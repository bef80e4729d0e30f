//! `swarmctl node ps`

use clap::Args;
use proto::control::ListTasksRequest;

use crate::connect::Host;
use crate::error::Error;
use crate::task_list::TaskListOptions;

/// List the tasks on nodes, by default on this one
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl node ps
  swarmctl node ps --filter desired-state=running n1 n2")]
pub(crate) struct Ps {
    /// Ids, host names, beginnings of ids, or self
    #[arg(value_name = "NODE", default_value = "self")]
    nodes: Vec<String>,
    #[command(flatten)]
    list: TaskListOptions,
}

impl Ps {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let request = ListTasksRequest {
            services: vec![],
            nodes: self.nodes,
        };
        self.list.print(&host.connect().await?, request).await
    }
}
