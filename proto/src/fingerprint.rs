//! Numbers by which both sides of a session tell whether they hold the same records.

use prost::Message as _;

use crate::dispatcher::AssignmentChange;
use crate::dispatcher::assignment_change::Change;

/// A fingerprint of one record. The same on every machine and of every release that knows the same
/// fields; those of several records are added up, wrapping.
#[must_use]
pub fn fingerprint(change: &Change) -> u64 {
    const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const FNV_PRIME: u64 = 0x0100_0000_01b3;
    let message = AssignmentChange {
        change: Some(change.clone()),
    };
    let hash = message
        .encode_to_vec()
        .iter()
        .fold(FNV_OFFSET, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
        });
    // The finalizer of splitmix64: sums of similar records must not cancel out.
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
