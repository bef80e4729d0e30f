//! Applying a transaction: every check, then every change, the same on each manager.

mod content;

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;
use types::network::{Endpoint, NetworkAttachment, PublishedPort};
use types::node::{Availability, NodeDescription, NodeState, NodeStatus};
use types::{
    Meta, NetworkId, Node, NodeId, Service, ServiceId, Task, TaskId, TaskState, TaskStatus,
    Timestamp, Version,
};

use crate::{Action, Change, Object, ObjectId, Refusal, RefusalReason, State, Transaction};

impl State {
    /// Applies a transaction as number `version`, whole or not at all.
    ///
    /// The version moves on even when the transaction is refused: it counts log entries.
    ///
    /// # Errors
    /// The first action that was refused, and why.
    pub fn apply(
        &mut self,
        version: Version,
        transaction: &Transaction,
    ) -> Result<Vec<Change>, Refusal> {
        debug_assert!(version > self.version, "log entries apply in order");
        let mut step = Step {
            state: self.clone(),
            version,
            now: transaction.now,
            changes: vec![],
        };
        for (index, action) in transaction.actions.iter().enumerate() {
            if let Err((reason, object)) = step.act(action) {
                self.version = version;
                return Err(Refusal {
                    action: index,
                    reason,
                    object,
                });
            }
        }
        let Step {
            mut state, changes, ..
        } = step;
        state.version = version;
        *self = state;
        Ok(changes)
    }
}

/// A transaction half-way through, on a copy of the state.
struct Step {
    state: State,
    version: Version,
    now: Timestamp,
    changes: Vec<Change>,
}

type Checked = Result<(), (RefusalReason, String)>;

impl Step {
    fn act(&mut self, action: &Action) -> Checked {
        match action {
            Action::Create(object) => self.create(object.clone()),
            Action::Update(object) => self.update(object.clone()),
            Action::Remove { id, version } => self.remove(*id, *version),
            Action::TaskStatus { task, status } => {
                self.task_status(*task, status);
                Ok(())
            }
            Action::TaskDesired { task, desired } => {
                self.task_desired(*task, *desired);
                Ok(())
            }
            Action::TaskAssign { task, node, status } => {
                self.task_assign(*task, *node, status);
                Ok(())
            }
            Action::TaskAllocate {
                task,
                attachments,
                host_ports,
                status,
            } => {
                self.task_allocate(*task, attachments, host_ports, status);
                Ok(())
            }
            Action::TaskConnect { task, place } => self.task_connect(*task, place),
            Action::TaskDisconnect { task, network } => self.task_disconnect(*task, *network),
            Action::ServiceEndpoint { service, endpoint } => {
                self.service_endpoint(*service, endpoint);
                Ok(())
            }
            Action::NodeStatus {
                node,
                status,
                description,
            } => {
                self.node_status(*node, status, description.as_ref());
                Ok(())
            }
        }
    }

    fn create(&mut self, object: Object) -> Checked {
        let id = object.id();
        let taken = match &object {
            // There is one cluster, whatever its id.
            Object::Cluster(_) => self.state.cluster.is_some(),
            Object::Node(_)
            | Object::Service(_)
            | Object::Task(_)
            | Object::Secret(_)
            | Object::Config(_)
            | Object::Network(_) => self.state.object(id).is_some(),
        };
        if taken {
            return Err((RefusalReason::Exists, id.to_string()));
        }
        self.check_name(&object)?;
        self.check_conflicts(&object)?;
        self.check_references(&object)?;
        let meta = Meta {
            version: self.version,
            created_at: self.now,
            updated_at: self.now,
        };
        let object = match object {
            Object::Service(mut service) => {
                Arc::make_mut(&mut service).spec_version = self.version;
                Object::Service(service)
            }
            Object::Task(task) => Object::Task(self.share_spec(task)),
            Object::Node(node) => Object::Node(self.with_index(node)),
            Object::Cluster(_) | Object::Secret(_) | Object::Config(_) | Object::Network(_) => {
                object
            }
        };
        self.put(object.with_meta(meta));
        Ok(())
    }

