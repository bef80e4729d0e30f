//! What was said to the process so far, and how it is said again.

use crate::message::{Ask, Gossip, Network, Owners, Retain, Sandbox, Set, Tunnel};
use crate::{GossipView, NetworkRecords, RecordSet, SandboxId, SandboxView};
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use types::NetworkId;

/// Bytes of record sets in one message, unless a single set is larger.
const SETS_BYTES_MAX: usize = 1 << 20;

/// What the process is to do.
#[derive(Debug, Default)]
pub(crate) struct Desired {
    sandboxes: BTreeMap<SandboxId, (Arc<OwnedFd>, SandboxView)>,
    networks: BTreeMap<NetworkId, Names>,
    gossip: Option<GossipView>,
    /// Nobody is to be gossiped with, whatever was said before.
    is_gossip_over: bool,
    /// `None` until something was said of it: what a daemon before this one said holds so long.
    tunnel: Option<Arc<tunnel::Desired>>,
    is_complete: bool,
}

#[derive(Debug, Default)]
struct Names {
    name: String,
    sets: HashMap<String, RecordSet>,
}

/// A request to be sent, and what it is about.
#[derive(Debug)]
pub(crate) struct Saying {
    pub(crate) subject: Subject,
    pub(crate) ask: Ask,
    pub(crate) descriptor: Option<Arc<OwnedFd>>,
}

/// What a request is about. Of several in a row about the same, the last one's answer counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Sandbox(SandboxId),
    Network(NetworkId),
    Gossip,
    Tunnel,
    Whole,
}

fn saying(subject: Subject, ask: Ask) -> Saying {
    Saying {
        subject,
        ask,
        descriptor: None,
    }
}

impl Desired {
    /// Whether a process is needed at all.
    pub(crate) fn is_something(&self) -> bool {
        let carries = |tunnel: &Arc<tunnel::Desired>| !tunnel.networks.is_empty();
        !self.sandboxes.is_empty()
            || self.gossip.is_some()
            || self.tunnel.as_ref().is_some_and(carries)
    }

    pub(crate) fn set_sandbox(
        &mut self,
        id: SandboxId,
        namespace: Arc<OwnedFd>,
        view: SandboxView,
    ) -> Saying {
        let saying = say_sandbox(&id, &namespace, &view);
        self.sandboxes.insert(id, (namespace, view));
        saying
    }

    pub(crate) fn remove_sandbox(&mut self, id: &SandboxId) -> Saying {
        self.sandboxes.remove(id);
        saying(
            Subject::Sandbox(id.clone()),
            Ask::RemoveSandbox(id.to_string()),
        )
    }

    /// Takes a network's records; returns what has changed.
    pub(crate) fn set_network(&mut self, records: NetworkRecords) -> Vec<Saying> {
        let NetworkRecords {
            network,
            name,
            sets,
        } = records;
        let mut before = self.networks.remove(&network).unwrap_or_default();
        let (mut now, mut changed) = (HashMap::with_capacity(sets.len()), Vec::new());
        for set in sets {
            if before.sets.remove(&set.owner).as_ref() != Some(&set) {
                changed.push(Set::from(&set));
            }
            now.insert(set.owner.clone(), set);
        }
        let removed = before.sets.into_keys().collect();
        let said = say_network(network, &name, changed, removed, None);
        self.networks.insert(network, Names { name, sets: now });
        said
    }

    /// Takes changes of a network's records; returns what has changed.
    pub(crate) fn update_network(
        &mut self,
        network: NetworkId,
        sets: Vec<RecordSet>,
        removed: Vec<String>,
    ) -> Vec<Saying> {
        let names = self.networks.entry(network).or_default();
        for owner in &removed {
            names.sets.remove(owner);
        }
        let mut changed = Vec::new();
        for set in sets {
            if names.sets.get(&set.owner) != Some(&set) {
                changed.push(Set::from(&set));
                names.sets.insert(set.owner.clone(), set);
            }
        }
        say_network(network, &names.name, changed, removed, None)
    }

    pub(crate) fn remove_network(&mut self, network: NetworkId) -> Saying {
        self.networks.remove(&network);
        saying(
            Subject::Network(network),
            Ask::RemoveNetwork(network.to_string()),
        )
    }

    pub(crate) fn set_gossip(&mut self, view: GossipView) -> Saying {
        let saying = saying(Subject::Gossip, Ask::SetGossip(Gossip::from(&view)));
        self.gossip = Some(view);
        self.is_gossip_over = false;
        saying
    }

    /// Ends gossip. Before completeness there is nothing to say: it comes with that.
    pub(crate) fn clear_gossip(&mut self) -> Option<Saying> {
        self.gossip = None;
        self.is_gossip_over = true;
        self.is_complete.then(|| self.say_retain())
    }

    pub(crate) fn set_tunnel(&mut self, desired: Arc<tunnel::Desired>) -> Saying {
        let saying = say_tunnel(&desired);
        self.tunnel = Some(desired);
        saying
    }

    pub(crate) fn complete(&mut self) -> Saying {
        self.is_complete = true;
        self.say_retain()
    }

    /// Everything, for a process that may know nothing of it, or something else. Names come before
    /// the sandboxes that ask for them.
    pub(crate) fn say_all(&self) -> Vec<Saying> {
        // Packets wait for it; names have other servers.
        let mut all: Vec<Saying> = self.tunnel.iter().map(say_tunnel).collect();
        for (network, names) in &self.networks {
            let sets = names.sets.values().map(Set::from).collect();
            let owners = names.sets.keys().cloned().collect();
            let retain = Some(Owners { owners });
            all.extend(say_network(*network, &names.name, sets, Vec::new(), retain));
        }
        for (id, (namespace, view)) in &self.sandboxes {
            all.push(say_sandbox(id, namespace, view));
        }
        if let Some(view) = &self.gossip {
            all.push(saying(Subject::Gossip, Ask::SetGossip(Gossip::from(view))));
        }
        if self.is_complete {
            all.push(self.say_retain());
        }
        all
    }

