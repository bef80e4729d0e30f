//! Questions on connections.

use super::answer::{Outcome, Transport};
use super::server::{Sandbox, Shared};
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connections of one sandbox at once; more are closed at once.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may be silent (RFC 7766 asks for seconds).
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after the limit on open files was met.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes up connections until it is dropped.
pub(super) async fn serve(shared: &Rc<Shared>, sandbox: &Rc<Sandbox>) {
    loop {
        let Ok((stream, _)) = sandbox.tcp.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if sandbox.connections.get() >= CONNECTIONS_MAX {
            continue;
        }
        sandbox.connections.set(sandbox.connections.get() + 1);
        let (shared, sandbox) = (Rc::clone(shared), Rc::clone(sandbox));
        shared.tasks().clone().spawn_local(async move {
            // Whoever breaks off has no more questions.
            let _ = converse(&shared, &sandbox, stream).await;
            sandbox.connections.set(sandbox.connections.get() - 1);
        });
    }
}

/// Answers one question after the other.
async fn converse(shared: &Shared, sandbox: &Sandbox, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let question = tokio::select! {
            question = timeout(IDLE_TIMEOUT, receive(&mut stream)) => question??,
            () = sandbox.end.cancelled() => return Ok(()),
        };
        let outcome = match shared.answer(sandbox, &question, Transport::Tcp) {
            Outcome::Forward => {
                let forwarder = Shared::forwarder(sandbox);
                shared.forward(&forwarder, &question, Transport::Tcp).await
            }
            outcome @ (Outcome::Reply(_) | Outcome::Ignore) => outcome,
        };
        let Outcome::Reply(reply) = outcome else {
            return Ok(());
        };
        let length = u16::try_from(reply.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut framed = Vec::with_capacity(2 + reply.len());
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&reply);
        timeout(IDLE_TIMEOUT, stream.write_all(&framed)).await??;
    }
}

async fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut question = vec![0; usize::from(length)];
    stream.read_exact(&mut question).await?;
    Ok(question)
}
