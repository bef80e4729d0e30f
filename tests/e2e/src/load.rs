//! A constant load of requests from outside the cluster, of which none may be lost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::Lab;

use crate::calls::{Conversation, Who, who};

/// Clients that make a connection for each request, and time between two requests of one.
const SHORT_CLIENTS: usize = 8;
const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// Time between two requests on a connection that stays.
const LONG_PAUSE: Duration = Duration::from_millis(100);

/// Requests that go on until told to stop.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Result<()>>>,
    started: Instant,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    answers: AtomicU64,
    reconnects: AtomicU64,
    lost: Mutex<Vec<String>>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Requests that were answered as they should.
    pub answers: u64,
    /// How long the load went on.
    pub lasted: Duration,
    /// Connections that stayed for many requests and were ended by the service in good order.
    pub reconnects: u64,
    /// What became of those that were not answered.
    pub lost: Vec<String>,
}

impl Load {
    /// Begins to call the service at all these addresses, each request by a connection of its own,
    /// and besides with one connection to each that stays.
    #[must_use]
    pub fn start(lab: &Lab, at: &[SocketAddr]) -> Self {
        let shared = Arc::new(Shared::default());
        let started = Instant::now();
        let mut clients = Vec::new();
        for number in 0..SHORT_CLIENTS {
            let (shared, at) = (Arc::clone(&shared), at.to_vec());
            clients.push(lab.stay_outside(move || short(&shared, &at, number, started)));
        }
        for at in at {
            let (shared, at) = (Arc::clone(&shared), *at);
            clients.push(lab.stay_outside(move || long(&shared, at, started)));
        }
        Self {
            shared,
            clients,
            started,
        }
    }

    /// Requests answered so far.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::Relaxed)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When a client could not work at all.
    ///
    /// # Panics
    /// When a client panicked.
    pub fn stop(self) -> Result<Outcome> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic")?;
        }
        let lost = self.shared.lost.lock().expect("a client does not panic");
        Ok(Outcome {
            answers: self.shared.answers.load(Ordering::Relaxed),
            lasted: self.started.elapsed(),
            reconnects: self.shared.reconnects.load(Ordering::Relaxed),
            lost: lost.clone(),
        })
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn note(&self, outcome: Result<()>, at: SocketAddr, started: Instant) {
        match outcome {
            Ok(()) => {
                self.answers.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let after = started.elapsed();
                let text = format!("{after:.3?} at {at}: {error:#}");
                let lost = self.lost.lock();
                lost.expect("a client does not panic").push(text);
            }
        }
    }
}

fn short(shared: &Shared, at: &[SocketAddr], number: usize, started: Instant) -> Result<()> {
    for turn in number.. {
        if shared.is_over() {
            break;
        }
        let at = at[turn % at.len()];
        shared.note(who(at).map(drop), at, started);
        std::thread::sleep(SHORT_PAUSE);
    }
    Ok(())
}

fn long(shared: &Shared, at: SocketAddr, started: Instant) -> Result<()> {
    let mut conversation: Option<Conversation> = None;
    while !shared.is_over() {
        let talk = |conversation: &mut Option<Conversation>| {
            let open = match conversation.take() {
                Some(open) => open,
                None => Conversation::with(at)?,
            };
            let open = conversation.insert(open);
            let answer = open.ask("GET /who").context("on a connection that stays")?;
            Who::parse(&answer)?;
            if !open.stays() {
                shared.reconnects.fetch_add(1, Ordering::Relaxed);
                *conversation = None;
            }
            Ok(())
        };
        let outcome = talk(&mut conversation);
        if outcome.is_err() {
            conversation = None;
        }
        shared.note(outcome, at, started);
        std::thread::sleep(LONG_PAUSE);
    }
    Ok(())
}
