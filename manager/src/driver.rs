//! Drives one planner: feeds it what was committed, plans, proposes, waits.

use std::sync::Arc;
use std::time::Duration;

use store::{PlanContext, Planner, Propose, ProposeError, Store};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::Timestamp;
use types::id::RandomIds;

use crate::feed::Feed;

/// Transactions of one plan under way at once.
const TRANSACTIONS_IN_FLIGHT_MAX: usize = 16;

/// Pause after a proposal without a result, which mostly means that leadership is going.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Runs until the token is cancelled. The planner's memory ends with it.
pub(crate) async fn drive(
    mut planner: Box<dyn Planner>,
    store: Store,
    proposer: Arc<dyn Propose>,
    shutdown: CancellationToken,
) {
    let mut feed = Feed::new(store.clone());
    feed.resync(&mut *planner);
    loop {
        let plan = {
            let state = store.state();
            let now = Timestamp::now();
            planner.plan(&mut PlanContext {
                state: &state,
                now,
                ids: &mut RandomIds,
            })
        };
        if plan.transactions.is_empty() {
            let wait = wait(&mut *planner, &mut feed, plan.wake_at);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = wait => {}
            }
        } else {
            let proposed = propose_all(&proposer, plan.transactions, planner.name());
            let outcome = tokio::select! {
                () = shutdown.cancelled() => return,
                outcome = proposed => outcome,
            };
            feed.catch_up(&mut *planner);
            match outcome {
                Outcome::Applied => {}
                Outcome::Refused => feed.resync(&mut *planner),
                Outcome::Unknown => {
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(RETRY_PAUSE) => {}
                    }
                    feed.resync(&mut *planner);
                }
            }
        }
    }
}

/// What became of the transactions of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Applied,
    Refused,
    Unknown,
}

/// Proposes independent transactions and waits for all of them.
async fn propose_all(
    proposer: &Arc<dyn Propose>,
    transactions: Vec<Vec<store::Action>>,
    planner: &'static str,
) -> Outcome {
    let mut worst = Outcome::Applied;
    let mut under_way = JoinSet::new();
    let mut waiting = transactions.into_iter();
    loop {
        while under_way.len() < TRANSACTIONS_IN_FLIGHT_MAX
            && let Some(actions) = waiting.next()
        {
            let proposer = proposer.clone();
            under_way.spawn(async move { proposer.propose(actions).await });
        }
        let Some(done) = under_way.join_next().await else {
            return worst;
        };
        let outcome = match done {
            Ok(Ok(_)) => Outcome::Applied,
            Ok(Err(ProposeError::Refused(refusal))) => {
                // Somebody was faster; the planner looks again.
                tracing::debug!(planner, %refusal, "a plan was refused");
                Outcome::Refused
            }
            Ok(Err(error)) => {
                tracing::info!(planner, %error, "a plan was not confirmed");
                Outcome::Unknown
            }
            Err(error) => {
                tracing::error!(planner, %error, "proposing a plan broke off");
                Outcome::Unknown
            }
        };
        worst = worst.max(outcome);
    }
}

/// Waits for something to happen, or for the time the planner named.
async fn wait(planner: &mut dyn Planner, feed: &mut Feed, wake_at: Option<Timestamp>) {
    let alarm = async {
        match wake_at {
            Some(at) => tokio::time::sleep(at.since(Timestamp::now())).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = feed.wait(planner) => {}
        () = alarm => {}
    }
}
