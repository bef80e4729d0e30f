//! A reader's end of a subscription.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Batch;
use crate::hub::{Hub, Taken};

/// How long a node that is expected may take to open its stream.
const ABSENT_GRACE: Duration = Duration::from_secs(1);

/// Lines as they arrive. Dropping it tells the nodes to stop.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    id: u64,
    wake: Arc<Notify>,
    /// When absent nodes are given up; none once they were.
    patience_until: Option<Instant>,
}

impl Subscription {
    pub(crate) fn new(hub: Arc<Hub>, id: u64, wake: Arc<Notify>) -> Self {
        Self {
            hub,
            id,
            wake,
            patience_until: Some(Instant::now() + ABSENT_GRACE),
        }
    }

    /// The next lines, or the list of what is missing, which comes last; none when all was said.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Batch> {
        loop {
            match self.hub.lock().take(self.id) {
                Taken::Batch(batch) => return Some(batch),
                Taken::End => return None,
                Taken::Nothing => {}
            }
            match self.patience_until {
                Some(until) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(until) => {
                        self.patience_until = None;
                        self.hub.lock().give_up_absent(self.id);
                    }
                },
                None => self.wake.notified().await,
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.lock().unsubscribe(self.id);
    }
}
