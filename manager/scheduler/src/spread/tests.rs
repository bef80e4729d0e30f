//! How tasks are dealt over nodes and branches.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::{ServiceId, TaskSpec, TaskState};

use super::*;
use crate::fixture::{labelled, node, placed};
use crate::load::Loads;

const SERVICE: u128 = 1;
const OTHER: u128 = 2;

struct Case {
    nodes: Vec<Node>,
    spec: TaskSpec,
    loads: Loads,
    failures: BTreeMap<NodeId, usize>,
    tasks: u128,
}

impl Case {
    fn new(nodes: impl IntoIterator<Item = Node>) -> Self {
        Self {
            nodes: nodes.into_iter().collect(),
            spec: TaskSpec::default(),
            loads: Loads::default(),
            failures: BTreeMap::new(),
            tasks: 0,
        }
    }

    /// Puts running tasks of a service on a node.
    fn carrying(mut self, node: u128, service: u128, count: u128) -> Self {
        for _ in 0..count {
            self.tasks += 1;
            let spec = Arc::new(TaskSpec::default());
            self.loads.add(&placed(
                self.tasks,
                service,
                &spec,
                node,
                TaskState::Running,
            ));
        }
        self
    }

    fn failing(mut self, node: u128, failures: usize) -> Self {
        self.failures.insert(NodeId::from_number(node), failures);
        self
    }

    fn spec(mut self, edit: impl FnOnce(&mut TaskSpec)) -> Self {
        edit(&mut self.spec);
        self
    }

    fn spread_over(self, preferences: &[&str]) -> Self {
        let preferences = preferences.iter().map(|&text| text.to_owned()).collect();
        self.spec(|spec| spec.placement.preferences = preferences)
    }

    /// How many of `count` new tasks each node gets, in the order of nodes.
    fn deal(&self, count: usize) -> Vec<usize> {
        let demand = Demand::new(ServiceId::from_number(SERVICE), &self.spec, &[]);
        let mut views: Vec<_> = self
            .nodes
            .iter()
            .map(|node| NodeView::new(node, &self.loads))
            .collect();
        let preferences: Vec<_> = self
            .spec
            .placement
            .preferences
            .iter()
            .filter_map(|p| Preference::parse(p))
            .collect();
        let mut spread = Spread::new(&demand, &preferences, &views, |node| {
            self.failures.get(&node).copied().unwrap_or(0)
        });
        let mut dealt: BTreeMap<NodeId, usize> = BTreeMap::new();
        for _ in 0..count {
            if let Some(node) = spread.place(&demand, &mut views) {
                *dealt.entry(node).or_default() += 1;
            }
        }
        self.nodes
            .iter()
            .map(|node| dealt.get(&node.id).copied().unwrap_or(0))
            .collect()
    }
}

fn plain(count: u128) -> Case {
    Case::new((1..=count).map(node))
}

#[test]
fn equal_nodes_differ_by_at_most_one() {
    assert_eq!(plain(3).deal(0), [0, 0, 0]);
    assert_eq!(plain(3).deal(7), [3, 2, 2]);
    assert_eq!(plain(4).deal(8), [2, 2, 2, 2]);
    assert_eq!(plain(0).deal(3), []);
}

#[test]
fn existing_differences_are_levelled_out() {
    assert_eq!(plain(3).carrying(1, SERVICE, 3).deal(3), [0, 2, 1]);
    assert_eq!(
        plain(3)
            .carrying(1, SERVICE, 2)
            .carrying(2, SERVICE, 1)
            .deal(6),
        [1, 2, 3]
    );
}

#[test]
fn tasks_of_the_service_weigh_more_than_tasks_in_total() {
    let case = || plain(2).carrying(1, OTHER, 5).carrying(2, SERVICE, 1);
    assert_eq!(
        case().deal(1),
        [1, 0],
        "fewer of the service, though more in total"
    );
    assert_eq!(case().deal(2), [1, 1], "then fewer in total");
}

#[test]
fn a_node_with_failures_is_only_put_last() {
    assert_eq!(plain(2).failing(1, 5).deal(3), [0, 3]);
    assert_eq!(plain(2).failing(1, 7).failing(2, 6).deal(3), [0, 3]);
    assert_eq!(plain(1).failing(1, 9).deal(3), [3], "better than none");
    let full = plain(2)
        .failing(1, 5)
        .spec(|spec| spec.placement.max_replicas = 2);
    assert_eq!(full.deal(3), [1, 2]);
}

#[test]
fn filters_are_asked_again_after_each_placement() {
    let limited = plain(2).spec(|spec| spec.placement.max_replicas = 2);
    assert_eq!(limited.deal(9), [2, 2]);
    let reserving = plain(2).spec(|spec| spec.resources.reservations.nano_cpus = 1_500_000_000);
    assert_eq!(reserving.deal(9), [2, 2], "two times 1.5 of 4 processors");
}

fn zones() -> Vec<Node> {
    vec![
        labelled(1, &[("zone", "a"), ("rack", "1")]),
        labelled(2, &[("zone", "a"), ("rack", "1")]),
        labelled(3, &[("zone", "a"), ("rack", "2")]),
        labelled(4, &[("zone", "b"), ("rack", "1")]),
    ]
}

#[test]
fn a_bigger_zone_does_not_get_more() {
    let case = || Case::new(zones()).spread_over(&["node.labels.zone"]);
    assert_eq!(case().deal(6), [1, 1, 1, 3]);
    assert_eq!(
        case().deal(7),
        [2, 1, 1, 3],
        "the remainder goes to the first branch"
    );
    assert_eq!(
        case().carrying(4, SERVICE, 4).deal(4),
        [2, 1, 1, 0],
        "existing tasks count"
    );
}

#[test]
fn preferences_nest() {
    let case = Case::new(zones()).spread_over(&["node.labels.zone", "node.labels.rack"]);
    assert_eq!(case.deal(8), [1, 1, 2, 4]);
    let unlabelled = Case::new(zones().into_iter().chain([node(5)]));
    assert_eq!(
        unlabelled.spread_over(&["node.labels.zone"]).deal(6),
        [1, 1, 0, 2, 2]
    );
}

#[test]
fn branches_without_room_are_passed_over() {
    let case = Case::new(zones())
        .spread_over(&["node.labels.zone"])
        .spec(|spec| spec.placement.max_replicas = 1);
    assert_eq!(case.deal(6), [1, 1, 1, 1]);
    let constrained = Case::new(zones())
        .spread_over(&["node.labels.zone"])
        .spec(|spec| spec.placement.constraints = vec!["node.labels.zone==a".into()]);
    assert_eq!(constrained.deal(4), [2, 1, 1, 0]);
}

#[test]
fn engine_labels_spread_too_and_other_descriptors_are_no_preference() {
    let mut nodes = vec![node(1), node(2), node(3)];
    for (node, disk) in nodes.iter_mut().zip(["ssd", "ssd", "hdd"]) {
        let description = node.description.as_mut().unwrap();
        description.engine_labels.insert("disk".into(), disk.into());
    }
    assert_eq!(
        Case::new(nodes.clone())
            .spread_over(&["engine.labels.disk"])
            .deal(4),
        [1, 1, 2]
    );
    for other in ["node.hostname", "node.labels.", "disk"] {
        assert_eq!(Preference::parse(other), None, "{other}");
        assert_eq!(
            Case::new(nodes.clone()).spread_over(&[other]).deal(3),
            [1, 1, 1]
        );
    }
}
