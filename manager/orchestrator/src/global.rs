//! Global services: one slot on every node that fits.

use std::collections::{BTreeMap, HashMap};

use types::node::Availability;
use types::{Node, TaskId, TaskState, Timestamp};

use crate::draft::{Draft, SlotKey, desire};
use crate::replicated::{fill, remove};
use crate::slot::Slot;
use crate::supervise::supervise;
use crate::update;
use crate::view::{ServiceView, Standing, is_valid};

/// Plans for a global service.
pub(crate) fn plan(
    view: &ServiceView<'_>,
    mut slots: BTreeMap<SlotKey, Slot<'_>>,
    running_since: &HashMap<TaskId, Timestamp>,
    draft: &mut Draft<'_>,
) {
    let mut updatable = BTreeMap::new();
    for node in view.state.nodes() {
        let key = SlotKey::Node(node.id);
        let slot = slots.remove(&key).unwrap_or_default();
        match fitness(view, node) {
            Fitness::Unfit => stop(&slot, draft),
            Fitness::Paused => supervise(view, key, &slot, false, draft),
            Fitness::Fit if view.standing(&slot) == Standing::Vacant => {
                fill(view, key, &slot, draft);
            }
            Fitness::Fit => {
                updatable.insert(key, slot);
            }
        }
    }
    for (key, slot) in &slots {
        match key {
            // Of nodes that are gone nothing is kept (S4.32).
            SlotKey::Node(node) if view.state.node(*node).is_none() => draft.add(remove(slot)),
            SlotKey::Node(_) | SlotKey::Number(_) => {}
        }
    }

    let step = update::plan(view, &updatable, running_since, draft);
    for (key, slot) in &updatable {
        if step.begins.contains(key) {
            update::begin(view, *key, slot, draft);
        } else {
            supervise(view, *key, slot, true, draft);
        }
    }
}

/// What a node may do for the service (S4.30-33).
enum Fitness {
    /// Takes its task, new ones and updates.
    Fit,
    /// Keeps a task it has.
    Paused,
    /// Gives its task up.
    Unfit,
}

fn fitness(view: &ServiceView<'_>, node: &Node) -> Fitness {
    if !is_valid(node) || !view.revision.fits(node) {
        return Fitness::Unfit;
    }
    match node.spec.availability {
        Availability::Active => Fitness::Fit,
        Availability::Pause => Fitness::Paused,
        Availability::Drain => Fitness::Unfit,
    }
}

fn stop(slot: &Slot<'_>, draft: &mut Draft<'_>) {
    draft.add(
        slot.live()
            .map(|task| desire(task, TaskState::Shutdown))
            .collect(),
    );
}

#[cfg(test)]
mod tests;
