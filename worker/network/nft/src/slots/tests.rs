//! Slots by weight, by affinity, and how few clients move.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

fn backend(last: u8) -> Backend {
    Backend::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
}

fn counts(slots: &[Backend]) -> BTreeMap<IpAddr, usize> {
    let mut counts = BTreeMap::new();
    for slot in slots {
        *counts.entry(slot.address).or_default() += 1;
    }
    counts
}

#[test]
fn equal_weights_take_one_slot_each() {
    for weight in [1, 7, 1000, u32::MAX] {
        let service = Service::new((1..=5).map(|last| backend(last).with_weight(weight)));
        let slots = slots(&service, 3);
        assert_eq!(slots.len(), 5);
        assert!(counts(&slots).values().all(|count| *count == 1));
    }
}

#[test]
fn weights_are_shares_and_take_turns() {
    let service = Service::new([backend(1).with_weight(300), backend(2).with_weight(100)]);
    let slots = slots(&service, 0);
    assert_eq!(slots.len(), 4);
    assert_eq!(counts(&slots)[&backend(1).address], 3);
    // Uneven weights that have no common divisor still fit, and nobody is left out.
    let service = Service::new([backend(1).with_weight(u32::MAX), backend(2)]);
    let slots = super::slots(&service, 0);
    assert!(slots.len() <= SLOTS_MAX);
    assert!(slots.contains(&backend(2)));
    let service = Service::new(
        [5, 1, 1]
            .iter()
            .zip(1..)
            .map(|(w, n)| backend(n).with_weight(*w)),
    );
    let longest = super::slots(&service, 0)
        .chunk_by(|a, b| a.address == b.address)
        .map(<[_]>::len)
        .max();
    assert!(longest <= Some(2), "five turns do not come in one row");
}

#[test]
fn without_weight_no_slot() {
    let service = Service::new([backend(1).with_weight(0)]);
    assert!(slots(&service, 0).is_empty());
    assert!(slots(&service.sticky(), 0).is_empty());
}

#[test]
fn local_ones_first_while_there_are_any() {
    let mut service = Service::new([backend(1), backend(2).local()]);
    service.prefers_local = true;
    assert_eq!(slots(&service, 0), [backend(2).local()]);
    service.backends[1].weight = 0;
    assert_eq!(slots(&service, 0), [backend(1)]);
}

#[test]
fn namespaces_begin_differently() {
    let service = Service::new((1..=3).map(backend));
    let firsts: std::collections::BTreeSet<Backend> =
        (0..50).map(|seed| slots(&service, seed)[0]).collect();
    assert_eq!(firsts.len(), 3);
}

#[test]
fn sticky_tables_are_even() {
    for count in [1, 2, 3, 5, 10, 40, 200] {
        let service = Service::new((1..=count).map(backend)).sticky();
        let slots = slots(&service, 0);
        let counts = counts(&slots);
        let (least, most) = (counts.values().min(), counts.values().max());
        assert_eq!(counts.len(), usize::from(count));
        assert!(
            most.copied() <= least.map(|least| least + 1),
            "{count}: {counts:?}"
        );
    }
}

proptest! {
    #[test]
    fn few_clients_move(count in 3u8..30, gone in 0u8..30) {
        let gone = 1 + gone % count;
        let before = Service::new((1..=count).map(backend)).sticky();
        let mut after = before.clone();
        after.backends.retain(|b| *b != backend(gone));
        let (before, after) = (slots(&before, 0), slots(&after, 0));
        // A table of another size moves nearly everyone: it happens at few counts only.
        prop_assume!(before.len() == after.len());
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(a, b)| a != b && **a != backend(gone))
            .count();
        prop_assert!(moved * 3 <= before.len(), "{moved} of {} moved", before.len());
    }
}
