//! Transactions, their outcomes and snapshots as bytes; the Raft log carries nothing else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use prost::Message as _;
use proto::ConvertError;
use proto::store as wire;
use types::{NetworkId, ServiceId, TaskSpec, TaskState, Timestamp, Version};

use crate::{
    Action, Kind, Object, ObjectId, Refusal, RefusalReason, RestoreError, State, Transaction,
};

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not a message at all.
    #[error("not a valid message")]
    Message(#[from] prost::DecodeError),
    /// A message with a wrong field.
    #[error(transparent)]
    Field(#[from] ConvertError),
    /// A message without the part that says what it is.
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// A transaction as the log carries it.
#[must_use]
pub fn encode_transaction(transaction: &Transaction) -> Vec<u8> {
    let actions = transaction.actions.iter().map(action_to_wire).collect();
    wire::Transaction {
        now: transaction.now.0,
        actions,
    }
    .encode_to_vec()
}

/// Reads a transaction.
///
/// # Errors
/// When the bytes are not a transaction; the store refuses such an entry as malformed.
pub fn decode_transaction(bytes: &[u8]) -> Result<Transaction, DecodeError> {
    let message = wire::Transaction::decode(bytes)?;
    let actions = message
        .actions
        .into_iter()
        .map(action_from_wire)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Transaction {
        now: Timestamp(message.now),
        actions,
    })
}

/// What applying answered, for whoever proposed.
#[must_use]
pub fn encode_outcome(version: Version, outcome: &Result<(), Refusal>) -> Vec<u8> {
    let outcome = match outcome {
        Ok(()) => wire::outcome::Outcome::Applied(version.index),
        Err(refusal) => wire::outcome::Outcome::Refused(wire::Refusal {
            action: u32::try_from(refusal.action).unwrap_or(u32::MAX),
            reason: reason_to_wire(refusal.reason).into(),
            object: refusal.object.clone(),
        }),
    };
    wire::Outcome {
        outcome: Some(outcome),
    }
    .encode_to_vec()
}

/// Reads an outcome.
///
/// # Errors
/// When the bytes are not an outcome.
pub fn decode_outcome(bytes: &[u8]) -> Result<Result<Version, Refusal>, DecodeError> {
    let message = wire::Outcome::decode(bytes)?;
    match message.outcome.ok_or(DecodeError::Missing("outcome"))? {
        wire::outcome::Outcome::Applied(index) => Ok(Ok(Version { index })),
        wire::outcome::Outcome::Refused(refusal) => {
            let reason = reason_from_wire(refusal.reason());
            Ok(Err(Refusal {
                action: refusal.action as usize,
                reason,
                object: refusal.object,
            }))
        }
    }
}

/// The whole state as a snapshot carries it.
#[must_use]
pub fn encode_snapshot(state: &State) -> Vec<u8> {
    let objects = state
        .objects()
        .map(|object| object_to_wire(&object))
        .collect();
    let last_given = state.holdings().all_last_given();
    let last_given = last_given.map(|(network, subnet, address)| wire::LastGiven {
        network_id: network.to_string(),
        subnet: subnet.to_string(),
        address: address.to_string(),
    });
    wire::Snapshot {
        index: state.version().index,
        objects,
        last_given: last_given.collect(),
    }
    .encode_to_vec()
}

/// Reads a snapshot.
///
/// # Errors
/// When the bytes are not a snapshot, or an object in it is not valid.
pub fn decode_snapshot(bytes: &[u8]) -> Result<State, RestoreError> {
    let wrong = |error: DecodeError| RestoreError(error.to_string());
    let message = wire::Snapshot::decode(bytes).map_err(|e| wrong(e.into()))?;
    let mut state = State::default();
    let mut specs: HashMap<(ServiceId, Version), Arc<TaskSpec>> = HashMap::new();
    for object in message.objects {
        let mut object = object_from_wire(object).map_err(wrong)?;
        match &mut object {
            Object::Service(service) => {
                specs.insert(
                    (service.id, service.spec_version),
                    service.spec.task.clone(),
                );
            }
            // Services come before tasks, so tasks find the spec to share (S1.10).
            Object::Task(task) => {
                let task = Arc::make_mut(task);
                let shared = specs
                    .entry((task.service_id, task.spec_version))
                    .or_insert_with(|| task.spec.clone());
                if *shared == task.spec {
                    task.spec = shared.clone();
                }
            }
            Object::Node(_)
            | Object::Cluster(_)
            | Object::Secret(_)
            | Object::Config(_)
            | Object::Network(_) => {}
        }
        state.put(object);
    }
    for given in message.last_given {
        let (network, subnet, address) = last_given(&given).map_err(wrong)?;
        state.holdings.given(network, subnet, address);
    }
    state.version = Version {
        index: message.index,
    };
    Ok(state)
}

fn last_given(message: &wire::LastGiven) -> Result<(NetworkId, IpNet, IpAddr), DecodeError> {
    Ok((
        parse_id("last_given.network_id", &message.network_id)?,
        parse("last_given.subnet", &message.subnet)?,
        parse("last_given.address", &message.address)?,
    ))
}

fn object_to_wire(object: &Object) -> wire::Object {
    use wire::object::Object as Wire;
    let object = match object {
        Object::Node(o) => Wire::Node((&**o).into()),
        Object::Service(o) => Wire::Service((&**o).into()),
        Object::Task(o) => Wire::Task((&**o).into()),
        Object::Cluster(o) => Wire::Cluster((&**o).into()),
        Object::Secret(o) => Wire::Secret((&**o).into()),
        Object::Config(o) => Wire::Config((&**o).into()),
        Object::Network(o) => Wire::Network((&**o).into()),
    };
    wire::Object {
        object: Some(object),
    }
}

fn object_from_wire(message: wire::Object) -> Result<Object, DecodeError> {
    use wire::object::Object as Wire;
    Ok(
        match message.object.ok_or(DecodeError::Missing("object"))? {
            Wire::Node(o) => Object::Node(Arc::new(o.try_into()?)),
            Wire::Service(o) => Object::Service(Arc::new(o.try_into()?)),
            Wire::Task(o) => Object::Task(Arc::new(o.try_into()?)),
            Wire::Cluster(o) => Object::Cluster(Arc::new(o.try_into()?)),
            Wire::Secret(o) => Object::Secret(Arc::new(o.try_into()?)),
            Wire::Config(o) => Object::Config(Arc::new(o.try_into()?)),
            Wire::Network(o) => Object::Network(Arc::new(o.try_into()?)),
        },
    )
}

fn action_to_wire(action: &Action) -> wire::Action {
    use wire::action::Action as Wire;
    let action = match action {
        Action::Create(object) => Wire::Create(object_to_wire(object)),
        Action::Update(object) => Wire::Update(object_to_wire(object)),
        Action::Remove { id, version } => {
            let (kind, id) = id_to_wire(*id);
            let version = version.map_or(0, |version| version.index);
            Wire::Remove(wire::Removal {
                kind: kind.into(),
                id,
                version,
            })
        }
        Action::TaskStatus { task, status } => Wire::TaskStatus(wire::TaskStatusReport {
            task_id: task.to_string(),
            status: Some(status.into()),
        }),
        Action::TaskDesired { task, desired } => Wire::TaskDesired(wire::TaskDesired {
            task_id: task.to_string(),
            desired_state: desired.number().into(),
        }),
        Action::TaskAssign { task, node, status } => Wire::TaskAssign(wire::TaskAssignment {
            task_id: task.to_string(),
            node_id: node.to_string(),
            status: Some(status.into()),
        }),
        Action::TaskAllocate {
            task,
            attachments,
            host_ports,
            status,
        } => Wire::TaskAllocate(wire::TaskAllocation {
            task_id: task.to_string(),
            attachments: attachments.iter().map(Into::into).collect(),
            host_ports: host_ports.iter().map(Into::into).collect(),
            status: Some(status.into()),
        }),
        Action::TaskConnect { task, place } => Wire::TaskConnect(wire::TaskConnection {
            task_id: task.to_string(),
            place: Some(place.into()),
        }),
        Action::TaskDisconnect { task, network } => Wire::TaskDisconnect(wire::TaskDisconnection {
            task_id: task.to_string(),
            network_id: network.to_string(),
        }),
        Action::ServiceEndpoint { service, endpoint } => {
            Wire::ServiceEndpoint(wire::ServiceAllocation {
                service_id: service.to_string(),
                endpoint: Some(endpoint.into()),
            })
        }
        Action::NodeStatus {
            node,
            status,
            description,
        } => Wire::NodeStatus(wire::NodeStatusReport {
            node_id: node.to_string(),
            status: Some(status.into()),
            description: description.as_ref().map(Into::into),
        }),
    };
    wire::Action {
        action: Some(action),
    }
}

fn action_from_wire(message: wire::Action) -> Result<Action, DecodeError> {
    use wire::action::Action as Wire;
    Ok(
        match message.action.ok_or(DecodeError::Missing("action"))? {
            Wire::Create(object) => Action::Create(object_from_wire(object)?),
            Wire::Update(object) => Action::Update(object_from_wire(object)?),
            Wire::Remove(removal) => {
                let version = (removal.version != 0).then_some(Version {
                    index: removal.version,
                });
                Action::Remove {
                    id: id_from_wire(removal.kind(), &removal.id)?,
                    version,
                }
            }
            Wire::TaskStatus(report) => Action::TaskStatus {
                task: parse_id("task_id", &report.task_id)?,
                status: required("status", report.status)?,
            },
            Wire::TaskDesired(wanted) => Action::TaskDesired {
                task: parse_id("task_id", &wanted.task_id)?,
                desired: u16::try_from(wanted.desired_state)
                    .ok()
                    .and_then(TaskState::from_number)
                    .ok_or(DecodeError::Missing("a known desired state"))?,
            },
            Wire::TaskAssign(assignment) => Action::TaskAssign {
                task: parse_id("task_id", &assignment.task_id)?,
                node: parse_id("node_id", &assignment.node_id)?,
                status: required("status", assignment.status)?,
            },
            Wire::TaskAllocate(given) => Action::TaskAllocate {
                task: parse_id("task_id", &given.task_id)?,
                attachments: all(given.attachments)?,
                host_ports: all(given.host_ports)?,
                status: required("status", given.status)?,
            },
            Wire::TaskConnect(given) => Action::TaskConnect {
                task: parse_id("task_id", &given.task_id)?,
                place: required("place", given.place)?,
            },
            Wire::TaskDisconnect(given) => Action::TaskDisconnect {
                task: parse_id("task_id", &given.task_id)?,
                network: parse_id("network_id", &given.network_id)?,
            },
            Wire::ServiceEndpoint(given) => Action::ServiceEndpoint {
                service: parse_id("service_id", &given.service_id)?,
                endpoint: required("endpoint", given.endpoint)?,
            },
            Wire::NodeStatus(report) => Action::NodeStatus {
                node: parse_id("node_id", &report.node_id)?,
                status: required("status", report.status)?,
                description: report.description.map(TryInto::try_into).transpose()?,
            },
        },
    )
}

fn id_to_wire(id: ObjectId) -> (wire::Kind, String) {
    match id {
        ObjectId::Node(id) => (wire::Kind::Node, id.to_string()),
        ObjectId::Service(id) => (wire::Kind::Service, id.to_string()),
        ObjectId::Task(id) => (wire::Kind::Task, id.to_string()),
        ObjectId::Cluster(id) => (wire::Kind::Cluster, id.to_string()),
        ObjectId::Secret(id) => (wire::Kind::Secret, id.to_string()),
        ObjectId::Config(id) => (wire::Kind::Config, id.to_string()),
        ObjectId::Network(id) => (wire::Kind::Network, id.to_string()),
    }
}

fn id_from_wire(kind: wire::Kind, id: &str) -> Result<ObjectId, DecodeError> {
    let kind = match kind {
        wire::Kind::Node => Kind::Node,
        wire::Kind::Service => Kind::Service,
        wire::Kind::Task => Kind::Task,
        wire::Kind::Cluster => Kind::Cluster,
        wire::Kind::Secret => Kind::Secret,
        wire::Kind::Config => Kind::Config,
        wire::Kind::Network => Kind::Network,
    };
    Ok(match kind {
        Kind::Node => ObjectId::Node(parse_id("id", id)?),
        Kind::Service => ObjectId::Service(parse_id("id", id)?),
        Kind::Task => ObjectId::Task(parse_id("id", id)?),
        Kind::Cluster => ObjectId::Cluster(parse_id("id", id)?),
        Kind::Secret => ObjectId::Secret(parse_id("id", id)?),
        Kind::Config => ObjectId::Config(parse_id("id", id)?),
        Kind::Network => ObjectId::Network(parse_id("id", id)?),
    })
}

fn parse_id<I: std::str::FromStr>(field: &'static str, text: &str) -> Result<I, DecodeError> {
    text.parse().map_err(|_| {
        DecodeError::Field(ConvertError {
            field,
            problem: format!("{text:?} is not an id"),
        })
    })
}

fn parse<T>(field: &'static str, text: &str) -> Result<T, DecodeError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse().map_err(|error| {
        DecodeError::Field(ConvertError {
            field,
            problem: format!("{text:?}: {error}"),
        })
    })
}

