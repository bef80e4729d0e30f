//! Which network a service means: names become ids before a spec is stored.

use std::sync::Arc;

use store::State;
use types::ServiceSpec;

use crate::{Error, Invalid, key};

/// Replaces names of networks in a spec by their ids.
///
/// # Errors
/// When there is no such network, or services cannot be on it.
pub(crate) fn resolve(state: &State, spec: &mut ServiceSpec) -> Result<(), Error> {
    let networks = &spec.task.networks;
    let mut resolved = Vec::with_capacity(networks.len());
    for (index, attachment) in networks.iter().enumerate() {
        let target = match super::predefined(&attachment.target) {
            Some(driver) => driver.to_string(),
            None => {
                let network = key::network(state, &attachment.target)?;
                let wrong = |problem: String| {
                    Invalid::new(format!("Networks[{index}].Target"), problem).into()
                };
                if network.spec.ingress {
                    return Err(wrong(format!(
                        "service cannot be explicitly attached to the ingress network {}: publish \
                         a port instead, which attaches it",
                        network.spec.name
                    )));
                }
                if network.spec.config_only {
                    return Err(wrong(format!(
                        "network {} is a configuration only: make a network with --config-from {} \
                         and use that",
                        network.spec.name, network.spec.name
                    )));
                }
                network.id.to_string()
            }
        };
        resolved.push(target);
    }
    let same = networks.iter().map(|n| &n.target).eq(resolved.iter());
    if !same {
        let networks = &mut Arc::make_mut(&mut spec.task).networks;
        for (attachment, target) in networks.iter_mut().zip(resolved) {
            attachment.target = target;
        }
    }
    Ok(())
}
