//! The grammar row by row, and every key against one node.

use super::*;
use crate::node::{NodeSpec, NodeStatus};
use crate::task::Platform;
use crate::{Labels, Meta, NodeId, NodeRole};

fn node() -> Node {
    let labels = |pairs: &[(&str, &str)]| -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    Node {
        id: NodeId::from_number(35),
        meta: Meta::default(),
        spec: NodeSpec {
            labels: labels(&[("zone", "East"), ("Rack", "r1")]),
            ..NodeSpec::default()
        },
        role: NodeRole::Worker,
        description: Some(NodeDescription {
            hostname: "alpha".into(),
            platform: Platform {
                architecture: "x86_64".into(),
                os: "linux".into(),
            },
            engine_labels: labels(&[("disk", "ssd")]),
            ..NodeDescription::default()
        }),
        status: NodeStatus {
            addr: Some("10.1.2.3".parse().unwrap()),
            ..NodeStatus::default()
        },
        manager_status: None,
        network_index: 0,
        certificate: crate::node::NodeCertificate::default(),
    }
}

#[test]
fn constraints_decide_as_swarm_does() {
    let table = [
        ("node.id == 000000000000000000000000z", true),
        ("node.id==000000000000000000000000Z", true),
        ("node.id != 000000000000000000000000z", false),
        ("node.hostname == alpha", true),
        ("NODE.HOSTNAME == Alpha", true),
        ("node.hostname != beta", true),
        // No glob, no regular expression, no part of a string.
        ("node.hostname == al*", false),
        ("node.hostname == alph", false),
        ("node.hostname != alpha.*", true),
        ("node.role == worker", true),
        ("node.role == manager", false),
        ("node.role != manager", true),
        ("node.platform.os == LINUX", true),
        ("node.platform.arch == x86_64", true),
        ("node.platform.arch == amd64", true),
        ("node.platform.arch != amd64", false),
        ("node.platform.arch == arm64", false),
        ("node.labels.zone == east", true),
        ("Node.Labels.zone == EAST", true),
        // Names of labels keep their case, and a missing label is empty.
        ("node.labels.Zone == east", false),
        ("node.labels.rack == r1", false),
        ("node.labels.Rack == r1", true),
        ("node.labels.missing == x", false),
        ("node.labels.missing != x", true),
        ("engine.labels.disk == ssd", true),
        ("engine.labels.disk != ssd", false),
        ("engine.labels.zone == East", false),
        ("node.ip == 10.1.2.3", true),
        ("node.ip != 10.1.2.3", false),
        ("node.ip == ::ffff:10.1.2.3", true),
        ("node.ip == 10.1.0.0/16", true),
        ("node.ip == 10.1.2.3/32", true),
        ("node.ip == 0.0.0.0/0", true),
        ("node.ip != 10.2.0.0/16", true),
        ("node.ip == fd00::/8", false),
        ("node.ip != fd00::/8", true),
        // Neither address nor network: no match, whatever the operator.
        ("node.ip == 10.1.2", false),
        ("node.ip != 10.1.2", false),
        ("node.ip != 10.1.0.0/33", false),
        ("node.ip != 10.1.0.0/+8", false),
        ("node.ip != 10.1.0.0/", false),
        // Unknown keys never match.
        ("node.colour == blue", false),
        ("node.colour != blue", false),
        ("node.labels. == blue", false),
        ("engine.labels. != blue", false),
    ];
    for (text, expected) in table {
        let constraint: Constraint = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(constraint.matches(&node()), expected, "{text}");
    }
}

#[test]
fn a_node_that_told_nothing_matches_only_negations() {
    let silent = Node {
        description: None,
        status: NodeStatus::default(),
        ..node()
    };
    for key in [
        "node.hostname",
        "node.ip",
        "node.platform.os",
        "node.platform.arch",
        "engine.labels.x",
    ] {
        let parse = |text: String| text.parse::<Constraint>().unwrap();
        assert!(!parse(format!("{key}==10.0.0.1")).matches(&silent), "{key}");
        assert!(parse(format!("{key}!=10.0.0.1")).matches(&silent), "{key}");
    }
}

#[test]
fn ipv6_nodes_match_addresses_and_networks() {
    let mut node = node();
    node.status.addr = Some("fd00:1::7".parse().unwrap());
    for (text, expected) in [
        ("node.ip==fd00:1::7", true),
        ("node.ip==fd00:1::/64", true),
        ("node.ip==fd00:2::/64", false),
        ("node.ip==::/0", true),
        ("node.ip==0.0.0.0/0", false),
        ("node.ip!=fd00::/129", false),
    ] {
        assert_eq!(
            text.parse::<Constraint>().unwrap().matches(&node),
            expected,
            "{text}"
        );
    }
}

#[test]
fn aliases_of_architectures_are_one() {
    for (a, b, same) in [
        ("x86_64", "amd64", true),
        ("AMD64", "x86_64", true),
        ("aarch64", "arm64", true),
        ("arm64", "amd64", false),
        ("riscv64", "RISCV64", true),
        ("", "amd64", false),
    ] {
        assert_eq!(same_architecture(a, b), same, "{a} {b}");
        assert_eq!(same_architecture(b, a), same, "{b} {a}");
    }
}

#[test]
fn bad_syntax_is_refused_with_the_part_that_is_wrong() {
    let key = |constraint: &str, key: &str| ConstraintError::Key {
        constraint: constraint.into(),
        key: key.into(),
    };
    let value = |constraint: &str, value: &str| ConstraintError::Value {
        constraint: constraint.into(),
        value: value.into(),
    };
    let operator = |constraint: &str| ConstraintError::Operator {
        constraint: constraint.into(),
    };
    let table = [
        ("", operator("")),
        ("node.role", operator("node.role")),
        ("node.role=manager", operator("node.role=manager")),
        ("node.role>manager", operator("node.role>manager")),
        ("node.role =! manager", operator("node.role =! manager")),
        ("==manager", key("==manager", "")),
        ("a==b", key("a==b", "a")),
        ("1a==b", key("1a==b", "1a")),
        ("-a==b", key("-a==b", "-a")),
        ("no de==b", key("no de==b", "no de")),
        ("nöde==b", key("nöde==b", "nöde")),
        ("aa!=b==c", key("aa!=b==c", "aa!=b")),
        ("node.role==", value("node.role==", "")),
        ("node.role==  ", value("node.role==  ", "")),
        ("node.role!=a,b", value("node.role!=a,b", "a,b")),
        ("node.role==a@b", value("node.role==a@b", "a@b")),
        ("node.role===a", value("node.role===a", "=a")),
        ("node.role==é", value("node.role==é", "é")),
    ];
    for (text, error) in table {
        assert_eq!(text.parse::<Constraint>(), Err(error), "{text}");
    }
}

#[test]
fn unusual_but_valid_syntax_is_taken() {
    for text in ["_a == b", "a- != b", "aa == a b", "aa==a:-_.*()?+[]\\^$|/"] {
        assert!(text.parse::<Constraint>().is_ok(), "{text}");
    }
    let all = ["node.role==worker".to_owned(), "node.role".to_owned()];
    assert!(Constraint::parse_all(&all).is_err());
    assert_eq!(Constraint::parse_all(&all[..1]).unwrap().len(), 1);
}

#[test]
fn keys_nobody_knows_can_be_told() {
    assert!(
        !"node.colour==blue"
            .parse::<Constraint>()
            .unwrap()
            .has_known_key()
    );
    assert!(
        "node.labels.colour==blue"
            .parse::<Constraint>()
            .unwrap()
            .has_known_key()
    );
}
