//! Tells the packet filter what it has to know, on the node and in each container.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use nft::Balancer;
use nft::mesh::{Node, Surroundings, WayBack};
use types::TaskId;

use super::Keeper;
use crate::filter::{Balance, surroundings};
use crate::inside;
use crate::records::Record;
use crate::sandbox::{Base, Interface, Sandbox};
use crate::view::View;

/// The packet filter's rules of this node and its containers.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// What follows from the view, and of which view it follows.
    balance: Option<(Arc<View>, Arc<Balance>)>,
    /// `None` while the node needs no rules.
    node: Option<Node>,
    /// Whether the kernel is known to hold no rules of the node.
    is_bare: bool,
    sandboxes: BTreeMap<TaskId, Inside>,
    /// Whether the kernel cannot lead answers back, so that clients have to be hidden.
    hides_clients: bool,
}

/// The rules in one container. Holds its namespace only until it is let go.
#[derive(Debug)]
struct Inside {
    balancer: Balancer,
    /// What it was told last.
    told: Arc<Balance>,
    way_back: Option<WayBack>,
}

impl Filters {
    fn balance(&mut self, view: &Arc<View>) -> Arc<Balance> {
        match &self.balance {
            Some((of, balance)) if Arc::ptr_eq(of, view) => Arc::clone(balance),
            Some(_) | None => {
                let balance = Arc::new(Balance::of(view));
                self.balance = Some((Arc::clone(view), Arc::clone(&balance)));
                balance
            }
        }
    }
}

/// Where balancing begins in a container, or on a node: not with the same backend in all.
fn seed(id: &str) -> u64 {
    id.bytes().fold(0, |seed: u64, digit| {
        seed.wrapping_mul(36).wrapping_add(digit.into())
    })
}

impl Keeper {
    /// Tells the rules of the node and of all known containers what has changed.
    pub(super) fn filter(&mut self, view: &Arc<View>, living: &[Record]) {
        let sandboxes: Vec<&Sandbox> = living.iter().map(|record| &record.sandbox).collect();
        let lives = |task: &TaskId| sandboxes.iter().any(|sandbox| sandbox.task == *task);
        self.filters.sandboxes.retain(|task, _| lives(task));
        let balance = self.filters.balance(view);
        for sandbox in &sandboxes {
            let Some(inside) = self.filters.sandboxes.get_mut(&sandbox.task) else {
                continue;
            };
            if Arc::ptr_eq(&inside.told, &balance) {
                continue;
            }
            inside.told = Arc::clone(&balance);
            if let Err(error) = inside.balancer.replace(balance.inside(sandbox)) {
                let what = format!(
                    "virtual addresses of task {}: {}",
                    sandbox.task,
                    chain(&error)
                );
                self.refuse_filter(what);
            }
        }
        if let Err(error) = self.forward(view, &sandboxes) {
            self.refuse_filter(format!("passing packets on: {error}"));
        }
        if let Err(error) = self.filter_node(view, &balance, &sandboxes) {
            self.refuse_filter(format!("published ports: {}", chain(&error)));
        }
    }

    /// Has the node pass packets on where something of it needs that: published ports, or
    /// containers that reach the world through it.
    fn forward(&self, view: &View, sandboxes: &[&Sandbox]) -> std::io::Result<()> {
        let interfaces = || sandboxes.iter().flat_map(|sandbox| &sandbox.interfaces);
        let leads_out =
            |one: &Interface| !one.gateways.is_empty() && matches!(one.base, Base::Bridge { .. });
        let ingress = view.ingress();
        if ingress.is_none() && !interfaces().any(leads_out) {
            return Ok(());
        }
        let has_ipv6 = ingress.is_some_and(|network| network.spec.ipv6)
            || interfaces().any(|one| leads_out(one) && one.address(false).is_some());
        inside::forward(has_ipv6)
    }

