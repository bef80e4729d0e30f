//! `swarmctl info`

use clap::Args;
use proto::control::{GetClusterRequest, GetNodeRequest, ListNodesRequest};
use proto::daemon::get_status_response::State;
use proto::daemon::{GetStatusRequest, GetStatusResponse};
use proto::objects::NodeRole;
use serde_json::{Value, json};

use crate::connect::{Connection, Host};
use crate::error::Error;
use crate::format::{Format, print_objects};
use crate::output;

/// Show this machine's part in the swarm
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl info
  swarmctl info --format '{{.Swarm.LocalNodeState}}'")]
pub(crate) struct Info {
    /// json, or a template like {{.Swarm.NodeID}}
    #[arg(short, long)]
    format: Option<Format>,
}

/// What a manager knows beyond its own status.
struct Known {
    nodes: usize,
    managers: usize,
    history_limit: i64,
    heartbeat: std::time::Duration,
}

impl Info {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        let status = if connection.is_remote() {
            elsewhere(&connection).await?
        } else {
            let mut daemon = connection.daemon()?;
            daemon.get_status(GetStatusRequest {}).await?.into_inner()
        };
        let manages = status.state() == State::Active && status.role() == NodeRole::Manager;
        let known = if manages {
            known(&connection).await.ok()
        } else {
            None
        };
        match &self.format {
            None => Ok(output::write(&page(&status, known.as_ref()))?),
            Some(format) => print_objects(&[object(&status, known.as_ref())], Some(format)),
        }
    }
}

/// What a manager elsewhere tells of itself through the cluster.
async fn elsewhere(connection: &Connection) -> Result<GetStatusResponse, Error> {
    let mut control = connection.control();
    let key = "self".to_owned();
    let node = control.get_node(GetNodeRequest { key }).await?.into_inner();
    let node = node.node.and_then(|view| view.node).unwrap_or_default();
    let cluster = control.get_cluster(GetClusterRequest {}).await?;
    let cluster = cluster.into_inner().cluster.unwrap_or_default();
    Ok(GetStatusResponse {
        state: State::Active.into(),
        node_id: node.id,
        cluster_id: cluster.id,
        role: NodeRole::Manager.into(),
        advertise_addr: node.manager_status.unwrap_or_default().addr,
        version: node.description.unwrap_or_default().engine_version,
        managers: cluster.managers,
        ..GetStatusResponse::default()
    })
}

/// A manager without a leader still tells what it is: what it cannot tell is left out.
async fn known(connection: &Connection) -> Result<Known, Error> {
    let mut control = connection.control();
    let nodes = control
        .list_nodes(ListNodesRequest {})
        .await?
        .into_inner()
        .nodes;
    let cluster = control
        .get_cluster(GetClusterRequest {})
        .await?
        .into_inner()
        .cluster;
    let spec = cluster.and_then(|cluster| cluster.spec).unwrap_or_default();
    let is_manager = |view: &&proto::control::NodeView| {
        view.node
            .as_ref()
            .is_some_and(|node| node.manager_status.is_some())
    };
    Ok(Known {
        nodes: nodes.len(),
        managers: nodes.iter().filter(is_manager).count(),
        history_limit: spec.task_history_limit,
        heartbeat: std::time::Duration::from_nanos(spec.heartbeat_period),
    })
}

fn state(status: &GetStatusResponse) -> &'static str {
    match status.state() {
        State::Inactive => "inactive",
        State::Pending => "pending",
        State::Active => "active",
        State::Error => "error",
        State::Locked => "locked",
    }
}

fn page(status: &GetStatusResponse, known: Option<&Known>) -> String {
    let mut lines = vec![
        format!("Server Version: {}", status.version),
        format!("Swarm: {}", state(status)),
    ];
    if status.pid != 0 {
        lines.insert(1, format!("Server PID: {}", status.pid));
    }
    if !status.error.is_empty() {
        lines.push(format!(" Error: {}", status.error));
    }
    if !status.node_id.is_empty() {
        lines.push(format!(" NodeID: {}", status.node_id));
        lines.push(format!(
            " Is Manager: {}",
            status.role() == NodeRole::Manager
        ));
        lines.push(format!(" ClusterID: {}", status.cluster_id));
    }
    if let Some(known) = known {
        lines.push(format!(" Managers: {}", known.managers));
        lines.push(format!(" Nodes: {}", known.nodes));
        lines.push(" Orchestration:".to_owned());
        lines.push(format!(
            "  Task History Retention Limit: {}",
            known.history_limit
        ));
        lines.push(" Dispatcher:".to_owned());
        let heartbeat = crate::human::go_duration(known.heartbeat);
        lines.push(format!("  Heartbeat Period: {heartbeat}"));
    }
    if !status.advertise_addr.is_empty() {
        lines.push(format!(" Node Address: {}", status.advertise_addr));
    }
    if !status.managers.is_empty() {
        lines.push(" Manager Addresses:".to_owned());
        lines.extend(status.managers.iter().map(|addr| format!("  {addr}")));
    }
    lines.join("\n") + "\n"
}

/// In the shape of Docker's API.
fn object(status: &GetStatusResponse, known: Option<&Known>) -> Value {
    json!({
        "ServerVersion": status.version,
        "Swarm": {
            "NodeID": status.node_id,
            "NodeAddr": status.advertise_addr,
            "LocalNodeState": state(status),
            "ControlAvailable": status.role() == NodeRole::Manager && state(status) == "active",
            "Error": status.error,
            "RemoteManagers": status.managers.iter().map(|addr| json!({ "Addr": addr }))
                .collect::<Vec<_>>(),
            "Nodes": known.map_or(0, |known| known.nodes),
            "Managers": known.map_or(0, |known| known.managers),
            "Cluster": { "ID": status.cluster_id },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_tells_more_than_a_machine_without_a_swarm() {
        let none = GetStatusResponse {
            version: "0.1.0".into(),
            pid: 7,
            ..Default::default()
        };
        assert_eq!(
            page(&none, None),
            "Server Version: 0.1.0\nServer PID: 7\nSwarm: inactive\n"
        );
        let manager = GetStatusResponse {
            state: State::Active.into(),
            node_id: "n".into(),
            cluster_id: "c".into(),
            role: NodeRole::Manager.into(),
            advertise_addr: "10.0.0.1:2377".into(),
            managers: vec!["10.0.0.1:2377".into()],
            ..none
        };
        let known = Known {
            nodes: 5,
            managers: 3,
            history_limit: 5,
            heartbeat: std::time::Duration::from_secs(1),
        };
        let page = page(&manager, Some(&known));
        for line in [
            " Is Manager: true",
            " Nodes: 5",
            "  Heartbeat Period: 1s",
            "  10.0.0.1:2377",
        ] {
            assert!(page.lines().any(|it| it == line), "{line}: {page}");
        }
        let object = object(&manager, Some(&known));
        assert_eq!(object["Swarm"]["ControlAvailable"], true);
    }
}
