//! Lists of tasks, as `service ps` and `node ps` show them: newest of a slot first, older ones
//! below with ` \_ `.

use std::collections::BTreeMap;

use clap::Args;
use proto::control::{ListNodesRequest, ListTasksRequest};
use types::network::PublishedPort;
use types::{Node, NodeId, Task, Timestamp};

use crate::connect::Connection;
use crate::error::Error;
use crate::filter::{Filter, Filters};
use crate::format::{Column, Format, Row, print_list, row, shown};
use crate::{human, natural};

const COLUMNS: [Column; 8] = [
    shown("ID", "ID"),
    shown("Name", "NAME"),
    shown("Image", "IMAGE"),
    shown("Node", "NODE"),
    shown("DesiredState", "DESIRED STATE"),
    shown("CurrentState", "CURRENT STATE"),
    shown("Error", "ERROR"),
    shown("Ports", "PORTS"),
];

/// Characters of an id and of an error that a table shows.
const ID_LEN: usize = 12;
const ERROR_LEN: usize = 30;

/// How to show tasks.
#[derive(Args, Debug)]
pub(crate) struct TaskListOptions {
    /// Only tasks that match: id, name, node, desired-state
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// table, json, or a template like {{.ID}} {{.Name}}
    #[arg(long)]
    format: Option<Format>,
    /// Show ids of nodes instead of their names
    #[arg(long)]
    no_resolve: bool,
    /// Show ids, images and errors whole
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
}

impl TaskListOptions {
    /// Fetches and prints the tasks.
    pub(crate) async fn print(
        &self,
        connection: &Connection,
        request: ListTasksRequest,
    ) -> Result<(), Error> {
        let filters = Filters::new(&self.filters, &["id", "name", "node", "desired-state"])?;
        let mut control = connection.control();
        let tasks = control.list_tasks(request).await?.into_inner().tasks;
        let tasks = tasks
            .into_iter()
            .map(Task::try_from)
            .collect::<Result<Vec<_>, _>>()?;
        let list = control
            .list_nodes(ListNodesRequest {})
            .await?
            .into_inner()
            .nodes;
        let mut nodes = Nodes::default();
        for view in list {
            if let Some(node) = view.node {
                let node = Node::try_from(node)?;
                nodes.0.insert(node.id, node.hostname());
            }
        }
        let rows = self.rows(tasks, &nodes, &filters, Timestamp::now());
        print_list(&COLUMNS, rows, self.format.as_ref(), self.quiet)
    }

    fn rows(
        &self,
        mut tasks: Vec<Task>,
        nodes: &Nodes,
        filters: &Filters<'_>,
        now: Timestamp,
    ) -> Vec<Row> {
        tasks.retain(|task| matches(task, nodes, filters));
        // A task that was not told its node yet has the same name as others of a global service.
        let mut tasks: Vec<(String, Task)> =
            tasks.into_iter().map(|task| (task.name(), task)).collect();
        tasks.sort_by(|(name_a, a), (name_b, b)| {
            natural::order(name_a, name_b)
                .then(b.meta.created_at.cmp(&a.meta.created_at))
                .then(b.meta.version.cmp(&a.meta.version))
        });
        let mut before = None;
        let mut rows = vec![];
        for (name, task) in tasks {
            let older = before.as_ref() == Some(&name);
            rows.push(self.row(&task, &name, older, nodes, now));
            before = Some(name);
        }
        rows
    }

    fn row(&self, task: &Task, name: &str, older: bool, nodes: &Nodes, now: Timestamp) -> Row {
        // Templates get the plain name, as do scripts.
        let indent = older && matches!(self.format, None | Some(Format::Table(_)));
        let node = match task.node_id {
            Some(id) if self.no_resolve => id.to_string(),
            Some(id) => nodes.name(id),
            None => String::new(),
        };
        let id = task.id.to_string();
        let id = if self.no_trunc || self.quiet {
            id
        } else {
            truncate(&id, ID_LEN)
        };
        let image = &task.spec.container.image;
        let image = if self.no_trunc {
            image
        } else {
            without_digest(image)
        };
        let state = format!(
            "{} {}",
            capital(task.status.state.as_str()),
            human::ago(now, task.status.timestamp).to_lowercase()
        );
        row(
            &COLUMNS,
            [
                id.into(),
                if indent {
                    format!(" \\_ {name}")
                } else {
                    name.to_owned()
                }
                .into(),
                image.into(),
                node.into(),
                capital(task.desired_state.as_str()).into(),
                state.trim_end().into(),
                self.error(&task.status.err).into(),
                ports(task).into(),
            ],
        )
    }

    fn error(&self, err: &str) -> String {
        let err = err.replace(['\n', '\r'], " ");
        match err.chars().count() {
            0 => String::new(),
            count if self.no_trunc || count <= ERROR_LEN => format!("\"{err}\""),
            _ => format!("\"{}…\"", truncate(&err, ERROR_LEN - 1)),
        }
    }
}

/// Ports of the task's node that lead to it alone, as `*:32768->80/tcp`.
fn ports(task: &Task) -> String {
    let container = task.status.container_status.iter();
    let opened = container.flat_map(|container| &container.ports);
    let texts: Vec<String> = opened
        .map(|port| {
            let at = port.host_ip.map_or("*".to_owned(), |ip| match ip {
                std::net::IpAddr::V4(ip) => ip.to_string(),
                std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            });
            let PublishedPort {
                published_port,
                target_port,
                protocol,
                ..
            } = port;
            format!("{at}:{published_port}->{target_port}/{protocol}")
        })
        .collect();
    texts.join(",")
}

/// Host names by id.
#[derive(Debug, Default)]
struct Nodes(BTreeMap<NodeId, String>);

impl Nodes {
    /// The host name; the id of a node that was removed.
    fn name(&self, id: NodeId) -> String {
        self.0.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

fn matches(task: &Task, nodes: &Nodes, filters: &Filters<'_>) -> bool {
    let desired = |wanted: &str| match wanted.to_ascii_lowercase().as_str() {
        "accepted" | "running" => {
            wanted.eq_ignore_ascii_case(task.desired_state.as_str())
                // A task that waits for its start is meant to run.
                || wanted.eq_ignore_ascii_case("running") && task.is_runnable()
        }
        wanted => wanted == task.desired_state.as_str(),
    };
    let on_node = |wanted: &str| {
        task.node_id.is_some_and(|id| {
            id.as_str().starts_with(wanted) || nodes.name(id).eq_ignore_ascii_case(wanted)
        })
    };
    filters.any("id", |wanted| task.id.as_str().starts_with(wanted))
        && filters.any("name", |wanted| task.name().starts_with(wanted))
        && filters.any("node", on_node)
        && filters.any("desired-state", desired)
}

/// The first characters of a text.
pub(crate) fn truncate(text: &str, len: usize) -> String {
    text.chars().take(len).collect()
}

/// With a capital first letter.
pub(crate) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + chars.as_str()
    })
}

/// An image as people call it: a digest after a tag says nothing to them.
pub(crate) fn without_digest(image: &str) -> &str {
    image.split_once('@').map_or(image, |(name, _)| name)
}

#[cfg(test)]
mod tests;
