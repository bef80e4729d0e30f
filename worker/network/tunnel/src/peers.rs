//! Keys, and the WireGuard sessions with each peer.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use boringtun::noise::Tunn;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519;
use zeroize::Zeroizing;

/// Handshakes a second that are answered without asking for a cookie first (WireGuard section 5.3).
const HANDSHAKES_PER_SECOND: u64 = 1000;

/// A node's private key. Made on the node and never leaves it.
#[derive(Clone)]
pub struct PrivateKey(x25519::StaticSecret);

impl PrivateKey {
    /// A fresh key.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes).expect("the kernel's random source answers once booted");
        Self::from_bytes(&bytes)
    }

    /// The key with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(x25519::StaticSecret::from(*bytes))
    }

    /// The key's bytes, to keep it.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519::PublicKey::from(&self.0).to_bytes())
    }
}

/// Equal are keys with the same public key.
impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.public() == other.public()
    }
}

impl Eq for PrivateKey {}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<private key of {:?}>", self.public())
    }
}

/// A node's public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A key of this node in use.
pub(crate) struct OwnKey {
    pub(crate) secret: PrivateKey,
    pub(crate) public: PublicKey,
    /// Shared by all tunnels of the key: a flood at one is a flood at all.
    pub(crate) limiter: Arc<RateLimiter>,
}

impl OwnKey {
    pub(crate) fn new(secret: PrivateKey) -> Self {
        let public = secret.public();
        let limiter = RateLimiter::new(&public.0.into(), HANDSHAKES_PER_SECOND);
        Self {
            secret,
            public,
            limiter: Arc::new(limiter),
        }
    }
}

/// Sessions between one key of ours and one of a peer's.
pub(crate) struct Link {
    /// What the peer writes into its packets to be told apart; 24 bits.
    pub(crate) slot: u32,
    pub(crate) ours: PublicKey,
    pub(crate) theirs: PublicKey,
    /// Index of the peer.
    pub(crate) peer: u32,
    pub(crate) endpoint: ArcSwap<SocketAddr>,
    tunn: Mutex<Tunn>,
}

impl Link {
    pub(crate) fn new(
        slot: u32,
        ours: &OwnKey,
        theirs: PublicKey,
        peer: u32,
        endpoint: SocketAddr,
    ) -> Self {
        let tunn = Tunn::new(
            ours.secret.0.clone(),
            theirs.0.into(),
            None,
            None,
            slot,
            Some(ours.limiter.clone()),
        );
        Self {
            slot,
            ours: ours.public,
            theirs,
            peer,
            endpoint: ArcSwap::from_pointee(endpoint),
            tunn: Mutex::new(tunn),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tunn> {
        self.tunn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_established(&self) -> bool {
        self.lock().time_since_last_handshake().is_some()
    }
}

/// A peer and every link with it, the one to send by first.
pub(crate) struct Peer {
    pub(crate) links: Vec<Arc<Link>>,
}

impl Peer {
    /// The link to send by: while the first one has no session, any other that has one, so that a
    /// change of keys loses nothing.
    pub(crate) fn pick(&self) -> Option<&Arc<Link>> {
        let ready = self.links.iter().find(|link| link.is_established());
        ready.or(self.links.first())
    }
}

impl OwnKey {
    /// Who sent a handshake, if it was sent to this key.
    pub(crate) fn initiator(
        &self,
        packet: &boringtun::noise::HandshakeInit<'_>,
    ) -> Option<PublicKey> {
        let public = x25519::PublicKey::from(self.public.0);
        boringtun::noise::handshake::parse_handshake_anon(&self.secret.0, &public, packet)
            .ok()
            .map(|half| PublicKey(half.peer_static_public))
    }
}