    fn say_retain(&self) -> Saying {
        let retain = Retain {
            sandboxes: self.sandboxes.keys().map(ToString::to_string).collect(),
            networks: self.networks.keys().map(ToString::to_string).collect(),
            // Whoever starts anew knows whom to gossip with only once managers told it; until then
            // others would hold the node for dead if it fell silent.
            gossip: !self.is_gossip_over,
        };
        saying(Subject::Whole, Ask::Retain(retain))
    }
}

fn say_tunnel(desired: &Arc<tunnel::Desired>) -> Saying {
    saying(Subject::Tunnel, Ask::SetTunnel(Tunnel::from(&**desired)))
}

fn say_sandbox(id: &SandboxId, namespace: &Arc<OwnedFd>, view: &SandboxView) -> Saying {
    Saying {
        subject: Subject::Sandbox(id.clone()),
        ask: Ask::SetSandbox(Sandbox::new(id, view)),
        descriptor: Some(Arc::clone(namespace)),
    }
}

/// At least one message, so that there is an answer to wait for, and the network and its name are
/// known. What is dropped is dropped with the last, after what replaces it has arrived.
fn say_network(
    network: NetworkId,
    name: &str,
    sets: Vec<Set>,
    removed: Vec<String>,
    retain: Option<Owners>,
) -> Vec<Saying> {
    let message = |sets| Network {
        id: network.to_string(),
        name: name.to_owned(),
        sets,
        removed: Vec::new(),
        retain: None,
    };
    let (mut messages, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for set in sets {
        let length = set.encoded_len();
        if bytes + length > SETS_BYTES_MAX && !part.is_empty() {
            messages.push(message(std::mem::take(&mut part)));
            bytes = 0;
        }
        bytes += length;
        part.push(set);
    }
    messages.push(Network {
        removed,
        retain,
        ..message(part)
    });
    messages
        .into_iter()
        .map(|message| saying(Subject::Network(network), Ask::SetNetwork(message)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(owner: &str, version: u64, name: &str) -> RecordSet {
        RecordSet {
            owner: owner.to_owned(),
            version,
            names: vec![name.to_owned()],
            virtual_ips: Vec::new(),
            tasks: Vec::new(),
        }
    }

    fn records(sets: Vec<RecordSet>) -> NetworkRecords {
        NetworkRecords {
            network: NetworkId::from_number(1),
            name: String::from("front"),
            sets,
        }
    }

    fn networks(said: &[Saying]) -> Vec<&Network> {
        let network = |saying: &Saying| matches!(saying.ask, Ask::SetNetwork(_));
        assert!(said.iter().all(network));
        said.iter()
            .filter_map(|saying| match &saying.ask {
                Ask::SetNetwork(network) => Some(network),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn only_what_differs_is_said() {
        let mut desired = Desired::default();
        let (a, b) = (set("a", 1, "web"), set("b", 1, "db"));
        let said = desired.set_network(records(vec![a.clone(), b.clone()]));
        assert_eq!(networks(&said)[0].sets.len(), 2);
        let said = desired.set_network(records(vec![a.clone(), set("b", 2, "db2")]));
        assert_eq!(networks(&said)[0].sets.len(), 1);
        assert_eq!(networks(&said)[0].sets[0].owner, "b");
        let said = desired.set_network(records(vec![a.clone()]));
        assert_eq!(networks(&said)[0].sets, []);
        assert_eq!(networks(&said)[0].removed, ["b"]);
        let network = NetworkId::from_number(1);
        let said = desired.update_network(network, vec![a, b], Vec::new());
        assert_eq!(networks(&said)[0].sets[0].owner, "b");
        let all = desired.say_all();
        assert_eq!(networks(&all)[0].sets.len(), 2);
        assert_eq!(networks(&all)[0].retain.as_ref().unwrap().owners.len(), 2);
    }

    #[test]
    fn many_records_are_said_in_several_messages() {
        let mut desired = Desired::default();
        let long = "x".repeat(200);
        let sets = (0..10_000)
            .map(|i| set(&format!("owner{i}"), 1, &format!("{long}{i}")))
            .collect();
        let said = desired.set_network(records(sets));
        let parts = networks(&said);
        assert!(parts.len() > 1);
        for part in &parts {
            assert!(part.encoded_len() < crate::channel::MESSAGE_BYTES_MAX);
        }
        let count: usize = parts.iter().map(|part| part.sets.len()).sum();
        assert_eq!(count, 10_000);
    }

    #[test]
    fn gossip_of_a_daemon_before_goes_on_until_it_is_ended() {
        let mut desired = Desired::default();
        let goes_on = |saying: Saying| match saying.ask {
            Ask::Retain(retain) => retain.gossip,
            other => panic!("{other:?}"),
        };
        assert!(goes_on(desired.complete()));
        assert!(!goes_on(desired.clear_gossip().unwrap()));
        assert!(!goes_on(desired.say_all().pop().unwrap()));
        assert!(Desired::default().clear_gossip().is_none());
    }

    #[test]
    fn nothing_is_dropped_before_all_was_said() {
        let mut desired = Desired::default();
        desired.set_network(records(vec![set("a", 1, "web")]));
        let is_retain = |saying: &Saying| matches!(saying.ask, Ask::Retain(_));
        assert!(!desired.say_all().iter().any(is_retain));
        desired.complete();
        assert!(desired.say_all().last().is_some_and(is_retain));
    }
}