fn required<T, U>(field: &'static str, message: Option<T>) -> Result<U, DecodeError>
where
    U: TryFrom<T, Error = ConvertError>,
{
    Ok(message.ok_or(DecodeError::Missing(field))?.try_into()?)
}

fn all<T, U>(messages: Vec<T>) -> Result<Vec<U>, DecodeError>
where
    U: TryFrom<T, Error = ConvertError>,
{
    let values = messages.into_iter().map(TryInto::try_into);
    Ok(values.collect::<Result<_, ConvertError>>()?)
}

fn reason_to_wire(reason: RefusalReason) -> wire::RefusalReason {
    match reason {
        RefusalReason::Malformed => wire::RefusalReason::Malformed,
        RefusalReason::Exists => wire::RefusalReason::Exists,
        RefusalReason::NameTaken => wire::RefusalReason::NameTaken,
        RefusalReason::NotFound => wire::RefusalReason::NotFound,
        RefusalReason::Stale => wire::RefusalReason::Stale,
        RefusalReason::Conflict => wire::RefusalReason::Conflict,
        RefusalReason::InUse => wire::RefusalReason::InUse,
    }
}

fn reason_from_wire(reason: wire::RefusalReason) -> RefusalReason {
    match reason {
        wire::RefusalReason::Malformed => RefusalReason::Malformed,
        wire::RefusalReason::Exists => RefusalReason::Exists,
        wire::RefusalReason::NameTaken => RefusalReason::NameTaken,
        wire::RefusalReason::NotFound => RefusalReason::NotFound,
        wire::RefusalReason::Stale => RefusalReason::Stale,
        wire::RefusalReason::Conflict => RefusalReason::Conflict,
        wire::RefusalReason::InUse => RefusalReason::InUse,
    }
}

#[cfg(test)]
mod tests;
