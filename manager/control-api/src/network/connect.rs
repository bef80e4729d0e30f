//! Connecting running tasks to attachable networks, and taking them off again (S17).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use store::{Action, Holder, ProposeError, RefusalReason, State};
use types::network::NetworkAttachment;
use types::{Network, Task};

use crate::{ControlApi, Error, Invalid, key, validate};

/// Tries for an address when others take the same one at the same time.
const TRIES_MAX: usize = 16;

/// How a task is to be on one more network.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// The network, by id, name or beginning of its id.
    pub network: String,
    /// The task, by id, name or beginning of its id.
    pub task: String,
    /// More names it is found by there.
    pub aliases: Vec<String>,
    /// Addresses to have there, at most one of each family; others are given.
    pub addresses: Vec<IpAddr>,
}

impl ControlApi {
    /// Gives a running task a place on an attachable network.
    ///
    /// # Errors
    /// When there is no such network or task, the network is not attachable, or has no address.
    pub async fn connect_network(&self, asked: &Connection) -> Result<NetworkAttachment, Error> {
        for (index, alias) in asked.aliases.iter().enumerate() {
            validate::name(&format!("Aliases[{index}]"), alias)?;
        }
        let mut tries = 0..TRIES_MAX;
        loop {
            let state = self.state();
            let (network, task) = find(&state, &asked.network, &asked.task)?;
            let addresses = addresses(&state, &network, &task, &asked.addresses)?;
            let place = NetworkAttachment {
                network: network.id,
                addresses,
                aliases: asked.aliases.clone(),
            };
            let taken = |address: String| {
                Error::Precondition(format!(
                    "{address} of network {} belongs to somebody else: leave --ip out to be given \
                     a free one",
                    network.spec.name
                ))
            };
            match state.check_connection(task.id, &place) {
                Err((RefusalReason::Stale, address)) => return Err(taken(address)),
                checked => checked.map_err(Error::from_check)?,
            }
            let action = Action::TaskConnect {
                task: task.id,
                place: place.clone(),
            };
            match self.proposer.propose(vec![action]).await {
                Ok(_) => return Ok(place),
                // Given to somebody else since: there may be another one.
                Err(ProposeError::Refused(refusal)) if refusal.reason == RefusalReason::Stale => {
                    if tries.next().is_none() {
                        return Err(taken(refusal.object));
                    }
                }
                Err(error) => return Err(Error::from_propose(error)),
            }
        }
    }

    /// Takes a task off a network it was connected to.
    ///
    /// # Errors
    /// When there is no such network or task, or the task is not there by a user's wish alone.
    pub async fn disconnect_network(&self, network: &str, task: &str) -> Result<(), Error> {
        let state = self.state();
        let (network, task) = find(&state, network, task)?;
        state
            .check_disconnection(task.id, network.id)
            .map_err(Error::from_check)?;
        let action = Action::TaskDisconnect {
            task: task.id,
            network: network.id,
        };
        self.propose(vec![action]).await.map(drop)
    }
}

fn find(state: &State, network: &str, task: &str) -> Result<(Arc<Network>, Arc<Task>), Error> {
    if super::predefined(network).is_some() {
        return Err(Error::Precondition(format!(
            "{network} is a predefined network: tasks are connected to attachable overlay \
             networks, made with `network create --attachable`"
        )));
    }
    let network = key::network(state, network)?;
    Ok((network.clone(), key::task(state, task)?.clone()))
}

/// One address of each family the network has: those asked for, else the next free ones, all of
/// one segment.
fn addresses(
    state: &State,
    network: &Network,
    task: &Task,
    asked: &[IpAddr],
) -> Result<Vec<IpNet>, Error> {
    for (index, address) in asked.iter().enumerate() {
        let before = asked[..index].iter();
        if before.clone().any(|one| one.is_ipv4() == address.is_ipv4()) {
            return Err(Invalid::new("IPAddress", "name one address of each family").into());
        }
        let mut subnets = network.subnets.iter();
        if !subnets.any(|subnet| subnet.subnet.contains(address)) {
            let all: Vec<_> = network
                .subnets
                .iter()
                .map(|it| it.subnet.to_string())
                .collect();
            return Err(Invalid::new(
                "IPAddress",
                format!(
                    "{address} is in no subnet of network {}: it has {}",
                    network.spec.name,
                    all.join(", ")
                ),
            )
            .into());
        }
    }
    let mut vnis: Vec<u32> = network.subnets.iter().map(|subnet| subnet.vni).collect();
    vnis.dedup();
    for vni in vnis {
        let segment: Vec<_> = network.subnets.iter().filter(|it| it.vni == vni).collect();
        let is_asked = |address: &IpAddr| segment.iter().any(|it| it.subnet.contains(address));
        if !asked.iter().all(is_asked) {
            continue;
        }
        let mut holdings = state.holdings().clone();
        let given = segment.iter().map(|subnet| {
            let chosen = asked
                .iter()
                .find(|address| subnet.subnet.contains(*address));
            let address = match chosen {
                Some(chosen) => *chosen,
                None => holdings.take(network, subnet, Holder::Task(task.id))?,
            };
            IpNet::new(address, subnet.subnet.prefix_len()).ok()
        });
        if let Some(given) = given.collect::<Option<Vec<_>>>() {
            return Ok(given);
        }
    }
    let name = &network.spec.name;
    let why = state.holdings().exhaustion(network);
    Err(Error::Precondition(why.unwrap_or_else(|| {
        format!("network {name} has no subnet yet, or none with all the addresses asked for")
    })))
}