    fn filter_node(
        &mut self,
        view: &View,
        balance: &Balance,
        sandboxes: &[&Sandbox],
    ) -> Result<(), nft::Error> {
        let surroundings = surroundings(
            view,
            sandboxes,
            &self.records.subnets,
            self.filters.hides_clients,
        );
        // A bridge that was made again has lost it.
        for bridge in surroundings.translated_bridges() {
            if let Err(error) = inside::admit_loopback(bridge) {
                let what = format!("published ports at 127.0.0.1: {bridge}: {error}");
                self.refuse_filter(what);
            }
        }
        let ports = balance.node(sandboxes);
        for (port, program) in self.held.hold(ports.keys()) {
            self.tell_once(
                format!("{program} listens at {port}"),
                "a published port hides a program of this node from clients",
            );
        }
        let nothing = Surroundings {
            hides_clients: surroundings.hides_clients,
            ..Surroundings::default()
        };
        if surroundings == nothing && ports.is_empty() {
            return self.bare_node();
        }
        self.filters.is_bare = false;
        let node = match &mut self.filters.node {
            Some(node) if *node.surroundings() == surroundings && *node.ports() == ports => {
                return Ok(());
            }
            Some(node) => node,
            None => self
                .filters
                .node
                .insert(Node::open_here(seed(view.node.as_str()))?),
        };
        node.replace(surroundings, ports).map(drop)
    }

    /// Takes the rules of the node away, whoever has made them: nothing needs them.
    fn bare_node(&mut self) -> Result<(), nft::Error> {
        if self.filters.is_bare {
            return Ok(());
        }
        let mut node = match self.filters.node.take() {
            Some(node) => node,
            None => Node::open_here(0)?,
        };
        node.clear()?;
        self.filters.is_bare = true;
        Ok(())
    }

    /// Sets up the rules of a container that is being connected.
    pub(super) fn filter_inside(
        &mut self,
        record: &Record,
        namespace: &OwnedFd,
    ) -> Result<(), nft::Error> {
        let Some(view) = self.view.clone() else {
            return Ok(());
        };
        let balance = self.filters.balance(&view);
        let sandbox = &record.sandbox;
        let mut balancer = Balancer::open(namespace.as_fd(), seed(sandbox.task.as_str()))?;
        balancer.replace(balance.inside(sandbox))?;
        let mut way_back = None;
        if let Some(ingress) = sandbox.ingress().filter(|_| !self.filters.hides_clients) {
            let mut rules = WayBack::open(namespace.as_fd())?;
            match rules.install(&ingress.name, &sandbox.outer_addresses()) {
                Ok(_) => way_back = Some(rules),
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "this kernel cannot lead answers back: tasks see this node instead of clients"
                    );
                    self.filters.hides_clients = true;
                }
            }
        }
        self.filters.sandboxes.insert(
            sandbox.task,
            Inside {
                balancer,
                told: balance,
                way_back,
            },
        );
        Ok(())
    }

    /// Compares the packet filter with what it was told. Returns the differences, repaired, and
    /// what could not be compared or repaired.
    pub(super) fn repair_filters(&mut self) -> (Vec<String>, Vec<String>) {
        let mut found = Vec::new();
        let mut refused = Vec::new();
        let mut note = |place: String, result: Result<nft::Difference, nft::Error>| match result {
            Ok(difference) => {
                found.extend(
                    difference
                        .0
                        .into_iter()
                        .map(|what| format!("{place}: {what}")),
                );
            }
            Err(error) => refused.push(format!("{place}: {}", chain(&error))),
        };
        let seal = self.repair_seal();
        if let Some(repaired) = seal {
            note("packet filter of encrypted networks".to_owned(), repaired);
        }
        if let Some(node) = &mut self.filters.node {
            note("packet filter of the node".to_owned(), node.repair());
        }
        for (task, inside) in &mut self.filters.sandboxes {
            note(
                format!("packet filter of task {task}"),
                inside.balancer.repair(),
            );
            if let Some(way_back) = &mut inside.way_back {
                note(format!("packet filter of task {task}"), way_back.repair());
            }
        }
        for what in &refused {
            self.refuse_filter(what.clone());
        }
        (found, refused)
    }

    pub(super) fn refuse_filter(&mut self, what: String) {
        self.counters.count_refusal();
        self.tell_once(what, "the packet filter is not as it should be");
    }
}

/// An error with its reasons.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
