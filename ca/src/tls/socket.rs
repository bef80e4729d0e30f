//! TCP options of every connection between nodes.

use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// Silence after which the kernel asks whether the other end is still there.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(3);
/// Time between two such questions.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Unanswered questions after which the connection is given up.
pub const KEEPALIVE_PROBES: u32 = 3;
/// Longest time that sent data may stay unacknowledged: the connection is given up after it.
///
/// Equal to what the keepalive allows, so that a silent cut is noticed after the same time whether
/// the connection was idle or busy. Linux gives up after 15 minutes by default.
pub const USER_TIMEOUT: Duration = Duration::from_secs(6);

/// Sends small messages at once and notices a peer that is gone without a word.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    let user_timeout_ms = u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(stream, user_timeout_ms)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn options_reach_the_kernel() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        tune(&stream).unwrap();
        assert!(stream.nodelay().unwrap());
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), KEEPALIVE_IDLE);
        assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), KEEPALIVE_PROBES);
        assert_eq!(
            u128::from(sockopt::tcp_user_timeout(&stream).unwrap()),
            USER_TIMEOUT.as_millis()
        );
    }
}
