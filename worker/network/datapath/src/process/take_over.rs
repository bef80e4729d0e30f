//! How one process follows another: sockets and orders pass on, questions wait in the sockets.

use super::orders::Orders;
use anyhow::{Context, Result, bail};
use datapath_client::channel::Channel;
use datapath_client::message::{Answer, Ask, Empty, Request, Tell};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long the whole may take; afterwards the predecessor goes on serving.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The process that was found serving. It goes on if this is dropped.
pub(super) struct Predecessor {
    channel: Channel,
}

/// Takes over everything from the process that serves at `socket`.
pub(super) async fn take_over(socket: &Path, orders: &Rc<Orders>) -> Result<Predecessor> {
    let stream = datapath_client::connect(socket)
        .with_context(|| format!("find the process to replace at {}", socket.display()))?;
    let mut channel = Channel::new(UnixStream::from_std(stream)?);
    let receive = async {
        send(&mut channel, Ask::HandOver(Empty {})).await?;
        loop {
            let frame = channel.receive().await?;
            let frame = frame.context("the process to replace has ended")?;
            match frame.decode::<Answer>()?.tell {
                Some(Tell::Item(Request { ask: Some(ask), .. })) => {
                    orders.obey(ask, frame.descriptors)?;
                }
                Some(Tell::HandedOver(_)) => return Ok(()),
                Some(Tell::Refused(reason)) => bail!("the process to replace refuses: {reason}"),
                // A later release that is replaced by an earlier one has more to give.
                Some(_) | None => {}
            }
        }
    };
    timeout(TIMEOUT, receive)
        .await
        .context("the process to replace is slow")??;
    Ok(Predecessor { channel })
}

impl Predecessor {
    /// Lets it end. If it has ended by itself, that is as well.
    pub(super) async fn dismiss(mut self) {
        let _ = send(&mut self.channel, Ask::TakenOver(Empty {})).await;
        // Until it has heard.
        let _ = timeout(TIMEOUT, self.channel.receive()).await;
    }
}

async fn send(channel: &mut Channel, ask: Ask) -> io::Result<()> {
    let request = Request {
        id: 1,
        ask: Some(ask),
    };
    channel.send(&request, &[]).await
}

/// Gives everything to the process at the other end, and ends this one once it has it. If it fails,
/// this process goes on.
pub(super) async fn hand_over(orders: &Rc<Orders>, channel: &mut Channel) -> io::Result<()> {
    let items = orders.hand_over().map_err(io::Error::other)?;
    let result = timeout(TIMEOUT, offer(&items, channel)).await;
    if matches!(result, Ok(Ok(()))) {
        orders.be_replaced();
        return Ok(());
    }
    for (request, descriptors) in items {
        if let Some(ask) = request.ask {
            // As it was served a moment ago, it can be served again.
            let _ = orders.obey(ask, descriptors);
        }
    }
    result?
}

async fn offer(
    items: &[(Request, Vec<std::os::fd::OwnedFd>)],
    channel: &mut Channel,
) -> io::Result<()> {
    let answer = |tell| Answer {
        id: 0,
        tell: Some(tell),
    };
    for (request, descriptors) in items {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let item = answer(Tell::Item(request.clone()));
        channel.send(&item, &descriptors).await?;
    }
    channel
        .send(&answer(Tell::HandedOver(Empty {})), &[])
        .await?;
    let frame = channel.receive().await?;
    let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
    match frame.decode::<Request>()?.ask {
        Some(Ask::TakenOver(_)) => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
