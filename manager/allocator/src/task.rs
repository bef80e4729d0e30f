//! What a task gets: a place on each of its networks.

use store::{Action, Holder};
use types::network::{NetworkAttachment, PublishedPort};
use types::{Service, Task, TaskState, TaskStatus, Timestamp};

use crate::allocator::{Lack, Round};

/// The task's places on networks: those of its spec, and ingress when its service publishes ports.
pub(crate) fn attachments(
    round: &mut Round<'_>,
    task: &Task,
    service: &Service,
) -> Result<Vec<NetworkAttachment>, Lack> {
    let mut attachments = vec![];
    let outcome = fill(round, task, service, &mut attachments);
    if outcome.is_err() {
        // Another task may do with the rest.
        for attachment in &attachments {
            for address in &attachment.addresses {
                round.holdings.release(attachment.network, address.addr());
            }
        }
    }
    outcome.map(|()| attachments)
}

fn fill(
    round: &mut Round<'_>,
    task: &Task,
    service: &Service,
    attachments: &mut Vec<NetworkAttachment>,
) -> Result<(), Lack> {
    let holder = Holder::Task(task.id);
    for asked in &task.spec.networks {
        let Some(network) = round.network(&asked.target)? else {
            continue;
        };
        // Networks made on each node give their addresses there.
        let addresses = if network.spec.driver.is_global() {
            round.take(network, holder)?
        } else {
            vec![]
        };
        attachments.push(NetworkAttachment {
            network: network.id,
            addresses,
            aliases: asked.aliases.clone(),
        });
    }
    if let Some(ingress) = round.ingress_of(service)? {
        attachments.push(NetworkAttachment {
            network: ingress.id,
            addresses: round.take(ingress, holder)?,
            aliases: vec![],
        });
    }
    Ok(())
}

/// The action that gives a task what it holds and moves it on.
pub(crate) fn allocated(
    task: &Task,
    attachments: Vec<NetworkAttachment>,
    host_ports: Vec<PublishedPort>,
    now: Timestamp,
) -> Action {
    let status = TaskStatus {
        state: TaskState::Pending,
        timestamp: now,
        message: "pending task scheduling".to_owned(),
        ..TaskStatus::default()
    };
    if attachments.is_empty() && host_ports.is_empty() {
        return Action::TaskStatus {
            task: task.id,
            status,
        };
    }
    Action::TaskAllocate {
        task: task.id,
        attachments,
        host_ports,
        status,
    }
}

/// The action that tells users why a task waits; none when they know.
pub(crate) fn waiting(task: &Task, reason: String, now: Timestamp) -> Option<Action> {
    (task.status.err != reason).then(|| Action::TaskStatus {
        task: task.id,
        status: TaskStatus {
            state: TaskState::New,
            timestamp: now,
            message: "waiting for addresses".to_owned(),
            err: reason,
            ..TaskStatus::default()
        },
    })
}
