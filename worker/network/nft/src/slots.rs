//! Which backend stands in which slot: turns by weight, or a table for clients that come back.

use std::net::IpAddr;

use crate::service::{Affinity, Backend, SLOTS_MAX, Service};
use crate::table::fnv1a;

/// Sizes of the table for sticky clients: primes, so that every stride reaches every slot.
const TABLE_SIZES: [usize; 7] = [61, 127, 251, 509, 1021, 2039, 4093];

/// Table slots per unit of weight: backends' shares differ by about a hundredth of this inverse.
const SLOTS_PER_SHARE: usize = 16;

/// The backends in slot order; empty if none takes connections. `seed` turns the order of those
/// that take turns, so that many namespaces do not all begin with the same backend.
pub(crate) fn slots(service: &Service, seed: u64) -> Vec<Backend> {
    let mut serving: Vec<Backend> = service.serving().into_iter().copied().collect();
    match service.affinity {
        Affinity::None => {
            serving.sort_by_key(|backend| (mixed(*backend, seed), *backend));
            serving.dedup();
            turns(&serving)
        }
        Affinity::SourceAddress => {
            serving.sort();
            serving.dedup();
            lookup_table(&serving)
        }
    }
}

/// Each backend as often as its weight says, spread as evenly as can be: at every step each gains
/// its share, and the one with the most takes the slot and pays the whole.
fn turns(backends: &[Backend]) -> Vec<Backend> {
    let shares = shares(backends, SLOTS_MAX);
    let total: i64 = shares.iter().sum();
    let mut credit = vec![0; shares.len()];
    let mut slots = Vec::new();
    for _ in 0..total {
        for (credit, share) in credit.iter_mut().zip(&shares) {
            *credit += share;
        }
        // The first of those with the most.
        let best = (0..credit.len()).rev().max_by_key(|index| credit[*index]);
        if let Some(best) = best {
            credit[best] -= total;
            slots.push(backends[best]);
        }
    }
    slots
}

/// Weights divided by their greatest common divisor, and scaled down if they are still too many;
/// nobody who had a share loses all of it.
fn shares(backends: &[Backend], total_max: usize) -> Vec<i64> {
    let divisor = backends
        .iter()
        .fold(0, |divisor, backend| gcd(divisor, backend.weight))
        .max(1);
    let weights: Vec<u64> = backends
        .iter()
        .map(|backend| u64::from(backend.weight / divisor))
        .collect();
    let total: u64 = weights.iter().sum();
    let room = total_max.saturating_sub(backends.len()).max(1) as u64;
    weights
        .into_iter()
        .map(|weight| {
            let scaled = if total <= total_max as u64 {
                weight
            } else {
                (weight * room / total).max(1)
            };
            i64::try_from(scaled).expect("at most the number of slots")
        })
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A table as Maglev fills it: each backend walks all slots in an order of its own and takes the
/// next free one when it is its turn. Without one backend, most slots stay with who had them.
fn lookup_table(backends: &[Backend]) -> Vec<Backend> {
    if backends.is_empty() {
        return Vec::new();
    }
    let largest = TABLE_SIZES[TABLE_SIZES.len() - 1];
    let turns = turns_of(&shares(backends, largest));
    let wanted = backends.len() * SLOTS_PER_SHARE;
    let size = TABLE_SIZES
        .into_iter()
        .find(|size| *size >= wanted.max(turns.len()))
        .unwrap_or(largest);
    let mut table: Vec<Option<Backend>> = vec![None; size];
    let mut walks: Vec<(usize, usize)> = backends
        .iter()
        .map(|backend| (within(*backend, 1, size), 1 + within(*backend, 2, size - 1)))
        .collect();
    let mut free = size;
    for index in turns.iter().cycle() {
        if free == 0 {
            break;
        }
        let (at, stride) = &mut walks[*index];
        while table[*at].is_some() {
            *at = (*at + *stride) % size;
        }
        table[*at] = Some(backends[*index]);
        free -= 1;
    }
    table.into_iter().flatten().collect()
}

/// Indices, each as often as its share.
fn turns_of(shares: &[i64]) -> Vec<usize> {
    let rounds = shares.iter().max().copied().unwrap_or(0);
    (0..rounds)
        .flat_map(|round| (0..shares.len()).filter(move |index| shares[*index] > round))
        .collect()
}

fn within(backend: Backend, seed: u64, size: usize) -> usize {
    usize::try_from(mixed(backend, seed) % size as u64).expect("less than the table's size")
}

/// A number that looks random, the same for the same backend and seed everywhere.
fn mixed(backend: Backend, seed: u64) -> u64 {
    let mut bytes = Vec::with_capacity(26);
    bytes.extend_from_slice(&seed.to_be_bytes());
    match backend.address {
        IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
    }
    bytes.extend_from_slice(&backend.port.unwrap_or(0).to_be_bytes());
    // FNV leaves neighbouring addresses near each other: finish as splitmix64 does.
    let mut hash = fnv1a(&bytes);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests;