    fn update(&mut self, object: Object) -> Checked {
        let id = object.id();
        let old = self.stored(id, Some(object.meta().version))?;
        self.check_name(&object)?;
        let object = content::keep_data(object, &old)?;
        self.check_references(&object)?;
        let object = match (object, &old) {
            (Object::Service(mut service), Object::Service(old)) => {
                if service.spec != old.spec {
                    self.state.check_service(service.id, &service.spec)?;
                }
                // Only the allocator gives, whatever the sender read.
                Arc::make_mut(&mut service).endpoint = old.endpoint.clone();
                if service.spec == old.spec {
                    // Equal content keeps sharing the stored spec with the tasks made from it.
                    let service = Arc::make_mut(&mut service);
                    service.spec = old.spec.clone();
                    service.spec_version = old.spec_version;
                } else {
                    let service = Arc::make_mut(&mut service);
                    service.spec_version = self.version;
                    if service.spec.task == old.spec.task {
                        service.spec.task = old.spec.task.clone();
                    }
                }
                Object::Service(service)
            }
            (Object::Network(network), _) => {
                self.state.check_network(&network)?;
                Object::Network(network)
            }
            (Object::Node(mut node), Object::Node(old)) => {
                Arc::make_mut(&mut node).network_index = old.network_index;
                Object::Node(self.with_index(node))
            }
            (object, _) => object,
        };
        let meta = Meta {
            version: self.version,
            updated_at: self.now,
            ..*old.meta()
        };
        self.put(object.with_meta(meta));
        Ok(())
    }

    fn remove(&mut self, id: ObjectId, version: Option<Version>) -> Checked {
        self.stored(id, version)?;
        if let ObjectId::Network(id) = id {
            self.state.check_network_removal(id)?;
        }
        self.check_unused(id)?;
        let old = self.state.take(id);
        self.changes.push(Change { old, new: None });
        Ok(())
    }

    fn task_status(&mut self, id: TaskId, status: &TaskStatus) {
        let Some(task) = self.state.task(id) else {
            return;
        };
        if status.state < task.status.state {
            return;
        }
        let status = TaskStatus {
            applied_at: self.now,
            ..status.clone()
        };
        self.put_task(Task {
            status,
            ..Task::clone(task)
        });
    }

    fn task_desired(&mut self, id: TaskId, desired: TaskState) {
        let Some(task) = self.state.task(id) else {
            return;
        };
        if desired > task.desired_state {
            self.put_task(Task {
                desired_state: desired,
                ..Task::clone(task)
            });
        }
    }

    fn task_assign(&mut self, id: TaskId, node: NodeId, status: &TaskStatus) {
        let Some(task) = self.state.task(id) else {
            return;
        };
        let waits = task.status.state == TaskState::Pending
            && task.desired_state <= TaskState::Complete
            && task.node_id.is_none_or(|chosen| chosen == node);
        let takes = self.state.node(node).is_some_and(|node| {
            node.status.state == NodeState::Ready && node.spec.availability == Availability::Active
        });
        if waits && takes {
            let status = TaskStatus {
                applied_at: self.now,
                ..status.clone()
            };
            self.put_task(Task {
                status,
                node_id: Some(node),
                ..Task::clone(task)
            });
        }
    }

    fn task_allocate(
        &mut self,
        id: TaskId,
        attachments: &[NetworkAttachment],
        host_ports: &[PublishedPort],
        status: &TaskStatus,
    ) {
        let Some(task) = self.state.task(id) else {
            return;
        };
        let is_free = attachments.iter().all(|attachment| {
            let mut addresses = attachment.addresses.iter();
            let held = |net: &IpNet| self.state.holdings().holder(attachment.network, net.addr());
            self.state.network(attachment.network).is_some()
                && addresses.all(|net| held(net).is_none())
        });
        if task.status.state != TaskState::New || !is_free {
            return;
        }
        let status = TaskStatus {
            applied_at: self.now,
            ..status.clone()
        };
        self.put_task(Task {
            attachments: attachments.to_vec(),
            host_ports: host_ports.to_vec(),
            status,
            ..Task::clone(task)
        });
        for attachment in attachments {
            for net in &attachment.addresses {
                self.note_given(attachment.network, *net);
            }
        }
    }

    fn task_connect(&mut self, id: TaskId, place: &NetworkAttachment) -> Checked {
        self.state.check_connection(id, place)?;
        if let Some(task) = self.state.task(id) {
            let mut task = Task::clone(task);
            task.attachments.push(place.clone());
            self.put_task(task);
        }
        for net in &place.addresses {
            self.note_given(place.network, *net);
        }
        Ok(())
    }

    fn task_disconnect(&mut self, id: TaskId, network: NetworkId) -> Checked {
        self.state.check_disconnection(id, network)?;
        if let Some(task) = self.state.task(id) {
            let mut task = Task::clone(task);
            task.attachments.retain(|place| place.network != network);
            self.put_task(task);
        }
        Ok(())
    }

