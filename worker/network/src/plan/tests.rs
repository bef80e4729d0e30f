//! Tables for `plan`: each difference, and that the changes it leads to leave none.

use super::*;
use crate::state::{LinkKind, Port};

fn name(text: &str) -> LinkName {
    LinkName::existing(text)
}

fn bridge(mtu: u32) -> Link {
    Link {
        kind: LinkKind::Bridge,
        mac: Some([2, 0x4e, 0, 0, 0, 1]),
        mtu,
        is_up: true,
        port: None,
    }
}

fn veth(of: &str) -> Link {
    let port = Some(Port::container(name(of), false));
    Link {
        kind: LinkKind::Veth,
        mac: None,
        mtu: 1450,
        is_up: true,
        port,
    }
}

fn tunnel(vni: u32, of: &str) -> Link {
    let local = "10.0.0.1".parse().unwrap();
    let kind = LinkKind::Vxlan {
        vni,
        port: 4789,
        local,
    };
    Link {
        kind,
        mac: None,
        mtu: 1450,
        is_up: true,
        port: Some(Port::tunnel(name(of))),
    }
}

const NEAR: Mac = [2, 0x42, 10, 0, 1, 5];
const FAR: Mac = [2, 0x42, 10, 0, 1, 6];

/// A network with a container here and one on another node.
fn whole() -> State {
    let mut state = State::default();
    state.links.insert(name("sw-o1"), bridge(1450));
    state.links.insert(name("sw-x1"), tunnel(4096, "sw-o1"));
    state.links.insert(name("sw-01"), veth("sw-o1"));
    state
        .addresses
        .insert((name("sw-o1"), "10.0.1.1/24".parse().unwrap()));
    state.port_macs.insert((name("sw-01"), NEAR));
    state.port_macs.insert((name("sw-x1"), FAR));
    state
        .tunnel_macs
        .insert((name("sw-x1"), FAR), "10.0.0.2".parse().unwrap());
    state
        .neighbours
        .insert((name("sw-o1"), "10.0.1.5".parse().unwrap()), NEAR);
    state
        .neighbours
        .insert((name("sw-o1"), "10.0.1.6".parse().unwrap()), FAR);
    state
}

fn texts(desired: &State, observed: &State) -> Vec<String> {
    plan(desired, observed)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn equal_states_need_nothing() {
    assert_eq!(texts(&whole(), &whole()), Vec::<String>::new());
}

#[test]
fn everything_is_made_in_an_order_that_works() {
    let changes = texts(&whole(), &State::default());
    assert_eq!(
        changes,
        [
            "add link sw-o1",
            "add link sw-01",
            "add link sw-x1",
            "add 10.0.1.1/24 to sw-o1",
            "place 02:42:0a:00:01:05 behind sw-01",
            "place 02:42:0a:00:01:06 behind sw-x1",
            "send 02:42:0a:00:01:06 to 10.0.0.2 through sw-x1",
            "tell that 02:42:0a:00:01:05 has 10.0.1.5 on sw-o1",
            "tell that 02:42:0a:00:01:06 has 10.0.1.6 on sw-o1",
        ]
    );
}

#[test]
fn links_go_and_what_they_held_with_them() {
    let expected = [
        "remove link sw-01",
        "remove link sw-o1",
        "remove link sw-x1",
    ];
    assert_eq!(texts(&State::default(), &whole()), expected);
}

#[test]
fn each_difference_is_one_change() {
    type Damage = fn(&mut State);
    let cases: [(Damage, &[&str]); 9] = [
        (
            |state| {
                state
                    .tunnel_macs
                    .insert((name("sw-x1"), FAR), "10.0.0.3".parse().unwrap());
            },
            &["send 02:42:0a:00:01:06 to 10.0.0.2 through sw-x1"],
        ),
        (
            |state| {
                state.port_macs.remove(&(name("sw-01"), NEAR));
            },
            &["place 02:42:0a:00:01:05 behind sw-01"],
        ),
        (
            |state| {
                state.port_macs.insert((name("sw-01"), FAR));
            },
            &["forget 02:42:0a:00:01:06 behind sw-01"],
        ),
        (
            |state| {
                state
                    .neighbours
                    .insert((name("sw-o1"), "10.0.1.9".parse().unwrap()), NEAR);
            },
            &["forget 10.0.1.9 on sw-o1"],
        ),
        (
            |state| {
                state
                    .addresses
                    .insert((name("sw-o1"), "10.0.9.1/24".parse().unwrap()));
            },
            &["remove 10.0.9.1/24 from sw-o1"],
        ),
        (
            |state| state.links.get_mut(&name("sw-01")).unwrap().mtu = 1400,
            &["set up link sw-01"],
        ),
        (
            |state| {
                let link = state.links.get_mut(&name("sw-01")).unwrap();
                link.port.as_mut().unwrap().learns = true;
            },
            &["set up link sw-01"],
        ),
        (
            |state| drop(state.links.insert(name("sw-b2"), bridge(1500))),
            &["remove link sw-b2"],
        ),
        // A port that left its bridge has lost its place there.
        (
            |state| state.links.get_mut(&name("sw-01")).unwrap().port = None,
            &["set up link sw-01", "place 02:42:0a:00:01:05 behind sw-01"],
        ),
    ];
    for (damage, expected) in cases {
        let mut observed = whole();
        damage(&mut observed);
        assert_eq!(texts(&whole(), &observed), expected);
    }
}

#[test]
fn a_bridge_that_was_down_is_told_of_all_neighbours_again() {
    let mut observed = whole();
    observed.links.get_mut(&name("sw-o1")).unwrap().is_up = false;
    let changes = texts(&whole(), &observed);
    assert_eq!(changes[0], "set up link sw-o1");
    assert_eq!(
        changes
            .iter()
            .filter(|change| change.starts_with("tell that"))
            .count(),
        2
    );
}

#[test]
fn a_tunnel_made_in_another_way_is_made_afresh() {
    let mut observed = whole();
    observed.links.insert(name("sw-x1"), tunnel(4097, "sw-o1"));
    assert_eq!(
        texts(&whole(), &observed),
        [
            "remove link sw-x1",
            "add link sw-x1",
            "place 02:42:0a:00:01:06 behind sw-x1",
            "send 02:42:0a:00:01:06 to 10.0.0.2 through sw-x1",
        ]
    );
    // Without its bridge every port has to be put into the new one.
    let mut observed = whole();
    observed.links.remove(&name("sw-o1"));
    for port in ["sw-x1", "sw-01"] {
        observed.links.get_mut(&name(port)).unwrap().port = None;
    }
    let changes = texts(&whole(), &observed);
    assert_eq!(
        changes[..3],
        ["add link sw-o1", "set up link sw-01", "set up link sw-x1"]
    );
    assert_eq!(changes.len(), 3 + 1 + 2 + 2, "{changes:?}");
}

/// It is made and removed by another process, also afresh under the same name.
#[test]
fn a_device_of_an_encrypted_network_is_only_set_up() {
    let mut with = whole();
    let device = name("sw-t1");
    let link = Link {
        kind: LinkKind::Tap,
        ..tunnel(4096, "sw-o1")
    };
    with.links.insert(device.clone(), link);
    with.port_macs.insert((device.clone(), FAR));
    let taken_up = ["set up link sw-t1", "place 02:42:0a:00:01:06 behind sw-t1"];
    assert_eq!(texts(&with, &whole()), taken_up);
    let mut fresh = with.clone();
    fresh.links.get_mut(&device).unwrap().port = None;
    assert_eq!(texts(&with, &fresh), taken_up);
    assert_eq!(texts(&whole(), &with), [""; 0]);
}
