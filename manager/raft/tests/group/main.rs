//! A group of managers over real connections: replication, failover, membership, partitions.

#![expect(clippy::unwrap_used, reason = "a test ends where something fails")]

mod harness;

use std::time::{Duration, Instant};

use harness::{Group, Node, PATIENCE};
use swarm_raft::{Condition, Error};

/// Of an election with the default timers: last heartbeat + twice 400 ms, and room for a slow machine.
const FAILOVER_MAX: Duration = Duration::from_millis(1_500);

fn multi() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn run(test: impl Future<Output = ()>) {
    multi().block_on(async {
        tokio::time::timeout(Duration::from_secs(120), test)
            .await
            .expect("the test hangs");
    });
}

#[test]
fn whoever_is_asked_the_same_is_written_everywhere() {
    run(async {
        let group = Group::new(3).await;
        let leader = group.leader().await;
        for at in 0..3 {
            let said = group.nodes[at].propose(&format!("from {at}")).await;
            assert_eq!(said, format!("{}. from {at}", at + 1));
            // Read your writes, also on a follower.
            assert_eq!(group.nodes[at].journal.len(), at + 1);
        }
        assert_eq!(group.converged(3).await, ["from 0", "from 1", "from 2"]);
        let status = group.nodes[leader].status();
        assert_eq!(status.members.len(), 3);
        assert!(
            status.members.iter().all(|m| m.voter && m.reachable),
            "{status:?}"
        );
    });
}

#[test]
fn proposals_run_in_parallel() {
    run(async {
        let group = Group::new(3).await;
        let tasks = (0..300).map(|i| {
            let raft = group.nodes[i % 3].raft.clone();
            async move {
                raft.propose(format!("{i}").into_bytes())
                    .await
                    .unwrap()
                    .index
            }
        });
        let mut indexes = futures::future::join_all(tasks).await;
        indexes.sort_unstable();
        indexes.dedup();
        assert_eq!(indexes.len(), 300, "two proposals share an index");
        group.converged(300).await;
    });
}

#[test]
fn the_others_go_on_after_a_leader_dies() {
    run(async {
        let mut group = Group::new(3).await;
        group.nodes[0].propose("before").await;
        let leader = group.split().await;
        let old = leader.id();
        let died = Instant::now();
        let dead = leader.kill().await;
        group.nodes[0].propose("after").await;
        let gap = died.elapsed();
        println!("failover_gap: {} ms", gap.as_millis());
        assert!(gap < FAILOVER_MAX, "{gap:?}");
        assert_eq!(group.converged(2).await, ["before", "after"]);
        let at = group.leader().await;
        let status = group.nodes[at].status();
        assert_ne!(status.leader, Some(old));

        // The dead one comes back as a follower with everything.
        group.nodes.push(Node::restart(dead).await);
        assert_eq!(group.converged(2).await, ["before", "after"]);
        assert_eq!(group.nodes[2].id(), old);
        group.leader().await;
    });
}

#[test]
fn a_leader_cut_off_refuses_quickly_and_follows_afterwards() {
    run(async {
        let mut group = Group::new(3).await;
        group.nodes[0].propose("before").await;
        let leader = group.split().await;
        leader.cut();
        let at = group.leader().await;
        group.nodes[at].propose("by the majority").await;

        leader.wait("steps down", |s| !s.is_leader).await;
        assert_eq!(leader.status().leader, None);
        let asked = Instant::now();
        let refused = leader.raft.propose(b"lost".to_vec()).await;
        assert!(matches!(refused, Err(Error::NoLeader)), "{refused:?}");
        assert!(
            asked.elapsed() < Duration::from_millis(1_500),
            "{:?}",
            asked.elapsed()
        );
        let barrier = leader.raft.read_barrier().await;
        assert!(barrier.is_err(), "a cut-off leader claims to be current");

        leader.heal();
        group.nodes.push(leader);
        assert_eq!(group.converged(2).await, ["before", "by the majority"]);
        group.leader().await;
        group.nodes[2].propose("healed").await;
        group.converged(3).await;
    });
}

