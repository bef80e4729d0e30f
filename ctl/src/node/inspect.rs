//! `swarmctl node inspect`

use base64::Engine as _;
use clap::Args;
use proto::control::{GetNodeRequest, NodeView};
use serde_json::{Value, json};
use types::Node;

use super::ls::manager_status;
use crate::connect::Host;
use crate::error::Error;
use crate::format::{Format, json, print_objects};
use crate::task_list::capital;
use crate::{human, output};

/// Show everything about nodes
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl node inspect self
  swarmctl node inspect --pretty n1 n2
  swarmctl node inspect --format '{{.Status.Addr}}' n1")]
pub(crate) struct Inspect {
    /// Ids, host names, beginnings of ids, or self
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// json, or a template like {{.Spec.Role}}
    #[arg(short, long)]
    format: Option<Format>,
    /// Show it for people instead of programs
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
}

impl Inspect {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let mut control = host.connect().await?.control();
        let mut objects = vec![];
        let mut texts = vec![];
        let mut errors = vec![];
        for key in self.nodes {
            match control.get_node(GetNodeRequest { key }).await {
                Ok(answer) => {
                    let view = answer.into_inner().node.unwrap_or_default();
                    let NodeView {
                        node,
                        leader,
                        reachable,
                    } = view;
                    let node = Node::try_from(node.unwrap_or_default())?;
                    texts.push(pretty(&node, leader, reachable));
                    objects.push(object(&node, leader, reachable));
                }
                Err(status) => errors.push(status.into()),
            }
        }
        if self.pretty {
            output::write(&texts.join("\n"))?;
        } else {
            print_objects(&objects, self.format.as_ref())?;
        }
        Error::join(errors)
    }
}

/// The node in the shape of Docker's API.
fn object(node: &Node, leader: bool, reachable: bool) -> Value {
    let mut value = json(node);
    if let Some(told) = &node.description {
        value["Description"] = json!({
            "Hostname": told.hostname,
            "Platform": json(&told.platform),
            "Resources": json(told.resources),
            "Engine": {
                "EngineVersion": told.engine_version,
                "Labels": json(&told.engine_labels),
            },
            "DataPathAddrs": told.network.data_path,
            "WireGuardKeys": told.network.wireguard_keys.iter()
                .map(|key| base64::engine::general_purpose::STANDARD.encode(key))
                .collect::<Vec<_>>(),
        });
    }
    if let Some(manager) = &node.manager_status {
        value["ManagerStatus"] = json!({
            "Leader": leader,
            "Reachability": if reachable { "reachable" } else { "unreachable" },
            "Addr": manager.addr,
            "RaftID": manager.raft_id,
        });
    }
    value
}

fn pretty(node: &Node, leader: bool, reachable: bool) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let mut put = |line: String| {
        // Writing to a text cannot fail.
        let _ = writeln!(out, "{line}");
    };
    put(format!("ID:\t\t\t{}", node.id));
    if !node.spec.labels.is_empty() {
        put("Labels:".to_owned());
        for (key, value) in &node.spec.labels {
            put(format!(" - {key}={value}"));
        }
    }
    put(format!("Hostname:\t\t{}", node.hostname()));
    put(format!("Joined at:\t\t{}", node.meta.created_at));
    put("Status:".to_owned());
    put(format!(
        " State:\t\t\t{}",
        capital(&node.status.state.to_string())
    ));
    if !node.status.message.is_empty() {
        put(format!(" Message:\t\t{}", node.status.message));
    }
    put(format!(
        " Availability:\t\t{}",
        capital(&node.spec.availability.to_string())
    ));
    if let Some(addr) = node.status.addr {
        put(format!(" Address:\t\t{addr}"));
    }
    let data_path = node.description.iter();
    for addr in data_path.flat_map(|told| &told.network.data_path) {
        put(format!(" Data path:\t\t{addr}"));
    }
    if let Some(manager) = &node.manager_status {
        put("Manager Status:".to_owned());
        put(format!(" Address:\t\t{}", manager.addr));
        put(format!(
            " Raft Status:\t\t{}",
            manager_status(node, leader, reachable)
        ));
        put(format!(" Leader:\t\t{}", if leader { "Yes" } else { "No" }));
    }
    if let Some(told) = &node.description {
        put("Platform:".to_owned());
        put(format!(" Operating System:\t{}", told.platform.os));
        put(format!(" Architecture:\t\t{}", told.platform.architecture));
        put("Resources:".to_owned());
        put(format!(
            " CPUs:\t\t\t{}",
            told.resources.nano_cpus / 1_000_000_000
        ));
        put(format!(
            " Memory:\t\t{}",
            human::memory(told.resources.memory_bytes)
        ));
        put(format!("Engine Version:\t\t{}", told.engine_version));
        if !told.engine_labels.is_empty() {
            put("Engine Labels:".to_owned());
            for (key, value) in &told.engine_labels {
                put(format!(" - {key}={value}"));
            }
        }
    }
    out
}
