//! Which nodes live, as a state machine: packets and time go in, packets and timers come out.

use super::codec::Codec;
use super::identity::Identity;
use super::seal::OVERHEAD_BYTES;
use datapath_client::{Liveness, Peer, PeerStates};
use foca::{AccumulatingRuntime, Config, Foca, NoCustomBroadcast, Timer};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;
use types::NodeId;

/// Every node asks one other this often whether it lives.
pub const PROBE_PERIOD: Duration = Duration::from_millis(200);

/// How long it may take to answer before others are asked to ask it, too.
const PROBE_RTT: Duration = Duration::from_millis(70);

/// How long a node that answered nobody has to object.
pub const SUSPICION: Duration = Duration::from_millis(400);

/// While there is news, it is passed on this often.
const NEWS_PERIOD: Duration = Duration::from_millis(50);

/// Nodes that are silent are called this often, in case they are back.
pub const CALL_PERIOD: Duration = Duration::from_millis(500);

/// Nodes called at once.
const CALLS_MAX: usize = 4;

/// Bytes of a packet, below the MTU of any network in use.
const PACKET_BYTES_MAX: usize = 1200;

/// How long a life that ended is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// Something to be called back for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The protocol's own.
    Protocol(Timer<Identity>),
    /// News may still have to be passed on.
    News,
    /// Silent nodes are to be called.
    Call,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a content to an address.
    Send(SocketAddr, Vec<u8>),
    /// Call back with this after that time.
    CallBack(Duration, Alarm),
}

/// One node's knowledge of the others.
pub struct Swim {
    foca: Foca<Identity, Codec, StdRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Identity>,
    node: NodeId,
    peers: BTreeMap<NodeId, SocketAddr>,
    effects: Vec<Effect>,
    spreads_news: bool,
    /// Whether somebody came or went since this was last asked.
    has_changed: bool,
    /// Where to go on calling.
    next_call: usize,
}

impl Swim {
    /// A node that knows nobody yet, and what it begins with.
    #[must_use]
    pub fn new(identity: Identity, seed: [u8; 32]) -> Self {
        let random = StdRng::from_seed(seed);
        let mut swim = Self {
            node: identity.node,
            foca: Foca::new(identity, config(1), random, Codec),
            runtime: AccumulatingRuntime::new(),
            peers: BTreeMap::new(),
            effects: Vec::new(),
            spreads_news: false,
            has_changed: true,
            next_call: 0,
        };
        swim.effects
            .push(Effect::CallBack(Duration::ZERO, Alarm::Call));
        swim
    }

    /// Takes who the others are. Who is no longer among them is no longer called, but not declared
    /// dead either: that would go to those who still have to do with it.
    pub fn set_peers(&mut self, peers: &[Peer]) {
        let peers: BTreeMap<_, _> = peers
            .iter()
            .filter(|peer| peer.node != self.node)
            .map(|peer| (peer.node, peer.address))
            .collect();
        // Errors here and below mean a packet that does not fit or a call that comes too late;
        // neither leaves anything half done.
        let _ = self.foca.set_config(config(peers.len() + 1));
        self.peers = peers;
        self.has_changed = true;
        self.collect();
    }

    /// Takes a content that arrived.
    pub fn receive(&mut self, content: &[u8]) {
        let _ = self.foca.handle_data(content, &mut self.runtime);
        self.collect();
    }

    /// Is called back.
    pub fn call_back(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Protocol(timer) => {
                let _ = self.foca.handle_timer(timer, &mut self.runtime);
            }
            Alarm::News => {
                self.spreads_news = false;
                if self.foca.updates_backlog() > 0 {
                    let _ = self.foca.gossip(&mut self.runtime);
                }
            }
            Alarm::Call => {
                self.call();
                let effect = Effect::CallBack(CALL_PERIOD, Alarm::Call);
                self.effects.push(effect);
            }
        }
        self.collect();
    }

    /// What is to be done since this was last asked.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// What is known of each peer, if it may have changed since this was last asked.
    pub fn take_news(&mut self) -> Option<PeerStates> {
        std::mem::take(&mut self.has_changed).then(|| self.states())
    }

    /// What is known of each peer.
    #[must_use]
    pub fn states(&self) -> PeerStates {
        let known = self.liveness();
        let state = |node| (node, known.get(&node).copied().unwrap_or_default());
        self.peers.keys().copied().map(state).collect()
    }

    fn liveness(&self) -> HashMap<NodeId, Liveness> {
        let member = |member: &foca::Member<Identity>| {
            let liveness = match member.state() {
                // A suspect may still object.
                foca::State::Alive | foca::State::Suspect => Liveness::Up,
                foca::State::Down => Liveness::Down,
            };
            (member.id().node, liveness)
        };
        self.foca.iter_membership_state().map(member).collect()
    }

    /// Calls some of those that are silent; they answer with whom they know.
    fn call(&mut self) {
        let known = self.liveness();
        let is_silent = |node: &NodeId| known.get(node) != Some(&Liveness::Up);
        let silent: Vec<_> = self
            .peers
            .iter()
            .filter(|(node, _)| is_silent(node))
            .map(|(node, address)| Identity::new(*node, 0, *address))
            .collect();
        let count = silent.len().min(CALLS_MAX);
        for index in 0..count {
            let callee = silent[(self.next_call + index) % silent.len()];
            let _ = self.foca.announce(callee, &mut self.runtime);
        }
        self.next_call = self.next_call.wrapping_add(count);
    }

    fn collect(&mut self) {
        while self.runtime.to_notify().is_some() {
            self.has_changed = true;
        }
        while let Some((to, content)) = self.runtime.to_send() {
            // The managers know best where a node is.
            let address = self.peers.get(&to.node).copied().unwrap_or(to.address);
            self.effects.push(Effect::Send(address, content.to_vec()));
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            let alarm = Alarm::Protocol(timer);
            self.effects.push(Effect::CallBack(after, alarm));
        }
        if !self.spreads_news && self.foca.updates_backlog() > 0 {
            self.spreads_news = true;
            self.effects
                .push(Effect::CallBack(NEWS_PERIOD, Alarm::News));
        }
    }
}

/// Settings for a cluster of that many nodes.
fn config(nodes: usize) -> Config {
    // Each piece of news is told often enough to reach all with great certainty: it spreads
    // exponentially, so the number grows with the logarithm.
    let transmissions = 6 + 2 * (nodes.max(2).ilog2());
    let transmissions = u8::try_from(transmissions).unwrap_or(u8::MAX);
    let packet_bytes = PACKET_BYTES_MAX - OVERHEAD_BYTES;
    Config {
        probe_period: PROBE_PERIOD,
        probe_rtt: PROBE_RTT,
        suspect_to_down_after: SUSPICION,
        max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MAX),
        max_packet_size: NonZeroUsize::new(packet_bytes).expect("the overhead is less"),
        remove_down_after: Some(REMEMBERED),
        notify_down_members: true,
        ..Config::simple()
    }
}

#[cfg(test)]
mod tests;
