//! Which nodes live: SWIM between all nodes of the cluster, sealed with keys of the managers.
//!
//! Every node asks one other at a time whether it lives; one that answers neither it nor those it
//! asks for help has a moment to object, and is then known to be dead everywhere. [`swim`] decides,
//! [`service`] moves packets and time, [`seal`] keeps strangers out. Nothing but liveness is told
//! this way: who has which address comes from the managers alone.

pub mod codec;
pub mod identity;
pub mod seal;
pub mod service;
pub mod swim;

pub use service::Gossip;
