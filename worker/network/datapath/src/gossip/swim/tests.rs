//! Clusters in virtual time: deaths are known soon, loss kills nobody, healed partitions agree.

use super::*;
use rand::RngExt;
use std::collections::BinaryHeap;

const SECOND_US: u64 = 1_000_000;

/// Something that happens at a moment.
struct Event {
    at_us: u64,
    order: u64,
    what: What,
}

enum What {
    Arrival { to: usize, content: Vec<u8> },
    Alarm { of: usize, life: u32, alarm: Alarm },
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.order) == (other.at_us, other.order)
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at_us, other.order).cmp(&(self.at_us, self.order))
    }
}

/// A cluster and its network.
struct Cluster {
    now_us: u64,
    order: u64,
    events: BinaryHeap<Event>,
    nodes: Vec<Option<Swim>>,
    lives: Vec<u32>,
    /// What each node knows.
    states: Vec<PeerStates>,
    random: StdRng,
    loss: f64,
    /// Whether packets from one node reach another.
    reaches: Box<dyn Fn(usize, usize) -> bool>,
    packets: u64,
}

fn id(node: usize) -> NodeId {
    NodeId::from_number(node as u128 + 1)
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (node >> 8) as u8, node as u8], 7946))
}

impl Cluster {
    fn new(size: usize, seed: u64) -> Self {
        let mut cluster = Self {
            now_us: 0,
            order: 0,
            events: BinaryHeap::new(),
            nodes: (0..size).map(|_| None).collect(),
            lives: vec![0; size],
            states: vec![PeerStates::new(); size],
            random: StdRng::seed_from_u64(seed),
            loss: 0.0,
            reaches: Box::new(|_, _| true),
            packets: 0,
        };
        for node in 0..size {
            cluster.start(node);
        }
        cluster
    }

    fn start(&mut self, node: usize) {
        let generation = 1_000_000_000_000 + self.now_us / 1000;
        let identity = Identity::new(id(node), generation, address(node));
        let mut swim = Swim::new(identity, self.random.random());
        let peers: Vec<_> = (0..self.nodes.len())
            .map(|peer| Peer {
                node: id(peer),
                address: address(peer),
            })
            .collect();
        swim.set_peers(&peers);
        self.lives[node] += 1;
        self.states[node] = swim.states();
        self.nodes[node] = Some(swim);
        self.carry_out(node);
    }

    fn kill(&mut self, node: usize) {
        self.lives[node] += 1;
        self.nodes[node] = None;
    }

    fn push(&mut self, at_us: u64, what: What) {
        self.order += 1;
        self.events.push(Event {
            at_us,
            order: self.order,
            what,
        });
    }

    fn carry_out(&mut self, node: usize) {
        let Some(swim) = &mut self.nodes[node] else {
            return;
        };
        for effect in swim.take_effects() {
            match effect {
                Effect::Send(to, content) => {
                    self.packets += 1;
                    let to = (0..self.nodes.len()).find(|peer| address(*peer) == to);
                    let to = to.expect("packets go to nodes");
                    let delay_us = self.random.random_range(100..3000);
                    if (self.reaches)(node, to) && !self.random.random_bool(self.loss) {
                        self.push(self.now_us + delay_us, What::Arrival { to, content });
                    }
                }
                Effect::CallBack(after, alarm) => {
                    // Schedulers are late by a little.
                    let late_us = self.random.random_range(0..2000);
                    let after_us = u64::try_from(after.as_micros()).unwrap() + late_us;
                    let life = self.lives[node];
                    let of = node;
                    self.push(self.now_us + after_us, What::Alarm { of, life, alarm });
                }
            }
        }
    }

