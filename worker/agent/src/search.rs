//! Looks for the leader among the managers and opens a session with it.
//!
//! Attempts overlap: a manager that does not answer holds up none of the others. Only the leader
//! can answer an attempt with a session, so at most one succeeds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proto::dispatcher as wire;
use proto::dispatcher::dispatcher_client::DispatcherClient;
use proto::dispatcher::{agent_message, manager_message};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::{DialError, ManagerDialer};

/// Metadata that names the leader when another manager was asked.
pub(crate) const LEADER_KEY: &str = "swarm-leader";

/// How long one manager may take to answer (S8.21).
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// Right after a session was lost a new leader is likely to appear within moments: for so long the
/// managers are asked in quick succession, so that it has its nodes back at once.
const QUICK_SPAN: Duration = Duration::from_secs(5);
/// Mean pause between two attempts during that time.
const QUICK_DELAY: Duration = Duration::from_millis(40);
/// Mean pause after that: doubles from the first to the second (S8.21).
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(8);
/// Messages towards the manager that may wait for the connection.
const OUTGOING_MAX: usize = 16;

/// Largest message taken from a manager: a complete set holds every task of the node.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// A session that a leader has accepted.
pub(crate) struct Established {
    pub(crate) addr: String,
    pub(crate) channel: Channel,
    pub(crate) outgoing: mpsc::Sender<wire::AgentMessage>,
    pub(crate) incoming: Streaming<wire::ManagerMessage>,
    pub(crate) started: wire::SessionStarted,
}

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it does not lead")]
    NotLeader { leader: Option<String> },
    #[error("dialling: {0}")]
    Dial(DialError),
    #[error("{}: {}", .0.code(), .0.message())]
    Refused(Status),
    #[error("it began the session with something else")]
    Protocol,
    #[error("no answer in {} s", ATTEMPT_TIMEOUT.as_secs())]
    Timeout,
}

/// Asks managers until one has opened a session. Cancel-safe: dropping it ends all attempts.
pub(crate) async fn search(
    dialer: &Arc<dyn ManagerDialer>,
    addrs: &[String],
    register: &wire::Register,
) -> Established {
    let began = Instant::now();
    let mut attempts: JoinSet<(String, Result<Established, Failure>)> = JoinSet::new();
    let mut asked = BTreeSet::new();
    let mut turn = 0;
    let mut slow_rounds = 0;
    let start = |addr: &str, asked: &mut BTreeSet<String>, attempts: &mut JoinSet<_>| {
        if asked.insert(addr.to_owned()) {
            attempts.spawn(attempt(dialer.clone(), addr.to_owned(), register.clone()));
        }
    };
    loop {
        if !addrs.is_empty() {
            start(&addrs[turn % addrs.len()], &mut asked, &mut attempts);
        }
        turn += 1;
        let is_quick = turn < addrs.len() || began.elapsed() < QUICK_SPAN;
        let mean = delay(if is_quick { None } else { Some(slow_rounds) });
        slow_rounds += u32::from(!is_quick);
        let pause = tokio::time::sleep(jittered(mean, random()));
        tokio::pin!(pause);
        loop {
            let ended = tokio::select! {
                () = &mut pause => break,
                Some(ended) = attempts.join_next() => ended,
            };
            let Ok((addr, result)) = ended else { continue };
            asked.remove(&addr);
            match result {
                Ok(session) => return session,
                Err(Failure::NotLeader {
                    leader: Some(leader),
                }) if leader != addr => {
                    start(&leader, &mut asked, &mut attempts);
                }
                Err(failure) => log(&addr, &failure, is_quick),
            }
        }
    }
}

fn log(addr: &str, failure: &Failure, is_quick: bool) {
    if is_quick {
        tracing::debug!(addr, %failure, "a manager gave no session");
    } else {
        tracing::warn!(addr, %failure, "a manager gave no session");
    }
}

async fn attempt(
    dialer: Arc<dyn ManagerDialer>,
    addr: String,
    register: wire::Register,
) -> (String, Result<Established, Failure>) {
    let open = open(&*dialer, &addr, register);
    let result = tokio::time::timeout(ATTEMPT_TIMEOUT, open).await;
    (addr, result.unwrap_or(Err(Failure::Timeout)))
}

async fn open(
    dialer: &dyn ManagerDialer,
    addr: &str,
    register: wire::Register,
) -> Result<Established, Failure> {
    let channel = dialer.dial(addr).await.map_err(Failure::Dial)?;
    let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
    let message = wire::AgentMessage {
        message: Some(agent_message::Message::Register(register)),
    };
    outgoing.try_send(message).expect("a fresh queue has room");
    let mut client =
        DispatcherClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut incoming = client
        .session(ReceiverStream::new(queue))
        .await
        .map_err(refused)?
        .into_inner();
    let first = incoming
        .message()
        .await
        .map_err(refused)?
        .and_then(|m| m.message);
    let Some(manager_message::Message::Started(started)) = first else {
        return Err(Failure::Protocol);
    };
    Ok(Established {
        addr: addr.to_owned(),
        channel,
        outgoing,
        incoming,
        started,
    })
}

fn refused(status: Status) -> Failure {
    if status.code() == Code::FailedPrecondition {
        let leader = status
            .metadata()
            .get(LEADER_KEY)
            .and_then(|value| value.to_str().ok());
        Failure::NotLeader {
            leader: leader.map(str::to_owned),
        }
    } else {
        Failure::Refused(status)
    }
}

/// Mean pause before the next attempt; `slow_round` counts those after the quick ones.
fn delay(slow_round: Option<u32>) -> Duration {
    match slow_round {
        None => QUICK_DELAY,
        Some(round) => BACKOFF_MIN
            .saturating_mul(1 << round.min(16))
            .min(BACKOFF_MAX),
    }
}

/// Half to one and a half times `mean`: nodes that lost the same manager drift apart.
fn jittered(mean: Duration, random: u32) -> Duration {
    mean.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX))
}

fn random() -> u32 {
    // Without randomness nodes merely do not drift apart.
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        assert_eq!(delay(None), QUICK_DELAY);
        assert_eq!(delay(Some(0)), Duration::from_millis(100));
        assert_eq!(delay(Some(3)), Duration::from_millis(800));
        assert_eq!(delay(Some(u32::MAX)), Duration::from_secs(8));
        assert_eq!(jittered(BACKOFF_MIN, 0), Duration::from_millis(50));
        assert_eq!(jittered(BACKOFF_MIN, u32::MAX), Duration::from_millis(150));
    }
}
