//! Floods at a manager's port: silent connections, slow ones, handshakes without end. The managers
//! keep their leader and go on writing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ca::tls::pinned_channel;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use swarm_tests::cluster::{Cluster, PATIENCE};
use swarmd::RaftTiming;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::caller::roots;

/// Connections that say nothing, and that say half of something.
const SILENT: usize = 2000;
/// Tasks that make one complete handshake after the other.
const HANDSHAKERS: usize = 4;
/// Services made while all of it goes on.
const WRITES: usize = 20;
/// The beginning of a ClientHello of 512 bytes, of which no more comes.
const HALF_A_HELLO: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

/// Another machine, as far as the managers can tell: none of them has this address.
fn attacker(number: usize) -> SocketAddr {
    let last = u8::try_from(number % 4).unwrap();
    SocketAddr::from(([127, 0, 0, 66 + last], 0))
}

async fn dial(from: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    socket.connect(to).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[expect(clippy::too_many_lines, reason = "one attack, told in its order")]
async fn floods_take_no_leader_down_and_stop_no_write() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).unwrap();
    // Everything shares the processors of one machine, attackers included: what is looked at is
    // whether the port keeps the managers apart, not how fast this machine is.
    let timing = RaftTiming {
        heartbeat_ms: 100,
        election_min_ms: 1000,
        election_max_ms: 1500,
    };
    let cluster = Cluster::new()
        .managers(3)
        .timing(timing)
        .start()
        .await
        .unwrap();
    let leader = cluster.leader().await.unwrap();
    let target: SocketAddr = cluster.machines[leader]
        .advertise_addr()
        .unwrap()
        .parse()
        .unwrap();
    let roots = roots(&cluster.machines[leader]).await;
    let mut flood = JoinSet::new();
    for number in 0..SILENT {
        flood.spawn(async move {
            loop {
                let Ok(mut stream) = dial(attacker(number), target).await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                if number % 2 == 0 {
                    drop(stream.write_all(HALF_A_HELLO).await);
                }
                // Held until the manager hangs up, then replaced.
                drop(stream.readable().await);
            }
        });
    }
    let made = Arc::<AtomicUsize>::default();
    for _ in 0..HANDSHAKERS {
        let (roots, made) = (roots.clone(), made.clone());
        flood.spawn(async move {
            loop {
                // Complete ones, kept open without a request.
                if let Ok(channel) = pinned_channel(&target.to_string(), &roots).await {
                    made.fetch_add(1, Ordering::Relaxed);
                    drop(channel);
                }
            }
        });
    }
    let writing = async {
        for number in 0..WRITES {
            let machine = &cluster.machines[number % 3];
            machine
                .create_service(&format!("s{number}"), 0)
                .await
                .unwrap();
            let views = cluster.machines[leader].self_view().await.unwrap();
            assert!(views.leader, "the leader lost its office at write {number}");
        }
        while made.load(Ordering::Relaxed) < 100 {
            let view = cluster.machines[leader].self_view().await.unwrap();
            assert!(view.leader, "the leader lost its office");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(2 * PATIENCE, writing).await.unwrap();
    println!(
        "{} handshakes of strangers meanwhile",
        made.load(Ordering::Relaxed)
    );
    flood.shutdown().await;
    // A newcomer from an honest address gets in while the remains are still being cleared up.
    let mut cluster = cluster;
    cluster.join("late", types::NodeRole::Worker).await.unwrap();
    cluster.shutdown().await;
}