    fn service_endpoint(&mut self, id: ServiceId, endpoint: &Endpoint) {
        let Some(service) = self.state.service(id).cloned() else {
            return;
        };
        if service.spec.endpoint != endpoint.spec || !self.state.is_free_for(&service, endpoint) {
            return;
        }
        let new = endpoint.virtual_ips.iter();
        let new: Vec<_> = new
            .filter(|vip| !service.endpoint.virtual_ips.contains(vip))
            .copied()
            .collect();
        self.put(Object::from(Service {
            endpoint: endpoint.clone(),
            ..Service::clone(&service)
        }));
        for vip in new {
            self.note_given(vip.network, vip.address);
        }
    }

    /// Notes which address was given last; a successor of this leader goes on after it.
    fn note_given(&mut self, network: NetworkId, net: IpNet) {
        self.state.holdings.given(network, net.trunc(), net.addr());
    }

    /// The node with an index of its own: the lowest free one, from 1.
    fn with_index(&self, mut node: Arc<Node>) -> Arc<Node> {
        let others = self.state.nodes().filter(|other| other.id != node.id);
        let taken: BTreeSet<u32> = others.map(|other| other.network_index).collect();
        if node.network_index == 0 || taken.contains(&node.network_index) {
            let free = (1..=u32::MAX).find(|index| !taken.contains(index));
            Arc::make_mut(&mut node).network_index = free.expect("there are fewer nodes than that");
        }
        node
    }

    fn node_status(
        &mut self,
        id: NodeId,
        status: &NodeStatus,
        description: Option<&NodeDescription>,
    ) {
        let Some(node) = self.state.node(id) else {
            return;
        };
        let mut node = types::Node::clone(node);
        node.status = status.clone();
        if let Some(description) = description {
            node.description = Some(description.clone());
        }
        node.meta.version = self.version;
        node.meta.updated_at = self.now;
        self.put(Object::from(node));
    }

    /// The stored object, if it exists and, where asked, still has `version`.
    fn stored(
        &self,
        id: ObjectId,
        version: Option<Version>,
    ) -> Result<Object, (RefusalReason, String)> {
        let Some(old) = self.state.object(id) else {
            return Err((RefusalReason::NotFound, id.to_string()));
        };
        match version {
            Some(version) if version != old.meta().version => {
                Err((RefusalReason::Stale, id.to_string()))
            }
            Some(_) | None => Ok(old),
        }
    }

    /// Names are unique within a kind, but for those of nodes (S1.04).
    fn check_name(&self, object: &Object) -> Checked {
        let (name, holder) = match object {
            Object::Node(_) | Object::Task(_) | Object::Cluster(_) => return Ok(()),
            Object::Service(o) => {
                let holder = self.state.service_by_name(&o.spec.name);
                (&o.spec.name, holder.map(|o| ObjectId::Service(o.id)))
            }
            Object::Secret(o) => {
                let holder = self.state.secret_by_name(&o.spec.name);
                (&o.spec.name, holder.map(|o| ObjectId::Secret(o.id)))
            }
            Object::Config(o) => {
                let holder = self.state.config_by_name(&o.spec.name);
                (&o.spec.name, holder.map(|o| ObjectId::Config(o.id)))
            }
            Object::Network(o) => {
                let holder = self.state.network_by_name(&o.spec.name);
                (&o.spec.name, holder.map(|o| ObjectId::Network(o.id)))
            }
        };
        match holder {
            Some(holder) if holder != object.id() => Err((
                RefusalReason::NameTaken,
                format!("{} {name}", object.id().kind()),
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn check_conflicts(&self, object: &Object) -> Checked {
        match object {
            Object::Service(service) => self.state.check_service(service.id, &service.spec),
            Object::Network(network) => self.state.check_network(network),
            Object::Node(_)
            | Object::Task(_)
            | Object::Cluster(_)
            | Object::Secret(_)
            | Object::Config(_) => Ok(()),
        }
    }

    /// Tasks made from the service's current spec share it instead of holding a copy each.
    fn share_spec(&self, mut task: Arc<Task>) -> Arc<Task> {
        if let Some(service) = self.state.service(task.service_id)
            && service.spec.task == task.spec
        {
            Arc::make_mut(&mut task).spec = service.spec.task.clone();
        }
        task
    }

    fn put_task(&mut self, mut task: Task) {
        task.meta.version = self.version;
        task.meta.updated_at = self.now;
        self.put(Object::from(task));
    }

    fn put(&mut self, object: Object) {
        let new = Some(object.clone());
        let old = self.state.put(object);
        self.changes.push(Change { old, new });
    }
}

#[cfg(test)]
mod tests;
