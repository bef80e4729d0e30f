//! Feeds one planner what is committed, each commit exactly once.
//!
//! A planner may count as changes go by (the scheduler does). The watch is taken before the state
//! is read, so that nothing is missed; what the state read already holds must then not be counted
//! again when the watch tells of it.

use store::{Event, Planner, Store, Watch};
use types::Version;

/// A planner's place in the stream of commits.
pub(crate) struct Feed {
    store: Store,
    watch: Watch,
    /// The planner knows everything up to here.
    seen: Version,
}

impl Feed {
    /// A feed whose planner knows nothing yet.
    pub(crate) fn new(store: Store) -> Self {
        Self {
            watch: store.watch(),
            store,
            seen: Version::default(),
        }
    }

    /// Has the planner read everything anew.
    pub(crate) fn resync(&mut self, planner: &mut dyn Planner) {
        let state = self.store.state();
        planner.resync(&state);
        self.seen = state.version();
    }

    /// Feeds whatever has been committed by now.
    pub(crate) fn catch_up(&mut self, planner: &mut dyn Planner) {
        while let Some(event) = self.watch.try_next() {
            self.feed(planner, event);
        }
    }

    /// Waits for the next commit and feeds it, and all that came with it. Cancel-safe.
    pub(crate) async fn wait(&mut self, planner: &mut dyn Planner) {
        let event = self.watch.next().await;
        self.feed(planner, event);
        self.catch_up(planner);
    }

    fn feed(&mut self, planner: &mut dyn Planner, event: Event) {
        match event {
            Event::Commit(commit) if commit.version > self.seen => {
                commit
                    .changes
                    .iter()
                    .for_each(|change| planner.observe(change));
                self.seen = commit.version;
            }
            Event::Commit(_) => {}
            Event::Resync => self.resync(planner),
        }
    }
}

#[cfg(test)]
mod tests {
    use store::testing::LocalProposer;
    use store::{Action, Change, Plan, PlanContext, Propose as _, State};
    use types::node::NodeStatus;
    use types::{Meta, Node, NodeId, NodeRole, NodeSpec};

    use super::*;

    /// Counts nodes, as the scheduler counts tasks.
    #[derive(Default)]
    struct Counter(usize);

    impl Planner for Counter {
        fn name(&self) -> &'static str {
            "counter"
        }

        fn observe(&mut self, change: &Change) {
            self.0 += usize::from(change.old.is_none());
        }

        fn resync(&mut self, state: &State) {
            self.0 = state.nodes().count();
        }

        fn plan(&mut self, _: &mut PlanContext<'_>) -> Plan {
            Plan::default()
        }
    }

    fn node(number: u128) -> Action {
        let node = Node {
            id: NodeId::from_number(number),
            meta: Meta::default(),
            spec: NodeSpec::default(),
            role: NodeRole::Worker,
            description: None,
            status: NodeStatus::default(),
            manager_status: None,
            network_index: 0,
            certificate: types::node::NodeCertificate::default(),
        };
        Action::Create(node.into())
    }

    #[tokio::test]
    async fn a_commit_counts_once_whether_read_or_told() {
        let store = Store::new();
        let proposer = LocalProposer::new(store.clone());
        let mut counter = Counter::default();
        let mut feed = Feed::new(store.clone());
        // Told by the watch, and read with the state as well.
        proposer.propose(vec![node(1)]).await.unwrap();
        feed.resync(&mut counter);
        feed.catch_up(&mut counter);
        assert_eq!(counter.0, 1);
        proposer.propose(vec![node(2)]).await.unwrap();
        feed.wait(&mut counter).await;
        assert_eq!(counter.0, 2);
        // A refused transaction moves the version on and changes nothing.
        proposer.propose(vec![node(2)]).await.unwrap_err();
        feed.resync(&mut counter);
        proposer.propose(vec![node(3)]).await.unwrap();
        feed.catch_up(&mut counter);
        assert_eq!(counter.0, 3);
    }

    #[tokio::test]
    async fn a_feed_that_lagged_reads_everything_and_counts_nothing_twice() {
        let store = Store::new();
        let proposer = LocalProposer::new(store.clone());
        let mut counter = Counter::default();
        let mut feed = Feed::new(store.clone());
        feed.resync(&mut counter);
        for number in 1..=5000 {
            proposer.propose(vec![node(number)]).await.unwrap();
        }
        feed.catch_up(&mut counter);
        assert_eq!(counter.0, 5000);
    }
}
