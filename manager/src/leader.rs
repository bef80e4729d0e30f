//! What only the leader runs: the list of loops, started on winning and stopped on losing it.

use std::sync::Arc;

use allocator::Allocator;
use async_trait::async_trait;
use raft::Raft;
use scheduler::Scheduler;
use signer::RootRotator;
use store::{Planner, Propose, Store};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{RaftProposer, driver, roles};

/// Something besides the planners that only a leader runs: dispatcher, log broker.
#[async_trait]
pub trait LeaderPart: Send + Sync + 'static {
    /// For logs.
    fn name(&self) -> &'static str;
    /// Runs while this manager leads; returns soon after the token is cancelled.
    async fn lead(&self, shutdown: CancellationToken);
}

/// Runs everything until the token is cancelled, then waits until all of it has ended.
pub(crate) async fn lead(
    store: &Store,
    raft: &Raft,
    parts: &[Arc<dyn LeaderPart>],
    shutdown: CancellationToken,
) {
    let proposer: Arc<dyn Propose> = Arc::new(RaftProposer::leading(raft.clone()));
    let mut loops = JoinSet::new();
    let planners = orchestrator::planners(
        Box::new(Allocator::default()),
        Box::new(Scheduler::default()),
    );
    let rotator: Box<dyn Planner> = Box::new(RootRotator::default());
    let planners = planners.into_iter().chain(allocator::planners());
    for planner in planners.chain([rotator]) {
        loops.spawn(driver::drive(
            planner,
            store.clone(),
            proposer.clone(),
            shutdown.clone(),
        ));
    }
    loops.spawn(roles::run(
        store.clone(),
        raft.clone(),
        proposer.clone(),
        shutdown.clone(),
    ));
    for part in parts {
        let (part, token) = (part.clone(), shutdown.clone());
        loops.spawn(async move { part.lead(token).await });
    }
    tracing::info!(loops = loops.len(), "leading");
    while let Some(ended) = loops.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a leader loop broke off");
        }
        if !shutdown.is_cancelled() {
            // A leader with a loop missing would look healthy and do half its work.
            tracing::error!("a leader loop ended by itself: giving up leadership");
            shutdown.cancel();
        }
    }
    tracing::info!("not leading any more");
}