#[cfg(test)]
mod tests {
    use types::{NetworkSpec, TaskState};

    use super::*;
    use crate::testing::Fixture;

    fn asked(task: &str, addresses: &[&str]) -> Connection {
        Connection {
            network: "side".to_owned(),
            task: task.to_owned(),
            aliases: vec!["probe".to_owned()],
            addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
        }
    }

    /// A network with subnets, as the allocator gives them.
    async fn network(fixture: &Fixture) -> Network {
        let network = Network {
            id: types::NetworkId::from_number(5),
            meta: types::Meta::default(),
            spec: NetworkSpec {
                name: "side".to_owned(),
                attachable: true,
                ..NetworkSpec::default()
            },
            subnets: vec![types::network::Subnet {
                subnet: "10.0.9.0/29".parse().unwrap(),
                gateway: "10.0.9.1".parse().unwrap(),
                vni: 4100,
            }],
        };
        fixture.put(network.clone()).await;
        network
    }

    async fn outcome(fixture: &Fixture, task: &str, addresses: &[&str]) -> String {
        let place = fixture.api.connect_network(&asked(task, addresses)).await;
        place.map_or_else(|error| error.to_string(), |it| it.addresses[0].to_string())
    }

    #[tokio::test]
    async fn addresses_are_given_and_come_back() {
        let fixture = Fixture::new(1, 1).await;
        let network = network(&fixture).await;
        let service = fixture.service("web").await;
        for number in 1..=6 {
            let slot = u64::try_from(number).unwrap();
            let state = if number == 6 {
                TaskState::Starting
            } else {
                TaskState::Running
            };
            fixture.task(number, &service, slot, 2, state).await;
        }
        let connect = async |task: &str, addresses| outcome(&fixture, task, addresses).await;
        assert_eq!(connect("web.1", &[]).await, "10.0.9.2/29");
        assert_eq!(connect("web.2", &["10.0.9.4"]).await, "10.0.9.4/29");
        for (task, addresses, expected) in [
            (
                "web.3",
                &["10.0.9.4"][..],
                "belongs to somebody else: leave --ip out",
            ),
            (
                "web.3",
                &["10.0.9.9"],
                "10.0.9.9 is in no subnet of network side",
            ),
            ("web.3", &["10.0.9.7"], "no address that network side gives"),
            (
                "web.3",
                &["10.0.9.5", "10.0.9.6"],
                "one address of each family",
            ),
            ("web.1", &[], "is on network side already"),
            ("web.6", &[], "only networks of running tasks change"),
            ("web.9", &[], "not found"),
        ] {
            let outcome = connect(task, addresses).await;
            assert!(
                outcome.contains(expected),
                "{task} {addresses:?}: {outcome}"
            );
        }
        assert_eq!(
            connect("web.3", &[]).await,
            "10.0.9.5/29",
            "after the one given last"
        );
        assert_eq!(connect("web.4", &[]).await, "10.0.9.6/29");
        assert_eq!(connect("web.5", &[]).await, "10.0.9.3/29");
        fixture.task(7, &service, 7, 2, TaskState::Running).await;
        let full = connect("web.7", &[]).await;
        assert!(full.contains("has no free address left"), "{full}");

        let state = fixture.api.state();
        let tasks = state.holdings().tasks_on(network.id).count();
        assert_eq!(tasks, 5, "each holds its address");
        fixture
            .api
            .disconnect_network("side", "web.1")
            .await
            .unwrap();
        let again = fixture.api.disconnect_network("side", "web.1").await;
        assert!(
            again
                .unwrap_err()
                .to_string()
                .contains("is not on network side")
        );
        assert_eq!(connect("web.7", &[]).await, "10.0.9.2/29");
    }
}
