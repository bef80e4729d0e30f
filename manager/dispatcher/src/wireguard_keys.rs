//! Which keys for encrypted networks a node may say it has.

use std::collections::BTreeSet;

use store::State;
use types::NodeId;
use types::node::NodeDescription;

/// Keys of one node at most: it sends with one, and answers to the ones before and after.
const KEYS_MAX: usize = 4;

/// Leaves out what cannot be the node's own: others would take packets of whose key it is for its.
pub(crate) fn keep_own(description: &mut NodeDescription, node: NodeId, state: &State) {
    let others = state.nodes().filter(|other| other.id != node);
    let told = others.filter_map(|other| other.description.as_ref());
    let dropped = keep(
        &mut description.network.wireguard_keys,
        told.map(|told| told.network.wireguard_keys.as_slice()),
    );
    if dropped > 0 {
        tracing::warn!(%node, keys = dropped, "the node tells keys that are another's, or too many");
    }
}

fn keep<'a>(keys: &mut Vec<[u8; 32]>, others: impl Iterator<Item = &'a [[u8; 32]]>) -> usize {
    let before = keys.len();
    keys.truncate(KEYS_MAX);
    let taken: BTreeSet<[u8; 32]> = others.flatten().copied().collect();
    keys.retain(|key| !taken.contains(key));
    before - keys.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_the_node_that_told_it_first() {
        let key = |number| [number; 32];
        let others = [vec![key(1), key(2)], vec![], vec![key(3)]];
        for (told, expected) in [
            (vec![key(4), key(5)], vec![key(4), key(5)]),
            (vec![key(4), key(2)], vec![key(4)]),
            (vec![key(3), key(1)], vec![]),
            ((4..14).map(key).collect(), (4..8).map(key).collect()),
        ] {
            let mut keys = told.clone();
            let dropped = keep(&mut keys, others.iter().map(Vec::as_slice));
            assert_eq!(keys, expected);
            assert_eq!(dropped, told.len() - expected.len());
        }
    }
}
