//! Finding what a user means: full id, then exact name, then unique prefix of an id (S1.03).

use std::sync::Arc;

use store::{Kind, State};
use types::{
    Config, ConfigId, Network, NetworkId, Node, NodeId, Secret, SecretId, Service, ServiceId, Task,
    TaskId,
};

use crate::Error;

/// The node called `key`; `self` is the one that answers.
pub(crate) fn node<'a>(
    state: &'a State,
    key: &str,
    self_id: NodeId,
) -> Result<&'a Arc<Node>, Error> {
    if key == "self" {
        return state
            .node(self_id)
            .ok_or_else(|| not_found(Kind::Node, key));
    }
    if let Some(node) = key.parse::<NodeId>().ok().and_then(|id| state.node(id)) {
        return Ok(node);
    }
    let named = state.nodes().filter(|node| {
        node.description
            .as_ref()
            .is_some_and(|it| it.hostname.eq_ignore_ascii_case(key))
    });
    if let Some(node) = only(named, Kind::Node, key)? {
        return Ok(node);
    }
    by_prefix(state.nodes(), |node| node.id.as_str(), Kind::Node, key)
}

/// The service called `key`.
pub(crate) fn service<'a>(state: &'a State, key: &str) -> Result<&'a Arc<Service>, Error> {
    if let Some(service) = key
        .parse::<ServiceId>()
        .ok()
        .and_then(|id| state.service(id))
    {
        return Ok(service);
    }
    if let Some(service) = state.service_by_name(key) {
        return Ok(service);
    }
    by_prefix(
        state.services(),
        |service| service.id.as_str(),
        Kind::Service,
        key,
    )
}

/// The secret called `key`.
pub(crate) fn secret<'a>(state: &'a State, key: &str) -> Result<&'a Arc<Secret>, Error> {
    let by_id = key.parse::<SecretId>().ok().and_then(|id| state.secret(id));
    match by_id.or_else(|| state.secret_by_name(key)) {
        Some(secret) => Ok(secret),
        None => by_prefix(state.secrets(), |it| it.id.as_str(), Kind::Secret, key),
    }
}

/// The config called `key`.
pub(crate) fn config<'a>(state: &'a State, key: &str) -> Result<&'a Arc<Config>, Error> {
    let by_id = key.parse::<ConfigId>().ok().and_then(|id| state.config(id));
    match by_id.or_else(|| state.config_by_name(key)) {
        Some(config) => Ok(config),
        None => by_prefix(state.configs(), |it| it.id.as_str(), Kind::Config, key),
    }
}

/// The network called `key`; those every node has are no objects.
pub(crate) fn network<'a>(state: &'a State, key: &str) -> Result<&'a Arc<Network>, Error> {
    if let Some(network) = key
        .parse::<NetworkId>()
        .ok()
        .and_then(|id| state.network(id))
    {
        return Ok(network);
    }
    if let Some(network) = state.network_by_name(key) {
        return Ok(network);
    }
    by_prefix(
        state.networks(),
        |network| network.id.as_str(),
        Kind::Network,
        key,
    )
}

/// The task called `key`: by id, by `service.slot` or `service.node`, by prefix of its id.
///
/// A name means the live task of the slot; only without a single live one is it ambiguous.
pub(crate) fn task<'a>(state: &'a State, key: &str) -> Result<&'a Arc<Task>, Error> {
    if let Some(task) = key.parse::<TaskId>().ok().and_then(|id| state.task(id)) {
        return Ok(task);
    }
    let service = key
        .rsplit_once('.')
        .and_then(|(name, _)| state.service_by_name(name));
    if let Some(service) = service {
        let named: Vec<_> = state
            .tasks_of_service(service.id)
            .filter(|task| task.name().eq_ignore_ascii_case(key))
            .collect();
        let mut live = named.iter().filter(|task| task.is_runnable());
        if let (Some(task), None) = (live.next(), live.next()) {
            return Ok(task);
        }
        if let Some(task) = only(named.into_iter(), Kind::Task, key)? {
            return Ok(task);
        }
    }
    by_prefix(state.tasks(), |task| task.id.as_str(), Kind::Task, key)
}

fn by_prefix<'a, T>(
    all: impl Iterator<Item = &'a Arc<T>>,
    id: impl Fn(&T) -> &str,
    kind: Kind,
    key: &str,
) -> Result<&'a Arc<T>, Error> {
    if key.is_empty() {
        return Err(not_found(kind, "\"\""));
    }
    only(all.filter(|object| id(object).starts_with(key)), kind, key)?
        .ok_or_else(|| not_found(kind, key))
}

/// The one object there is; none when there is none; an error when there are more.
fn only<T>(
    mut matches: impl Iterator<Item = T>,
    kind: Kind,
    key: &str,
) -> Result<Option<T>, Error> {
    let first = matches.next();
    match matches.count() {
        0 => Ok(first),
        more => Err(Error::Ambiguous {
            kind,
            key: key.to_owned(),
            count: more + 1,
        }),
    }
}

fn not_found(kind: Kind, key: &str) -> Error {
    Error::NotFound {
        kind,
        key: key.to_owned(),
    }
}

#[cfg(test)]
mod tests;
