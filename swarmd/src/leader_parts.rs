//! What only the leader runs besides the planners: the dispatcher and the log broker.

use std::sync::Arc;

use async_trait::async_trait;
use dispatcher::{Dispatcher, SecretDrivers};
use log_broker::LogBroker;
use manager::{LeaderPart, Member, RaftProposer};
use tokio_util::sync::CancellationToken;

/// The dispatcher and the log broker of one manager.
#[derive(Clone)]
pub(crate) struct LeaderParts {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) log_broker: LogBroker,
}

impl LeaderParts {
    pub(crate) fn new(member: &Member, secret_drivers: Arc<SecretDrivers>) -> Self {
        let raft = member.raft().clone();
        let dispatcher = Dispatcher::new(dispatcher::Options {
            store: member.store().clone(),
            proposer: Arc::new(RaftProposer::leading(raft.clone())),
            leader_addr: Arc::new(move || raft.status().borrow().leader_addr().map(str::to_owned)),
            secret_drivers,
        });
        let log_broker = LogBroker::new(log_broker::Options {
            store: member.store().clone(),
        });
        Self {
            dispatcher,
            log_broker,
        }
    }

    /// What to run while leading.
    pub(crate) fn list(&self) -> Vec<Arc<dyn LeaderPart>> {
        vec![
            Arc::new(Dispatching(self.dispatcher.clone())),
            Arc::new(Broking(self.log_broker.clone())),
        ]
    }
}

struct Dispatching(Dispatcher);

#[async_trait]
impl LeaderPart for Dispatching {
    fn name(&self) -> &'static str {
        "dispatcher"
    }

    async fn lead(&self, shutdown: CancellationToken) {
        self.0.run(shutdown).await;
    }
}

struct Broking(LogBroker);

#[async_trait]
impl LeaderPart for Broking {
    fn name(&self) -> &'static str {
        "log broker"
    }

    async fn lead(&self, shutdown: CancellationToken) {
        self.0.run(shutdown).await;
    }
}