    /// Lets time pass, until `until` says that it is enough. Returns whether it did.
    fn run(&mut self, for_us: u64, mut until: impl FnMut(&Self) -> bool) -> bool {
        let end_us = self.now_us + for_us;
        if until(self) {
            return true;
        }
        while let Some(event) = self.events.pop() {
            if event.at_us > end_us {
                self.events.push(event);
                break;
            }
            self.now_us = event.at_us;
            let node = match event.what {
                What::Arrival { to, content } => {
                    if let Some(swim) = &mut self.nodes[to] {
                        swim.receive(&content);
                    }
                    to
                }
                What::Alarm { of, life, alarm } => {
                    if let Some(swim) = &mut self.nodes[of]
                        && self.lives[of] == life
                    {
                        swim.call_back(alarm);
                    }
                    of
                }
            };
            self.carry_out(node);
            let news = self.nodes[node].as_mut().and_then(Swim::take_news);
            if let Some(states) = news {
                self.states[node] = states;
                if until(self) {
                    return true;
                }
            }
        }
        self.now_us = end_us;
        false
    }

    fn liveness(&self, of: usize, by: usize) -> Liveness {
        self.states[by].get(&id(of)).copied().unwrap_or_default()
    }

    /// Whether all who live agree on who does.
    fn agrees(&self) -> bool {
        let size = self.nodes.len();
        (0..size).all(|by| {
            self.nodes[by].is_none()
                || (0..size).filter(|of| *of != by).all(|of| {
                    let lives = self.nodes[of].is_some();
                    lives == (self.liveness(of, by) == Liveness::Up)
                })
        })
    }

    /// Lets all find each other.
    fn settle(&mut self, within_us: u64) {
        assert!(self.run(within_us, Self::agrees), "no agreement in time");
    }
}

#[test]
fn nodes_find_each_other() {
    for size in [1, 2, 5, 30] {
        let mut cluster = Cluster::new(size, 7);
        if size > 1 {
            cluster.settle(3 * SECOND_US);
        }
    }
}

#[test]
fn a_silent_death_is_known_within_a_second() {
    let mut times_ms = Vec::new();
    for seed in 0..100 {
        let mut cluster = Cluster::new(5, seed);
        cluster.settle(3 * SECOND_US);
        cluster.run(SECOND_US + seed * 13_000, |_| false);
        let killed_at_us = cluster.now_us;
        cluster.kill(4);
        let known = |cluster: &Cluster| (0..4).any(|by| cluster.liveness(4, by) == Liveness::Down);
        assert!(cluster.run(3 * SECOND_US, known));
        times_ms.push((cluster.now_us - killed_at_us) / 1000);
        let all = |cluster: &Cluster| (0..4).all(|by| cluster.liveness(4, by) == Liveness::Down);
        assert!(cluster.run(SECOND_US, all));
        cluster.start(4);
        cluster.settle(3 * SECOND_US);
    }
    times_ms.sort_unstable();
    println!("median {} ms, worst {} ms", times_ms[50], times_ms[99]);
    // The worst case is a few unlucky probes more.
    assert!(times_ms[90] <= 1000 && times_ms[99] <= 1500, "{times_ms:?}");
}

#[test]
fn loss_kills_nobody() {
    for (size, minutes) in [(5, 30), (30, 2)] {
        let mut cluster = Cluster::new(size, 11);
        cluster.settle(3 * SECOND_US);
        cluster.loss = 0.1;
        let mut deaths = 0;
        for _ in 0..minutes * 60 {
            if cluster.run(SECOND_US, |cluster| !cluster.agrees()) {
                deaths += 1;
            }
        }
        println!("{size} nodes: {deaths} moments of disagreement in {minutes} minutes");
        assert_eq!(deaths, 0, "{size} nodes");
    }
}

#[test]
fn an_idle_cluster_says_little() {
    let mut cluster = Cluster::new(5, 3);
    cluster.settle(3 * SECOND_US);
    cluster.run(10 * SECOND_US, |_| false);
    let before = cluster.packets;
    cluster.run(10 * SECOND_US, |_| false);
    let each_second = (cluster.packets - before) / 10 / 5;
    // A question and an answer each period, and no news.
    assert!(each_second <= 11, "{each_second} packets a second and node");
}

