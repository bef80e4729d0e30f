//! Making, reading and removing networks.

mod connect;
mod target;
mod verify;
mod view;

use std::sync::Arc;

use store::{Action, Kind, Object, ObjectId, PREDEFINED};
use types::id::RandomIds;
use types::{Meta, Network, NetworkId, NetworkSpec};

use crate::{ControlApi, Error, key, validate};

pub use connect::Connection;
pub(crate) use target::resolve;
pub use verify::NetworkChecks;
pub use view::{NetworkDetails, NetworkPeer, NetworkService, NetworkTask, NetworkView, SubnetUse};

impl ControlApi {
    /// Makes a network.
    ///
    /// # Errors
    /// When the spec is not valid, its name is taken, or a range of it belongs to another network.
    pub async fn create_network(&self, mut spec: NetworkSpec) -> Result<CreatedNetwork, Error> {
        let state = self.state();
        let encrypt_all = state
            .cluster()
            .is_some_and(|cluster| cluster.spec.network.encrypt_all);
        spec.encrypted |= encrypt_all && spec.driver.is_global();
        validate::network_spec(&spec)?;
        if validate::is_reserved_label(&spec.labels) {
            return Err(Error::Precondition(
                "label com.docker.swarm.predefined marks networks the daemon made: leave it out"
                    .to_owned(),
            ));
        }
        if state.network_by_name(&spec.name).is_some() || predefined(&spec.name).is_some() {
            return Err(Error::NameTaken {
                kind: Kind::Network,
                name: spec.name,
            });
        }
        let network = Network {
            id: NetworkId::generate(&mut RandomIds),
            meta: Meta::default(),
            spec,
            subnets: vec![],
        };
        // Both are checked again when applied: this saves a round, and says it in words.
        state.check_network(&network).map_err(Error::from_check)?;
        let warnings = match store::subnets::choose(&state, &network) {
            Ok(_) => vec![],
            Err(error @ store::subnets::Error::Exhausted { .. }) => {
                vec![format!("the network has no subnet yet: {error}")]
            }
            Err(error) => return Err(Error::Precondition(error.to_string())),
        };
        let id = network.id;
        self.propose(vec![Action::Create(Object::from(network))])
            .await?;
        let state = self.state();
        let network = state.network(id).cloned().ok_or_else(|| Error::NotFound {
            kind: Kind::Network,
            key: id.to_string(),
        })?;
        Ok(CreatedNetwork { network, warnings })
    }

    /// Every network: those every node has first, then by name.
    #[must_use]
    pub fn list_networks(&self) -> Vec<NetworkView> {
        let state = self.state();
        let mut networks: Vec<_> = state.networks().cloned().collect();
        networks.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        let known = PREDEFINED.iter().map(|driver| view::predefined(*driver));
        let stored = networks.iter().map(|network| view::of(&state, network));
        known.chain(stored).collect()
    }

    /// The network called `key`, with who is on it.
    ///
    /// # Errors
    /// When nothing or several are called so.
    pub fn get_network(&self, key: &str) -> Result<NetworkDetails, Error> {
        if let Some(driver) = predefined(key) {
            return Ok(NetworkDetails::of_predefined(driver));
        }
        let state = self.state();
        let network = key::network(&state, key)?;
        Ok(NetworkDetails::of(&state, network))
    }

    /// Removes the network called `key`.
    ///
    /// # Errors
    /// When nothing or several are called so, or somebody is on it.
    pub async fn remove_network(&self, key: &str) -> Result<Arc<Network>, Error> {
        if predefined(key).is_some() {
            return Err(Error::Precondition(format!(
                "{key} is a predefined network: every node has it, it cannot be removed"
            )));
        }
        let state = self.state();
        let network = key::network(&state, key)?.clone();
        state
            .check_network_removal(network.id)
            .map_err(Error::from_check)?;
        self.propose(vec![Action::Remove {
            id: ObjectId::Network(network.id),
            version: None,
        }])
        .await?;
        Ok(network)
    }
}

/// A network as made.
#[derive(Clone, Debug)]
pub struct CreatedNetwork {
    /// The network as stored now.
    pub network: Arc<Network>,
    /// What is allowed but will hardly be what the user wants, one sentence each.
    pub warnings: Vec<String>,
}

/// The driver whose only network is called so on every node.
fn predefined(name: &str) -> Option<types::network::NetworkDriver> {
    PREDEFINED
        .into_iter()
        .find(|driver| driver.to_string().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests;
