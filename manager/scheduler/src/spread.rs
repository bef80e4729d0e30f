//! Choosing among suitable nodes: even over the preferred labels first, then over nodes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use types::{Node, NodeId};

use crate::filter::Demand;
use crate::load::NodeView;

/// A suitable node; the smaller, the better (S6.30).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    failures: usize,
    service_tasks: u64,
    live: u64,
    /// Decides between equals, so that the same state always gives the same plan.
    id: NodeId,
    view: usize,
}

/// A label to spread over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Preference<'a> {
    Node(&'a str),
    Engine(&'a str),
}

impl<'a> Preference<'a> {
    /// Reads `node.labels.X` or `engine.labels.X`; anything else is no preference (S6.34).
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let label = |prefix| text.strip_prefix(prefix).filter(|name| !name.is_empty());
        label("node.labels.")
            .map(Self::Node)
            .or_else(|| label("engine.labels.").map(Self::Engine))
    }

    /// The node's value; nodes without the label form the branch of the empty value.
    fn value<'n>(&self, node: &'n Node) -> &'n str {
        let value = match self {
            Self::Node(name) => node.spec.labels.get(*name),
            Self::Engine(name) => node
                .description
                .as_ref()
                .and_then(|d| d.engine_labels.get(*name)),
        };
        value.map_or("", String::as_str)
    }
}

/// The nodes as a tree, one level for each preference.
#[derive(Debug)]
struct Branch<'n> {
    /// Tasks of the service under it, on suitable nodes or not.
    tasks: u64,
    /// True once a task found no room under it.
    full: bool,
    below: Below<'n>,
}

#[derive(Debug)]
enum Below<'n> {
    Values(BTreeMap<&'n str, Branch<'n>>),
    Nodes(BinaryHeap<Reverse<Candidate>>),
}

/// Deals tasks of one demand over the nodes, one at a time.
#[derive(Debug)]
pub(crate) struct Spread<'n> {
    root: Branch<'n>,
}

impl<'n> Spread<'n> {
    /// Sorts the nodes that can take a task into the tree. `failures` weighs a node's recent
    /// failures with this service.
    pub(crate) fn new(
        demand: &Demand<'_>,
        preferences: &[Preference<'_>],
        views: &[NodeView<'n>],
        failures: impl Fn(NodeId) -> usize,
    ) -> Self {
        let mut root = Branch::new(preferences.len());
        for (index, view) in views.iter().enumerate() {
            let tasks = view.tasks_of(demand.service);
            let mut branch = &mut root;
            branch.tasks += tasks;
            for (level, preference) in preferences.iter().enumerate() {
                let Below::Values(values) = &mut branch.below else {
                    unreachable!("levels above the last hold values");
                };
                branch = values
                    .entry(preference.value(view.node))
                    .or_insert_with(|| Branch::new(preferences.len() - level - 1));
                branch.tasks += tasks;
            }
            let Below::Nodes(nodes) = &mut branch.below else {
                unreachable!("the last level holds nodes");
            };
            if demand.check(view).is_ok() {
                nodes.push(Reverse(Candidate {
                    failures: failures(view.node.id),
                    service_tasks: tasks,
                    live: view.live,
                    id: view.node.id,
                    view: index,
                }));
            }
        }
        Self { root }
    }

    /// Places one task, and returns its node; none when no node has room.
    pub(crate) fn place(
        &mut self,
        demand: &Demand<'_>,
        views: &mut [NodeView<'_>],
    ) -> Option<NodeId> {
        self.root.place(demand, views)
    }
}

impl Branch<'_> {
    fn new(levels: usize) -> Self {
        let below = if levels == 0 {
            Below::Nodes(BinaryHeap::new())
        } else {
            Below::Values(BTreeMap::new())
        };
        Self {
            tasks: 0,
            full: false,
            below,
        }
    }

    fn place(&mut self, demand: &Demand<'_>, views: &mut [NodeView<'_>]) -> Option<NodeId> {
        let placed = match &mut self.below {
            Below::Nodes(nodes) => place_on_best(nodes, demand, views),
            Below::Values(values) => loop {
                // Least tasks first; the first of equals, so remainders go to the first branches.
                let Some(branch) = values
                    .values_mut()
                    .filter(|b| !b.full)
                    .min_by_key(|b| b.tasks)
                else {
                    break None;
                };
                if let Some(node) = branch.place(demand, views) {
                    break Some(node);
                }
            },
        };
        match placed {
            Some(_) => self.tasks += 1,
            None => self.full = true,
        }
        placed
    }
}

fn place_on_best(
    nodes: &mut BinaryHeap<Reverse<Candidate>>,
    demand: &Demand<'_>,
    views: &mut [NodeView<'_>],
) -> Option<NodeId> {
    while let Some(Reverse(best)) = nodes.pop() {
        let view = &mut views[best.view];
        // What the plan has put on it since may have used up its room (S6.32).
        if demand.check(view).is_ok() {
            view.place(demand);
            let node = best.id;
            nodes.push(Reverse(Candidate {
                service_tasks: best.service_tasks + 1,
                live: best.live + 1,
                ..best
            }));
            return Some(node);
        }
    }
    None
}

#[cfg(test)]
mod tests;