/// All ways to divide five nodes into groups.
fn partitions() -> Vec<[u8; 5]> {
    let mut all = Vec::new();
    for code in 0..5_u32.pow(5) {
        let group = |index: u32| u8::try_from(code / 5_u32.pow(index) % 5).unwrap();
        let groups: [u8; 5] = std::array::from_fn(|index| group(u32::try_from(index).unwrap()));
        // Numbered in the order of their first members.
        let mut next = 0;
        let is_canonical = groups.iter().all(|group| {
            let fits = *group <= next;
            next = next.max(group + 1);
            fits
        });
        if is_canonical {
            all.push(groups);
        }
    }
    all
}

#[test]
fn every_partition_heals() {
    let all = partitions();
    assert_eq!(all.len(), 52);
    for (index, groups) in all.into_iter().enumerate() {
        for loss in [0.0, 0.1] {
            let mut cluster = Cluster::new(5, index as u64);
            cluster.settle(3 * SECOND_US);
            cluster.reaches = Box::new(move |from, to| groups[from] == groups[to]);
            cluster.loss = loss;
            cluster.run(5 * SECOND_US, |_| false);
            for (of, by) in (0..5).flat_map(|of| (0..5).map(move |by| (of, by))) {
                if groups[of] != groups[by] {
                    let liveness = cluster.liveness(of, by);
                    assert_eq!(liveness, Liveness::Down, "{groups:?}: {of} seen by {by}");
                }
            }
            cluster.reaches = Box::new(|_, _| true);
            assert!(cluster.run(10 * SECOND_US, Cluster::agrees), "{groups:?}");
            let disagrees = |cluster: &Cluster| !cluster.agrees();
            cluster.loss = 0.0;
            cluster.run(3 * SECOND_US, |_| false);
            assert!(!cluster.run(5 * SECOND_US, disagrees), "{groups:?} again");
        }
    }
}

#[test]
fn one_way_cuts_and_restarts_heal() {
    for from in 0..5 {
        for to in (0..5).filter(|to| *to != from) {
            let mut cluster = Cluster::new(5, 17 + (from * 5 + to) as u64);
            cluster.settle(3 * SECOND_US);
            // Others can reach it: it is not dead.
            cluster.reaches = Box::new(move |a, b| (a, b) != (from, to));
            cluster.run(3 * SECOND_US, |_| false);
            assert!(cluster.agrees(), "{from} to {to}");
            // Nobody hears it.
            cluster.reaches = Box::new(move |a, _| a != from);
            cluster.run(3 * SECOND_US, |_| false);
            cluster.kill(to);
            cluster.run(SECOND_US, |_| false);
            cluster.start(to);
            cluster.reaches = Box::new(|_, _| true);
            cluster.settle(10 * SECOND_US);
            assert!(!cluster.run(5 * SECOND_US, |cluster| !cluster.agrees()));
        }
    }
}

#[test]
fn who_is_no_longer_a_peer_is_not_spoken_of() {
    let mut cluster = Cluster::new(3, 1);
    cluster.settle(3 * SECOND_US);
    let peers = [Peer {
        node: id(1),
        address: address(1),
    }];
    cluster.kill(2);
    for node in [0, 1] {
        cluster.nodes[node].as_mut().unwrap().set_peers(&peers);
    }
    let states = cluster.nodes[0].as_ref().unwrap().states();
    assert_eq!(
        states.into_iter().collect::<Vec<_>>(),
        [(id(1), Liveness::Up)]
    );
}

#[test]
fn others_hold_on_to_who_is_no_longer_a_peer_of_one() {
    let mut cluster = Cluster::new(3, 5);
    cluster.settle(3 * SECOND_US);
    let peers = [Peer {
        node: id(1),
        address: address(1),
    }];
    cluster.nodes[0].as_mut().unwrap().set_peers(&peers);
    let doubts = |cluster: &Cluster| {
        cluster.liveness(2, 1) != Liveness::Up || cluster.liveness(0, 2) != Liveness::Up
    };
    assert!(!cluster.run(5 * SECOND_US, doubts));
    // And when it is one again, nothing has to be found out anew.
    let all = [1, 2].map(|peer| Peer {
        node: id(peer),
        address: address(peer),
    });
    cluster.nodes[0].as_mut().unwrap().set_peers(&all);
    cluster.settle(SECOND_US);
}
