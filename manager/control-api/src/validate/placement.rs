//! Where tasks may run.

use types::ServiceSpec;
use types::constraint::Constraint;
use types::service::ServiceMode;
use types::task::Placement;

use super::{Checked, Invalid};

/// Constraints, preferences and the limit per node (S6.C, S6.34, S20.17).
///
/// # Errors
/// The first that cannot be read or does not go with the mode.
pub fn placement(placement: &Placement, mode: ServiceMode) -> Checked {
    for (index, text) in placement.constraints.iter().enumerate() {
        if let Err(error) = text.parse::<Constraint>() {
            return Err(Invalid::new(
                format!("Placement.Constraints[{index}]"),
                error,
            ));
        }
    }
    for (index, descriptor) in placement.preferences.iter().enumerate() {
        preference(index, descriptor)?;
    }
    match mode {
        ServiceMode::Global {} if placement.max_replicas != 0 => Err(Invalid::new(
            "Placement.MaxReplicas",
            "a limit per node can only be given for a replicated service: a global one runs once \
             on each node",
        )),
        ServiceMode::Global {} | ServiceMode::Replicated { .. } => Ok(()),
    }
}

fn preference(index: usize, descriptor: &str) -> Checked {
    let label = ["node.labels.", "engine.labels."]
        .iter()
        .find_map(|prefix| descriptor.strip_prefix(prefix));
    if label.is_some_and(|label| !label.is_empty()) {
        return Ok(());
    }
    Err(Invalid::new(
        format!("Placement.Preferences[{index}].Spread.SpreadDescriptor"),
        format!("{descriptor:?} cannot be spread over: use node.labels.NAME or engine.labels.NAME"),
    ))
}

/// What is allowed but will hardly be what the user wants.
#[must_use]
pub fn warnings(spec: &ServiceSpec) -> Vec<String> {
    let never = |text: &&String| {
        text.parse::<Constraint>()
            .is_ok_and(|constraint| !constraint.has_known_key())
    };
    let constraints = &spec.task.placement.constraints;
    constraints
        .iter()
        .filter(never)
        .map(|text| {
            format!(
                "constraint {text:?} has a key that no node has, so no task will be placed: known \
                 keys are node.id, node.hostname, node.ip, node.role, node.platform.os, \
                 node.platform.arch, node.labels.NAME and engine.labels.NAME"
            )
        })
        .collect()
}