#[test]
fn a_follower_cut_off_does_not_disturb_when_it_returns() {
    run(async {
        let group = Group::new(3).await;
        let leader = group.leader().await;
        let follower = (leader + 1) % 3;
        let term = group.nodes[leader].status().term;
        group.nodes[follower].cut();
        group.nodes[follower]
            .wait("misses the leader", |s| s.leader.is_none())
            .await;
        let member = group.nodes[follower].id();
        group.nodes[leader]
            .wait("misses the follower", |s| {
                s.members.iter().any(|m| m.id == member && !m.reachable)
            })
            .await;
        // Long enough for several elections, if it held any.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        for i in 0..20 {
            group.nodes[leader].propose(&format!("{i}")).await;
        }
        group.nodes[follower].heal();
        group.converged(20).await;
        group.nodes[leader].propose("after").await;
        assert_eq!(group.leader().await, leader);
        assert_eq!(
            group.nodes[leader].status().term,
            term,
            "an election was held"
        );
    });
}

#[test]
fn a_follower_that_restarts_catches_up() {
    run(async {
        let mut group = Group::new(3).await;
        group.nodes[0].propose("one").await;
        let leader = group.leader().await;
        let follower = group.nodes.remove((leader + 1) % 3);
        let id = follower.id();
        let dead = follower.kill().await;
        for i in 0..50 {
            group.nodes[0].propose(&format!("{i}")).await;
        }
        group.nodes.push(Node::restart(dead).await);
        group.converged(51).await;
        assert_eq!(group.nodes[2].id(), id);
        assert_eq!(group.nodes[2].journal.restores(), 0, "the log was enough");
    });
}

#[test]
fn the_whole_group_restarts_with_everything() {
    run(async {
        let mut group = Group::new(3).await;
        for i in 0..30 {
            group.nodes[i % 3].propose(&format!("{i}")).await;
        }
        let before = group.converged(30).await;
        let mut dead = Vec::new();
        for node in group.nodes.drain(..) {
            dead.push(node.kill().await);
        }
        for node in dead {
            group.nodes.push(Node::restart(node).await);
        }
        group.leader().await;
        group.nodes[0].raft.read_barrier().await.unwrap();
        assert_eq!(group.converged(30).await, before);
        group.nodes[1].propose("again").await;
        group.converged(31).await;
    });
}

#[test]
fn a_new_member_gets_a_snapshot_when_the_log_is_gone() {
    run(async {
        let mut group = Group::with(1, |options| {
            options.snapshot_interval = 100;
            options.snapshot_keep_entries = 10;
        })
        .await;
        for i in 0..350 {
            group.nodes[0].propose(&format!("entry {i}")).await;
        }
        group.grow().await;
        group.grow().await;
        group.nodes[2].propose("last").await;
        group.converged(351).await;
        assert!(
            group.nodes[1].journal.restores() > 0,
            "no snapshot was needed"
        );

        // What was installed is on disk as well.
        let node = group.nodes.remove(1);
        let node = Node::restart(node.kill().await).await;
        node.wait_len(351).await;
        group.nodes.push(node);
        group.converged(351).await;
    });
}

#[test]
fn large_states_and_proposals_pass() {
    run(async {
        let mut group = Group::with(1, |options| {
            options.snapshot_interval_bytes = 4 << 20;
            options.snapshot_keep_entries = 1;
        })
        .await;
        for i in 0..8_u8 {
            group.nodes[0]
                .raft
                .propose(vec![b'a' + i; 3 << 19])
                .await
                .unwrap();
        }
        let too_large = group.nodes[0].raft.propose(vec![0; (3 << 19) + 1]).await;
        assert!(matches!(too_large, Err(Error::TooLarge { .. })));
        group.grow().await;
        group.nodes[1]
            .raft
            .propose(vec![b'z'; 3 << 19])
            .await
            .unwrap();
        let all = group.converged(9).await;
        assert!(all.iter().all(|c| c.len() == 3 << 19));
        assert!(
            group.nodes[1].journal.restores() > 0,
            "size did not cause a snapshot"
        );
        let node = Node::restart(group.nodes.remove(0).kill().await).await;
        node.wait_len(8).await;
        assert_eq!(node.journal.commands()[..8], all[..8]);
    });
}

