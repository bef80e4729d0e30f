//! Keys of the gossip between nodes: made by the first leader, renewed twice a day.

use std::time::Duration;

use store::{Action, Change, Object, Plan, PlanContext, Planner, State};
use types::id::IdSource;
use types::{Cluster, Payload};

/// How long a key is sent with (S15.01).
const PERIOD: Duration = Duration::from_secs(12 * 3600);
/// Keys every node knows: the one to send with, the one before it, and the one after it. So nodes
/// need not change at the same moment.
const KEYS: usize = 3;

/// Makes and renews the keys.
#[derive(Debug, Default)]
pub struct GossipKeys;

impl Planner for GossipKeys {
    fn name(&self) -> &'static str {
        "gossip keys"
    }

    fn observe(&mut self, _: &Change) {}

    fn resync(&mut self, _: &State) {}

    fn plan(&mut self, context: &mut PlanContext<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(cluster) = context.state.cluster() else {
            return plan;
        };
        let due = cluster.gossip_keys_at.plus(PERIOD);
        if cluster.gossip_keys.len() == KEYS && context.now < due {
            plan.wake_no_later_than(due);
            return plan;
        }
        let mut renewed = Cluster::clone(cluster);
        renewed.gossip_keys = rotated(&cluster.gossip_keys, context.ids);
        renewed.gossip_keys_at = context.now;
        plan.transactions
            .push(vec![Action::Update(Object::from(renewed))]);
        plan.wake_no_later_than(context.now.plus(PERIOD));
        plan
    }
}

/// Sends with the next one, keeps the present one for reading, forgets the one before, and adds
/// one that nobody knows yet.
fn rotated(keys: &[Payload], random: &mut dyn IdSource) -> Vec<Payload> {
    let mut fresh = || {
        let mut key = random.bytes().to_vec();
        key.extend(random.bytes());
        Payload::new(key)
    };
    match keys {
        [primary, _, next] => vec![next.clone(), primary.clone(), fresh()],
        _ => (0..KEYS).map(|_| fresh()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use types::id::RandomIds;
    use types::{Timestamp, Version};

    use super::*;
    use crate::fixture;

    fn plan(state: &State, now: Timestamp) -> Plan {
        GossipKeys.plan(&mut PlanContext {
            state,
            now,
            ids: &mut RandomIds,
        })
    }

    #[test]
    fn a_key_is_known_to_all_before_it_is_used() {
        let mut state = State::default();
        let mut now = Timestamp::from_secs(1000);
        assert_eq!(
            plan(&state, now),
            Plan::default(),
            "nothing without a cluster"
        );
        let apply = |state: &mut State, now, actions| {
            let version = Version {
                index: state.version().index + 1,
            };
            let transaction = store::Transaction { now, actions };
            state.apply(version, &transaction).unwrap();
        };
        apply(
            &mut state,
            now,
            vec![Action::Create(fixture::cluster().into())],
        );
        let mut before: Vec<Payload> = vec![];
        for round in 0..4 {
            let due = plan(&state, now);
            assert_eq!(due.wake_at, Some(now.plus(PERIOD)));
            let [transaction] = due.transactions.as_slice() else {
                panic!("round {round}: {due:?}");
            };
            apply(&mut state, now, transaction.clone());
            let keys = state.cluster().unwrap().gossip_keys.clone();
            assert_eq!(keys.len(), KEYS);
            assert!(keys.iter().all(|key| key.len() == 32));
            if let [primary, _, next] = before.as_slice() {
                assert_eq!(keys[..2], [next.clone(), primary.clone()], "round {round}");
                assert!(!before.contains(&keys[2]), "round {round}");
            }
            before = keys;
            let rest = plan(&state, now.plus(PERIOD / 2));
            assert!(rest.transactions.is_empty(), "round {round}: {rest:?}");
            assert_eq!(rest.wake_at, due.wake_at);
            now = now.plus(PERIOD);
        }
    }
}
