//! Puts what many sessions have to write into few transactions.
//!
//! One transaction is under way at a time; what arrives meanwhile makes the next. So a single
//! report waits for nothing, and a thousand nodes cost no more than the group can commit.

use std::sync::Arc;

use store::{Action, Propose, ProposeError, TRANSACTION_ACTIONS_MAX};
use tokio::sync::{mpsc, oneshot};

/// Writes that wait for the writer at most.
const WRITES_MAX: usize = 1024;

/// Actions to be committed, in order, though not necessarily together.
struct Write {
    actions: Vec<Action>,
    done: oneshot::Sender<Result<(), ProposeError>>,
}

/// Where sessions put their writes.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Write>,
}

/// The writer's side of the queue.
pub(crate) struct Queue(mpsc::Receiver<Write>);

/// Tells what became of a write.
pub(crate) type Written = oneshot::Receiver<Result<(), ProposeError>>;

impl Writer {
    pub(crate) fn new() -> (Self, Queue) {
        let (queue, receiver) = mpsc::channel(WRITES_MAX);
        (Self { queue }, Queue(receiver))
    }

    /// Hands actions over, in this order among all that were handed over before and after.
    pub(crate) async fn write(&self, actions: Vec<Action>) -> Written {
        let (done, written) = oneshot::channel();
        // Without a writer the answer is dropped, which the other end sees.
        drop(self.queue.send(Write { actions, done }).await);
        written
    }

    /// Writes and waits until it is committed.
    pub(crate) async fn commit(&self, actions: Vec<Action>) -> Result<(), ProposeError> {
        self.write(actions)
            .await
            .await
            .unwrap_or(Err(ProposeError::Shutdown))
    }
}

impl Queue {
    /// Commits what comes in until every [`Writer`] is gone.
    pub(crate) async fn commit_all(mut self, proposer: Arc<dyn Propose>) {
        while let Some(first) = self.0.recv().await {
            let mut actions = first.actions;
            let mut waiting = vec![first.done];
            while actions.len() < TRANSACTION_ACTIONS_MAX
                && let Ok(next) = self.0.try_recv()
            {
                actions.extend(next.actions);
                waiting.push(next.done);
            }
            let result = propose(&*proposer, actions).await;
            if let Err(error) = &result {
                tracing::warn!(%error, "what nodes reported was not stored");
            }
            for done in waiting {
                // A session that ended meanwhile does not ask any more.
                let _ = done.send(result.clone());
            }
        }
    }
}

async fn propose(proposer: &dyn Propose, actions: Vec<Action>) -> Result<(), ProposeError> {
    let mut rest = actions.into_iter().peekable();
    while rest.peek().is_some() {
        proposer
            .propose(rest.by_ref().take(TRANSACTION_ACTIONS_MAX).collect())
            .await?;
    }
    Ok(())
}