#[test]
fn members_come_and_go() {
    run(async {
        let mut group = Group::new(1).await;
        group.nodes[0].propose("one").await;
        group.grow().await;
        group.grow().await;
        group.grow().await;
        let status = group.nodes[0].wait("four", |s| {
            s.members.iter().filter(|m| m.voter).count() == 4
        });
        assert_eq!(status.await.members.len(), 4);

        // Asked for by a follower.
        let leader = group.leader().await;
        let gone = group.nodes.remove((leader + 1) % 4);
        let asked = group.leader().await;
        group.nodes[(asked + 1) % 3]
            .raft
            .remove_member(gone.id())
            .await
            .unwrap();
        let status = gone
            .wait("is told", |s| s.condition == Condition::Removed)
            .await;
        assert!(!status.is_leader);
        let refused = gone.raft.propose(b"x".to_vec()).await;
        assert!(
            matches!(refused, Err(Error::MemberRemoved { .. })),
            "{refused:?}"
        );

        // Twice is fine, a stranger is not, and an id is spent.
        let raft = &group.nodes[0].raft;
        raft.remove_member(gone.id()).await.unwrap();
        assert!(matches!(
            raft.remove_member(999).await,
            Err(Error::UnknownMember { id: 999 })
        ));
        let again = raft.add_member(gone.id(), &gone.addr.to_string()).await;
        assert!(
            matches!(again, Err(Error::MemberRemoved { .. })),
            "{again:?}"
        );

        group.nodes[1].propose("two").await;
        assert_eq!(group.converged(2).await, ["one", "two"]);
        assert_eq!(gone.journal.len(), 1);
    });
}

#[test]
fn a_removed_member_that_was_away_learns_so_when_it_returns() {
    run(async {
        let mut group = Group::new(3).await;
        let leader = group.leader().await;
        let follower = group.nodes.remove((leader + 1) % 3);
        let id = follower.id();
        let dead = follower.kill().await;
        let leader = group.leader().await;
        group.nodes[leader].raft.remove_member(id).await.unwrap();
        let back = Node::restart(dead).await;
        back.wait("is told", |s| s.condition == Condition::Removed)
            .await;
        let term = group.nodes[leader].status().term;
        group.nodes[leader].propose("undisturbed").await;
        assert_eq!(group.nodes[leader].status().term, term);
    });
}

#[test]
fn a_leader_that_removes_itself_hands_over_first() {
    run(async {
        let mut group = Group::new(3).await;
        let leader = group.split().await;
        leader
            .raft
            .remove_member(leader.id())
            .await
            .unwrap_or_else(|e| {
                // It may learn of its removal before the answer to its own request arrives.
                assert!(matches!(e, Error::MemberRemoved { .. }), "{e}");
            });
        leader
            .wait("is told", |s| s.condition == Condition::Removed)
            .await;
        let at = group.leader().await;
        group.nodes[at].propose("after").await;
        assert_eq!(group.nodes[at].status().members.len(), 2);
    });
}

#[test]
fn removal_never_costs_the_quorum() {
    run(async {
        let mut group = Group::new(1).await;
        let alone = &group.nodes[0];
        let last = alone.raft.remove_member(alone.id()).await;
        assert!(matches!(last, Err(Error::LastMember { .. })), "{last:?}");

        group.grow().await;
        group.grow().await;
        let leader = group.leader().await;
        let dead = group.nodes.remove((leader + 1) % 3);
        let dead_id = dead.id();
        let dead = dead.kill().await;
        let leader = group.leader().await;
        group.nodes[leader]
            .wait("misses one", |s| {
                s.members.iter().any(|m| m.id == dead_id && !m.reachable)
            })
            .await;
        let alive = group.nodes[1 - leader].id();
        // Asked through the follower, so that the refusal crosses the wire.
        let refused = group.nodes[1 - leader].raft.remove_member(alive).await;
        assert!(
            matches!(refused, Err(Error::QuorumLoss { .. })),
            "{refused:?}"
        );
        group.nodes[leader]
            .raft
            .remove_member(dead_id)
            .await
            .unwrap();
        drop(dead);
    });
}

#[test]
fn a_new_member_has_to_answer() {
    run(async {
        let group = Group::with(1, |options| options.health_check_ms = 500).await;
        let raft = &group.nodes[0].raft;
        let nobody = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let refused = raft.add_member(5, &nobody.to_string()).await;
        assert!(
            matches!(refused, Err(Error::Unreachable { .. })),
            "{refused:?}"
        );
        // Somebody who accepts and says nothing.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let asked = Instant::now();
        let refused = raft
            .add_member(5, &silent.local_addr().unwrap().to_string())
            .await;
        assert!(
            matches!(refused, Err(Error::Unreachable { .. })),
            "{refused:?}"
        );
        assert!(asked.elapsed() < Duration::from_secs(3));
        let other = group.fresh(6).await;
        let refused = raft.add_member(5, &other.addr.to_string()).await;
        assert!(
            matches!(refused, Err(Error::WrongMember { actual: 6, .. })),
            "{refused:?}"
        );
        assert_eq!(
            group.nodes[0].status().members.len(),
            1,
            "nothing was changed"
        );
    });
}

