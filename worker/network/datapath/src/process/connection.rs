//! One connection: a daemon that gives orders, or a successor that takes over.

use super::orders::Orders;
use super::take_over;
use datapath_client::PROTOCOL;
use datapath_client::channel::{Channel, Frame};
use datapath_client::message::{Answer, Ask, Hello, Peers, Request, Tell};
use std::io;
use std::rc::Rc;

/// Serves a connection until it ends.
pub(super) async fn serve(orders: Rc<Orders>, mut channel: Channel) {
    // Who breaks off, or talks nonsense, has to connect again.
    let _ = converse(&orders, &mut channel).await;
}

async fn converse(orders: &Rc<Orders>, channel: &mut Channel) -> io::Result<()> {
    let Some(frame) = channel.receive().await? else {
        return Ok(());
    };
    let request: Request = frame.decode()?;
    match request.ask {
        Some(Ask::Hello(hello)) if hello.protocol == PROTOCOL => {}
        Some(Ask::HandOver(_)) => return take_over::hand_over(orders, channel).await,
        _ => {
            let reason = format!("a hello with protocol {PROTOCOL} comes first");
            return tell(channel, request.id, Tell::Refused(reason)).await;
        }
    }
    let welcome = Hello {
        protocol: PROTOCOL,
        release: orders.release().to_owned(),
    };
    tell(channel, request.id, Tell::Welcome(welcome)).await?;
    let (rank, mut peers) = (orders.come_first(), orders.peers());
    peers.mark_changed();
    loop {
        tokio::select! {
            frame = channel.receive() => {
                let Some(frame) = frame? else { return Ok(()) };
                let answer = obey(orders, rank, frame).await?;
                channel.send(&answer, &[]).await?;
            }
            changed = peers.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let states = Peers::from(&*peers.borrow_and_update());
                tell(channel, 0, Tell::Peers(states)).await?;
            }
            () = orders.ended() => return Ok(()),
        }
    }
}

async fn obey(orders: &Orders, rank: u64, frame: Frame) -> io::Result<Answer> {
    let Request { id, ask } = frame.decode()?;
    let tell = match ask {
        None => Tell::Refused(String::from("this release does not know the request")),
        // A later daemon has taken over; this one must not undo what it says.
        Some(_) if !orders.is_first(rank) => {
            Tell::Refused(String::from("another daemon gives the orders now"))
        }
        Some(ask) => orders
            .obey(ask, frame.descriptors)
            .unwrap_or_else(|error| Tell::Refused(format!("{error:#}"))),
    };
    Ok(Answer {
        id,
        tell: Some(tell),
    })
}

async fn tell(channel: &mut Channel, id: u64, tell: Tell) -> io::Result<()> {
    let answer = Answer {
        id,
        tell: Some(tell),
    };
    channel.send(&answer, &[]).await
}
