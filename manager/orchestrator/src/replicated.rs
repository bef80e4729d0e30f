//! Replicated services: as many slots as replicas, the lowest free numbers first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use types::{NodeId, Task, TaskId, TaskState, Timestamp};

use crate::draft::{Draft, Pattern, SlotKey, desire};
use crate::slot::Slot;
use crate::supervise::supervise;
use crate::update;
use crate::view::{ServiceView, Standing};

/// Slots made in one plan at most. The commit of the first ones leads to the next plan.
const SLOTS_MADE_MAX: usize = 10_000;

/// Plans for a replicated service.
pub(crate) fn plan(
    view: &ServiceView<'_>,
    replicas: u64,
    slots: BTreeMap<SlotKey, Slot<'_>>,
    running_since: &HashMap<TaskId, Timestamp>,
    draft: &mut Draft<'_>,
) {
    let (mut filled, mut vacant): (BTreeMap<_, _>, BTreeMap<_, _>) = slots
        .into_iter()
        .partition(|(_, slot)| view.standing(slot) != Standing::Vacant);

    let replicas = usize::try_from(replicas).unwrap_or(usize::MAX);
    if filled.len() > replicas {
        for key in surplus(&filled, filled.len() - replicas) {
            if let Some(slot) = filled.remove(&key) {
                draft.add(remove(&slot));
            }
        }
    } else {
        for key in lowest_free(&filled, replicas - filled.len()) {
            let history = vacant.remove(&key).unwrap_or_default();
            fill(view, key, &history, draft);
        }
    }
    // What is left of slots nobody fills any more goes with its history (S4.13).
    for slot in vacant.values() {
        draft.add(remove(slot));
    }

    let step = update::plan(view, &filled, running_since, draft);
    for (key, slot) in &filled {
        if step.begins.contains(key) {
            update::begin(view, *key, slot, draft);
        } else {
            supervise(view, *key, slot, true, draft);
        }
    }
}

/// Makes the first task of a slot, after whatever filled it before.
pub(crate) fn fill(
    view: &ServiceView<'_>,
    key: SlotKey,
    history: &Slot<'_>,
    draft: &mut Draft<'_>,
) {
    let desired = if view.has_stopping(history) {
        TaskState::Ready
    } else {
        TaskState::Running
    };
    let pattern = Pattern::of_service(view.service);
    let action = draft.create(view.service, key, pattern, desired, view.now);
    draft.add(vec![action]);
}

/// Asks for the end of every task of a slot.
pub(crate) fn remove(slot: &Slot<'_>) -> Vec<store::Action> {
    slot.tasks
        .iter()
        .map(|task| desire(task, TaskState::Remove))
        .collect()
}

fn lowest_free<'a>(
    filled: &'a BTreeMap<SlotKey, Slot<'_>>,
    missing: usize,
) -> impl Iterator<Item = SlotKey> + use<'a> {
    let free: Vec<_> = (1..=u64::MAX)
        .map(SlotKey::Number)
        .filter(|key| !filled.contains_key(key))
        .take(missing.min(SLOTS_MADE_MAX))
        .collect();
    free.into_iter()
}

/// The slots to give up when there are too many (S4.12): those without a firm place first, then
/// from the most crowded nodes, there the ones that do not run before those that do and higher
/// numbers before lower ones.
fn surplus(filled: &BTreeMap<SlotKey, Slot<'_>>, count: usize) -> Vec<SlotKey> {
    let mut slots: Vec<_> = filled
        .iter()
        .map(|(key, slot)| {
            let tasks = filling(slot);
            let runs = tasks
                .iter()
                .any(|task| task.status.state == TaskState::Running);
            let place = match tasks.as_slice() {
                [only] => only.node_id,
                _ => None,
            };
            (!runs, *key, place)
        })
        .collect();
    // Running ones are numbered first on their node, so that they are the last to go.
    slots.sort_unstable();
    let mut copies: HashMap<NodeId, u64> = HashMap::new();
    let mut ranked: Vec<_> = slots
        .into_iter()
        .map(|(idle, key, place)| {
            let copy = place.map(|node| {
                let copy = copies.entry(node).or_default();
                *copy += 1;
                *copy
            });
            // No place ranks above any crowd.
            (
                Reverse(copy.unwrap_or(u64::MAX)),
                Reverse(idle),
                Reverse(key),
            )
        })
        .collect();
    ranked.sort_unstable();
    ranked
        .into_iter()
        .take(count)
        .map(|(_, _, Reverse(key))| key)
        .collect()
}

/// The tasks that make a slot count as filled: its live ones, or the last one of a slot at rest.
fn filling<'s>(slot: &Slot<'s>) -> Vec<&'s Task> {
    let live: Vec<_> = slot.live().collect();
    if live.is_empty() {
        slot.newest().into_iter().collect()
    } else {
        live
    }
}

#[cfg(test)]
mod tests;
