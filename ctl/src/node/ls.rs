//! `swarmctl node ls`

use clap::Args;
use proto::control::{ListNodesRequest, NodeView};
use serde_json::Value;
use types::Node;

use crate::connect::Host;
use crate::error::Error;
use crate::filter::{Filter, Filters};
use crate::format::{Column, Format, Row, hidden, print_list, row, shown, table_only};
use crate::natural;
use crate::task_list::capital;

const COLUMNS: [Column; 8] = [
    // Shown with the mark of the node that answers, as one column.
    table_only("MarkedID", "ID"),
    shown("Hostname", "HOSTNAME"),
    shown("Status", "STATUS"),
    shown("Availability", "AVAILABILITY"),
    shown("ManagerStatus", "MANAGER STATUS"),
    shown("EngineVersion", "ENGINE VERSION"),
    hidden("ID", "ID"),
    hidden("Self", "SELF"),
];

/// List the nodes of the swarm
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl node ls
  swarmctl node ls --filter role=manager
  swarmctl node ls --format '{{.Hostname}} {{.Status}}'")]
pub(crate) struct Ls {
    /// Only nodes that match: id, name, role, node.label, label (of the daemon)
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// table, json, or a template like {{.ID}} {{.Hostname}}
    #[arg(long)]
    format: Option<Format>,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        const KNOWN: [&str; 5] = ["id", "name", "role", "node.label", "label"];
        let filters = Filters::new(&self.filters, &KNOWN)?;
        let mut control = host.connect().await?.control();
        let list = control.list_nodes(ListNodesRequest {}).await?.into_inner();
        let rows = rows(list.nodes, &list.self_id, &filters)?;
        print_list(&COLUMNS, rows, self.format.as_ref(), self.quiet)
    }
}

fn rows(views: Vec<NodeView>, self_id: &str, filters: &Filters<'_>) -> Result<Vec<Row>, Error> {
    let mut nodes = vec![];
    for NodeView {
        node,
        leader,
        reachable,
    } in views
    {
        let node = Node::try_from(node.unwrap_or_default())?;
        if matches(&node, filters) {
            nodes.push((node.hostname(), node, leader, reachable));
        }
    }
    nodes.sort_by(|a, b| natural::order(&a.0, &b.0).then(a.1.id.cmp(&b.1.id)));
    let rows = nodes
        .into_iter()
        .map(|(hostname, node, leader, reachable)| {
            let own = node.id.as_str() == self_id;
            let version = node
                .description
                .as_ref()
                .map_or("", |told| &told.engine_version);
            row(
                &COLUMNS,
                [
                    format!("{} {}", node.id, if own { "*" } else { " " }).into(),
                    hostname.into(),
                    capital(&node.status.state.to_string()).into(),
                    capital(&node.spec.availability.to_string()).into(),
                    manager_status(&node, leader, reachable).into(),
                    version.into(),
                    node.id.to_string().into(),
                    Value::from(own),
                ],
            )
        });
    Ok(rows.collect())
}

/// What kind of manager it is; empty for workers.
pub(super) fn manager_status(node: &Node, leader: bool, reachable: bool) -> &'static str {
    match (&node.manager_status, leader, reachable) {
        (None, _, _) => "",
        (Some(_), true, _) => "Leader",
        (Some(_), false, true) => "Reachable",
        (Some(_), false, false) => "Unreachable",
    }
}

fn matches(node: &Node, filters: &Filters<'_>) -> bool {
    let none = types::Labels::new();
    let engine_labels = node
        .description
        .as_ref()
        .map_or(&none, |told| &told.engine_labels);
    filters.any("id", |wanted| node.id.as_str().starts_with(wanted))
        && filters.any("name", |wanted| node.hostname().starts_with(wanted))
        && filters.any("role", |wanted| {
            wanted.eq_ignore_ascii_case(&node.spec.role.to_string())
        })
        && filters.labels("node.label", &node.spec.labels)
        && filters.labels("label", engine_labels)
}

#[cfg(test)]
mod tests {
    use types::node::{ManagerStatus, NodeDescription, NodeState, NodeStatus};
    use types::{Meta, NodeId, NodeRole, NodeSpec};

    use super::*;
    use crate::format::list;

    fn view(number: u128, name: &str, role: NodeRole, state: NodeState) -> NodeView {
        let manager_status = (role == NodeRole::Manager).then(ManagerStatus::default);
        let node = Node {
            id: NodeId::from_number(number),
            meta: Meta::default(),
            spec: NodeSpec {
                role,
                ..NodeSpec::default()
            },
            role,
            description: Some(NodeDescription {
                hostname: name.into(),
                engine_version: "0.1.0".into(),
                ..NodeDescription::default()
            }),
            status: NodeStatus {
                state,
                ..NodeStatus::default()
            },
            manager_status,
            network_index: 0,
            certificate: types::node::NodeCertificate::default(),
        };
        NodeView {
            node: Some((&node).into()),
            leader: number == 1,
            reachable: number < 3,
        }
    }

    fn show(filters: &[&str], format: Option<&str>) -> String {
        let views = vec![
            view(4, "n10", NodeRole::Worker, NodeState::Down),
            view(1, "n1", NodeRole::Manager, NodeState::Ready),
            view(2, "n2", NodeRole::Manager, NodeState::Ready),
            view(3, "n3", NodeRole::Manager, NodeState::Unknown),
        ];
        let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
        let filters = Filters::new(&filters, &["id", "name", "role"]).unwrap();
        let own = NodeId::from_number(2).to_string();
        let format: Option<Format> = format.map(|format| format.parse().unwrap());
        list(
            &COLUMNS,
            rows(views, &own, &filters).unwrap(),
            format.as_ref(),
            false,
        )
        .unwrap()
    }

    #[test]
    fn the_table_is_dockers() {
        let expected = [
            "ID                            HOSTNAME   STATUS    AVAILABILITY   MANAGER STATUS   \
             ENGINE VERSION",
            "0000000000000000000000001     n1         Ready     Active         Leader           \
             0.1.0",
            "0000000000000000000000002 *   n2         Ready     Active         Reachable        \
             0.1.0",
            "0000000000000000000000003     n3         Unknown   Active         Unreachable      \
             0.1.0",
            "0000000000000000000000004     n10        Down      Active                          \
             0.1.0",
        ];
        assert_eq!(show(&[], None).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn templates_and_filters() {
        assert!(!show(&[], Some("json")).contains("MarkedID"));
        let format = Some("{{.Hostname}}:{{.ManagerStatus}}{{if .Self}}*{{end}}");
        assert_eq!(
            show(&["role=manager"], format),
            "n1:Leader\nn2:Reachable*\nn3:Unreachable\n"
        );
        assert_eq!(
            show(&["name=n1", "role=worker"], Some("{{.Hostname}}")),
            "n10\n"
        );
    }
}