#[test]
fn a_member_can_move() {
    run(async {
        let mut group = Group::new(3).await;
        let leader = group.leader().await;
        let follower = group.nodes.remove((leader + 1) % 3);
        let (options, old_addr, net) = follower.kill().await;
        let moved = Node::start(options, net).await;
        assert_ne!(moved.addr, old_addr);
        let id = moved.id();
        let new_addr = moved.addr.to_string();
        moved
            .raft
            .join(&group.nodes[0].addr.to_string(), &new_addr)
            .await
            .unwrap();
        group.nodes.push(moved);
        group.nodes[0].propose("found").await;
        group.converged(1).await;
        let status = group.nodes[0].wait("moved", |s| {
            s.members
                .iter()
                .any(|m| m.id == id && m.addr == new_addr && m.voter)
        });
        assert_eq!(status.await.members.len(), 3);
    });
}

#[test]
fn leadership_is_handed_over_at_once() {
    run(async {
        let group = Group::new(3).await;
        for round in 0..3 {
            let leader = group.leader().await;
            let to = group.nodes[(leader + 1) % 3].id();
            let asked = Instant::now();
            group.nodes[leader]
                .raft
                .transfer_leadership(Some(to))
                .await
                .unwrap();
            group.nodes[leader].propose(&format!("{round}")).await;
            println!(
                "transfer_to_first_commit: {} ms",
                asked.elapsed().as_millis()
            );
            assert!(asked.elapsed() < FAILOVER_MAX, "{:?}", asked.elapsed());
            let now = group.leader().await;
            assert_eq!(group.nodes[now].id(), to);
        }
        let leader = group.leader().await;
        let follower = &group.nodes[(leader + 1) % 3].raft;
        let refused = follower.transfer_leadership(None).await;
        assert!(matches!(refused, Err(Error::NoLeader)), "{refused:?}");
        group.nodes[leader]
            .raft
            .transfer_leadership(None)
            .await
            .unwrap();
        assert_ne!(group.leader().await, leader);
    });
}

#[test]
fn a_barrier_makes_a_follower_current() {
    run(async {
        let group = Group::new(3).await;
        let leader = group.leader().await;
        let follower = &group.nodes[(leader + 1) % 3];
        for i in 0..50 {
            group.nodes[leader].propose(&format!("{i}")).await;
            follower.raft.read_barrier().await.unwrap();
            assert_eq!(follower.journal.len(), i + 1, "the follower is behind");
        }
    });
}

#[test]
fn without_a_majority_nothing_is_written_and_nobody_waits_for_ever() {
    run(async {
        let mut group = Group::with(3, |options| {
            options.proposal_timeout_ms = 3_000;
            options.leader_wait_ms = 1_000;
        })
        .await;
        let leader = group.split().await;
        let other = group.nodes.remove(0);
        let dead = [leader.kill().await, other.kill().await];
        let alone = group.nodes.remove(0);
        alone
            .wait("misses the leader", |s| s.leader.is_none())
            .await;
        let asked = Instant::now();
        let refused = alone.raft.propose(b"x".to_vec()).await;
        assert!(matches!(refused, Err(Error::NoLeader)), "{refused:?}");
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        group.nodes.push(alone);
        for node in dead {
            group.nodes.push(Node::restart(node).await);
        }
        group.leader().await;
        group.nodes[0].propose("again").await;
        assert_eq!(group.converged(1).await, ["again"]);
    });
}

#[test]
fn a_stopped_member_says_so() {
    run(async {
        let mut group = Group::new(1).await;
        let node = group.nodes.remove(0);
        let raft = node.raft.clone();
        let mut status = raft.status();
        node.kill().await;
        let stopped = status.wait_for(|s| s.condition == Condition::Stopped);
        tokio::time::timeout(PATIENCE, stopped)
            .await
            .unwrap()
            .unwrap();
        assert!(matches!(raft.propose(vec![1]).await, Err(Error::Stopped)));
        assert!(raft.add_member(9, "x").await.is_err());
        assert!(raft.read_barrier().await.is_err());
    });
}
