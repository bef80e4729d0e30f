//! Changing a node's spec: reads it, changes it, writes it, and again when somebody was faster.

use proto::control::{GetNodeRequest, UpdateNodeRequest};
use types::{Node, NodeRole, NodeSpec};

use crate::connect::Connection;
use crate::error::Error;
use crate::output;

/// Times a change is made anew because the node changed meanwhile.
const STALE_RETRIES_MAX: usize = 10;

/// What a change came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was written.
    Written,
    /// There was nothing to change.
    Nothing,
}

/// Applies `change` to the spec of the node called `key`.
pub(crate) async fn change(
    connection: &Connection,
    key: &str,
    change: impl Fn(&mut NodeSpec) -> Result<(), Error>,
) -> Result<Change, Error> {
    let mut control = connection.control();
    let mut tries = 0;
    loop {
        let request = GetNodeRequest {
            key: key.to_owned(),
        };
        let node = control.get_node(request).await?.into_inner().node;
        let node = Node::try_from(node.and_then(|view| view.node).unwrap_or_default())?;
        let mut spec = node.spec.clone();
        change(&mut spec)?;
        if spec == node.spec {
            return Ok(Change::Nothing);
        }
        let request = UpdateNodeRequest {
            id: node.id.to_string(),
            version: node.meta.version.index,
            spec: Some((&spec).into()),
        };
        match control.update_node(request).await.map_err(Error::from) {
            Ok(_) => return Ok(Change::Written),
            Err(error) if error.is_stale() && tries < STALE_RETRIES_MAX => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Gives nodes a role and says for each what came of it.
pub(crate) async fn set_role(
    connection: &Connection,
    keys: &[String],
    role: NodeRole,
) -> Result<(), Error> {
    let done = match role {
        NodeRole::Manager => "promoted to a manager in the swarm.",
        NodeRole::Worker => "demoted in the swarm.",
    };
    let mut errors = vec![];
    for key in keys {
        let set = |spec: &mut NodeSpec| {
            spec.role = role;
            Ok(())
        };
        match change(connection, key, set).await {
            Ok(Change::Written) => {
                let verb = if role == NodeRole::Worker {
                    "Manager"
                } else {
                    "Node"
                };
                output::line(format!("{verb} {key} {done}"))?;
            }
            Ok(Change::Nothing) => output::line(format!("Node {key} is already a {role}."))?,
            Err(error) => errors.push(error),
        }
    }
    Error::join(errors)
}
