//! References of a service to secrets and configs: found, checked, and given a version.

use std::sync::Arc;

use store::{Kind, State};
use types::ServiceSpec;
use types::secret::ContentVersion;

use crate::{Error, Invalid};

/// Completes the references of a spec: version 0 becomes the newest one (S14.05).
///
/// # Errors
/// When one refers to what is not there, or by id and name to two different things.
pub(crate) fn resolve(state: &State, spec: &mut ServiceSpec) -> Result<(), Error> {
    let container = &spec.task.container;
    if container.secrets.is_empty() && container.configs.is_empty() {
        return Ok(());
    }
    let mut secrets = container.secrets.clone();
    for reference in &mut secrets {
        let name = &reference.secret_name;
        let secret = state.secret(reference.secret_id);
        let secret = secret.ok_or_else(|| not_found(Kind::Secret, name))?;
        check_name("secret", name, &secret.spec.name)?;
        let newest = secret.newest();
        let has_driver = secret.spec.driver.is_some();
        let wanted = &mut reference.version;
        settle("secret", name, wanted, newest, has_driver, &secret.versions)?;
    }
    let mut configs = container.configs.clone();
    for reference in &mut configs {
        let name = &reference.config_name;
        let config = state.config(reference.config_id);
        let config = config.ok_or_else(|| not_found(Kind::Config, name))?;
        check_name("config", name, &config.spec.name)?;
        let newest = config.newest();
        let wanted = &mut reference.version;
        settle("config", name, wanted, newest, false, &config.versions)?;
    }
    if secrets != container.secrets || configs != container.configs {
        let container = &mut Arc::make_mut(&mut spec.task).container;
        container.secrets = secrets;
        container.configs = configs;
    }
    Ok(())
}

fn not_found(kind: Kind, name: &str) -> Error {
    Error::NotFound {
        kind,
        key: name.to_owned(),
    }
}

fn check_name(kind: &str, given: &str, stored: &str) -> Result<(), Error> {
    if given == stored {
        return Ok(());
    }
    Err(Error::Invalid(Invalid::new(
        format!("ContainerSpec.{kind}s"),
        format!("malformed {kind} reference: its id is of {stored:?}, its name is {given:?}"),
    )))
}

fn settle(
    kind: &str,
    name: &str,
    wanted: &mut u64,
    newest: u64,
    has_driver: bool,
    kept: &[ContentVersion],
) -> Result<(), Error> {
    if *wanted == 0 {
        *wanted = newest;
    }
    let is_kept = kept.iter().any(|version| version.number == *wanted);
    if is_kept || has_driver && *wanted == newest {
        return Ok(());
    }
    let kept: Vec<_> = kept.iter().map(|it| it.number.to_string()).collect();
    Err(Error::Invalid(Invalid::new(
        format!("ContainerSpec.{kind}s[{name:?}].Version"),
        format!(
            "{kind} {name} has no version {wanted}: kept are {}",
            kept.join(", ")
        ),
    )))
}
