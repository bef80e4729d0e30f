//! Networks that users connect running tasks to, beyond those of their services.

use types::network::NetworkAttachment;
use types::{NetworkId, Task, TaskId, TaskState};

use crate::{AddressRange, RefusalReason, State};

/// Why not, and about what.
type Refused<T = ()> = Result<T, (RefusalReason, String)>;

impl State {
    /// Whether a running task can be given a place on one more network.
    ///
    /// # Errors
    /// The first thing that stands in the way; [`RefusalReason::Stale`] when only the address does,
    /// because somebody else holds it.
    pub fn check_connection(&self, id: TaskId, place: &NetworkAttachment) -> Refused {
        let conflict = |text| Err((RefusalReason::Conflict, text));
        let task = self.connectable(id)?;
        let network = self.network(place.network);
        let Some(network) = network else {
            return Err((
                RefusalReason::NotFound,
                format!("network {}", place.network),
            ));
        };
        let name = &network.spec.name;
        if !network.spec.driver.is_global() {
            return conflict(format!(
                "network {name} ends at each node: tasks are connected to overlay networks; update \
                 the service with --network-add {name} instead"
            ));
        }
        if !network.spec.attachable {
            return conflict(format!(
                "network {name} is not attachable: make it with `network create --attachable`, or \
                 update the service with --network-add {name}"
            ));
        }
        if task.attachments.iter().any(|one| one.network == network.id) {
            return conflict(format!("task {} is on network {name} already", task.name()));
        }
        for address in &place.addresses {
            let subnet = network
                .subnets
                .iter()
                .find(|subnet| subnet.subnet == address.trunc());
            let is_given = |address| {
                subnet.is_some_and(|subnet| AddressRange::of(network, subnet).contains(address))
            };
            if !is_given(address.addr()) {
                let subnets: Vec<_> = network
                    .subnets
                    .iter()
                    .map(|it| it.subnet.to_string())
                    .collect();
                return conflict(format!(
                    "{} is no address that network {name} gives: its subnets are {}",
                    address.addr(),
                    subnets.join(", ")
                ));
            }
            if self.holdings().holder(network.id, address.addr()).is_some() {
                return Err((RefusalReason::Stale, format!("address {}", address.addr())));
            }
        }
        Ok(())
    }

    /// Whether a task's place on a network can be taken away again.
    ///
    /// # Errors
    /// When the task is not there, or by its service's wish.
    pub fn check_disconnection(&self, id: TaskId, network: NetworkId) -> Refused {
        let task = self.connectable(id)?;
        let found = self.network(network);
        let name = found.map_or_else(|| network.to_string(), |found| found.spec.name.clone());
        let conflict = |text| Err((RefusalReason::Conflict, text));
        if !task.attachments.iter().any(|one| one.network == network) {
            return conflict(format!("task {} is not on network {name}", task.name()));
        }
        let mut asked = task.spec.networks.iter();
        let is_asked = asked.any(|one| one.target.parse() == Ok(network));
        if is_asked || found.is_some_and(|found| found.spec.ingress) {
            return conflict(format!(
                "task {} is on network {name} because service {} is: update the service with \
                 --network-rm {name}, or with --publish-rm for ingress",
                task.name(),
                task.service_name
            ));
        }
        Ok(())
    }

    /// A task whose networks can change: it has a container, in a network namespace of its own.
    fn connectable(&self, id: TaskId) -> Refused<&Task> {
        let Some(task) = self.task(id) else {
            return Err((RefusalReason::NotFound, format!("task {id}")));
        };
        let conflict = |text| Err((RefusalReason::Conflict, text));
        if task.status.state != TaskState::Running || !task.is_runnable() {
            return conflict(format!(
                "task {} is {}: only networks of running tasks change",
                task.name(),
                task.status.state
            ));
        }
        let mut asked = task.spec.networks.iter();
        if let Some(alone) = asked.find(|one| matches!(one.target.as_str(), "host" | "none")) {
            return conflict(format!(
                "task {} is on network {}, which goes with no other",
                task.name(),
                alone.target
            ));
        }
        Ok(task)
    }
}
