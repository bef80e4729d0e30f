//! Whether a node was told everything as the store has it: records are derived anew and compared
//! with what was sent.

use std::collections::{BTreeMap, BTreeSet};

use store::State;
use types::NodeId;

use super::{DirtyReach, SentReach, interest};

/// Records that a node was not told as the store has them, each with the fingerprint it should
/// have; `None` where the node should not hold it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stale {
    interest: bool,
    settings: Option<Option<u64>>,
    networks: BTreeMap<types::NetworkId, Option<u64>>,
    services: BTreeMap<types::ServiceId, Option<u64>>,
    tasks: BTreeMap<types::TaskId, Option<u64>>,
    nodes: BTreeMap<NodeId, Option<u64>>,
}

impl Stale {
    /// What differs now. A change that was committed only just may be under way still; see
    /// [`Stale::persisting`].
    pub(crate) fn find(sent: &SentReach, state: &State, node: NodeId) -> Self {
        let mut fresh = SentReach::default();
        drop(fresh.complete(state, node, interest(state, node)));
        Self {
            interest: sent.on != fresh.on,
            settings: (sent.settings != fresh.settings).then_some(fresh.settings),
            networks: differing(&sent.networks, &fresh.networks),
            services: differing(&sent.services, &fresh.services),
            tasks: differing(&sent.tasks, &fresh.tasks),
            nodes: differing(&sent.nodes, &fresh.nodes),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What was so in an earlier look, too: it did not change meanwhile, and nobody has told it.
    pub(crate) fn persisting(&self, earlier: &Self) -> Self {
        Self {
            interest: self.interest && earlier.interest,
            settings: self.settings.filter(|_| self.settings == earlier.settings),
            networks: common(&self.networks, &earlier.networks),
            services: common(&self.services, &earlier.services),
            tasks: common(&self.tasks, &earlier.tasks),
            nodes: common(&self.nodes, &earlier.nodes),
        }
    }

    /// Marks it to be looked at again.
    pub(crate) fn mark(&self, dirty: &mut DirtyReach) {
        dirty.interest |= self.interest;
        dirty.settings |= self.settings.is_some();
        dirty.networks.extend(self.networks.keys());
        dirty.services.extend(self.services.keys());
        dirty.tasks.extend(self.tasks.keys());
        dirty.nodes.extend(self.nodes.keys());
    }

    /// What it is, for people.
    pub(crate) fn texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        if self.interest {
            texts.push("the networks it takes part in".to_owned());
        }
        if self.settings.is_some() {
            texts.push("settings".to_owned());
        }
        texts.extend(self.networks.keys().map(|id| format!("network {id}")));
        texts.extend(self.services.keys().map(|id| format!("service {id}")));
        texts.extend(self.tasks.keys().map(|id| format!("task {id}")));
        texts.extend(self.nodes.keys().map(|id| format!("node {id}")));
        texts
    }
}

impl SentReach {
    /// How many records were sent, and the sum of their fingerprints.
    pub(crate) fn sum(&self) -> (u64, u64) {
        let prints = self.settings.iter().chain(self.networks.values());
        let prints = prints.chain(self.services.values());
        let prints = prints.chain(self.tasks.values()).chain(self.nodes.values());
        prints.fold((0, 0), |(count, sum), print| {
            (count + 1, sum.wrapping_add(*print))
        })
    }
}

fn differing<I: Ord + Copy>(
    sent: &BTreeMap<I, u64>,
    fresh: &BTreeMap<I, u64>,
) -> BTreeMap<I, Option<u64>> {
    let ids: BTreeSet<&I> = sent.keys().chain(fresh.keys()).collect();
    let differing = ids.into_iter().filter(|id| sent.get(id) != fresh.get(id));
    differing.map(|id| (*id, fresh.get(id).copied())).collect()
}

fn common<I: Ord + Copy>(
    now: &BTreeMap<I, Option<u64>>,
    earlier: &BTreeMap<I, Option<u64>>,
) -> BTreeMap<I, Option<u64>> {
    let both = now
        .iter()
        .filter(|(id, print)| earlier.get(id) == Some(print));
    both.map(|(id, print)| (*id, *print)).collect()
}
