//! The handle, and what runs while this manager leads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use store::{Event, ProposeError};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use types::Timestamp;

use crate::Options;
use crate::orphans::Orphans;
use crate::term::Term;
use crate::writer::Writer;

/// How often tasks of long lost nodes are looked for.
const ORPHANS_PERIOD: Duration = Duration::from_secs(60);
/// Pause before a new leader tries again to take its nodes over.
const INHERIT_RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How late this manager has to be for it to have stood still.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// When to look at expiries though none is known.
const IDLE_PERIOD: Duration = Duration::from_secs(3600);

/// The dispatcher of one manager. Clones share it. Off the lead it sends agents to the leader.
#[derive(Clone)]
pub struct Dispatcher {
    pub(crate) options: Arc<Options>,
    term: Arc<Mutex<Option<Arc<Term>>>>,
}

impl Dispatcher {
    /// A dispatcher that does not lead yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options: Arc::new(options),
            term: Arc::default(),
        }
    }

    /// Serves sessions until `shutdown`: call it whenever this manager becomes the leader.
    pub async fn run(&self, shutdown: CancellationToken) {
        let (writer, queue) = Writer::new();
        let term = Arc::new(Term::new(
            self.options.store.clone(),
            writer,
            self.options.secret_drivers.clone(),
        ));
        let mut tasks = JoinSet::new();
        tasks.spawn(queue.commit_all(self.options.proposer.clone()));
        // From here on nothing is missed, whatever the state says when it is read.
        let watch = self.options.store.watch();
        if shutdown.run_until_cancelled(inherit(&term)).await.is_some() {
            self.set_term(Some(term.clone()));
            shutdown.run_until_cancelled(lead(&term, watch)).await;
            self.set_term(None);
        }
        term.token.cancel();
        term.sessions.close();
        term.sessions.wait().await;
        drop(term);
        // The writer ends with its last handle; what it was committing may still happen.
        tasks.shutdown().await;
    }

    /// The term, while this manager leads.
    pub(crate) fn term(&self) -> Option<Arc<Term>> {
        self.term
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_term(&self, term: Option<Arc<Term>>) {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = term;
    }
}

/// Notes that nothing is known of the former leader's nodes, before any of them is let in.
async fn inherit(term: &Term) {
    loop {
        let actions = term.inherit(&term.store.state(), Instant::now());
        if actions.is_empty() {
            return;
        }
        match term.writer.commit(actions).await {
            // Read again: what was applied meanwhile may have brought more nodes.
            Ok(()) => continue,
            Err(error @ ProposeError::Shutdown) => tracing::debug!(%error, "not leading any more"),
            Err(error) => tracing::warn!(%error, "the nodes were not taken over yet"),
        }
        tokio::time::sleep(INHERIT_RETRY_PAUSE).await;
    }
}

/// Routes what is committed and notes which nodes are gone, for as long as it is polled.
async fn lead(term: &Term, mut watch: store::Watch) {
    let mut orphans = Orphans::default();
    let mut look_for_orphans = tokio::time::interval(ORPHANS_PERIOD);
    look_for_orphans.set_missed_tick_behavior(MissedTickBehavior::Delay);
    term.resync(&term.store.state());
    loop {
        let look_at = term.investigate(&term.store.state(), Instant::now());
        let look_at = look_at.unwrap_or_else(|| Instant::now() + IDLE_PERIOD);
        let expiry = term.liveness().next_expiry();
        let expiry = expiry.unwrap_or_else(|| Instant::now() + IDLE_PERIOD);
        let actions = tokio::select! {
            event = watch.next() => {
                match event {
                    Event::Commit(commit) => term.route(&commit, Instant::now()),
                    Event::Resync => term.resync(&term.store.state()),
                }
                continue;
            }
            () = term.sooner.notified() => continue,
            () = tokio::time::sleep_until(look_at) => {
                // Answers may wait to be read.
                if look_at.elapsed() >= PAUSE_MIN {
                    term.suspicion().postpone(Instant::now());
                }
                continue;
            }
            () = tokio::time::sleep_until(expiry) => {
                term.forgive_pause(expiry.elapsed());
                term.expire(&term.store.state(), Instant::now())
            }
            _ = look_for_orphans.tick() => orphans.plan(&term.store.state(), Timestamp::now()),
        };
        if !actions.is_empty() {
            // Not waited for: what could not be noted is still due a moment later.
            drop(term.writer.write(actions).await);
        }
    }
}
