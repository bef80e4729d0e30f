//! Secrets and configs: names, sizes, and how a service refers to them.

use std::collections::BTreeSet;

use types::secret::{CONFIG_BYTES_MAX, FileTarget, ReferenceTarget, SECRET_BYTES_MAX};
use types::{ConfigSpec, ContainerSpec, SecretSpec};

use super::{Checked, Invalid, labels, text};

/// Longest name (S14.02).
const NAME_LEN_MAX: usize = 64;

/// Permission bits of a file, without set-id and sticky bits, which mean nothing on such files.
const MODE_MAX: u32 = 0o777;

/// What is asked of a secret, and the size of its content (none: it brings none).
///
/// # Errors
/// The first field that is wrong.
pub fn secret(spec: &SecretSpec, size: Option<usize>) -> Checked {
    content_name("Name", &spec.name)?;
    labels("Labels", &spec.labels)?;
    match (&spec.driver, size) {
        (None, size) => data_size(size.unwrap_or_default(), SECRET_BYTES_MAX),
        (Some(_), Some(_)) => Err(Invalid::new(
            "Data",
            "must be empty for a secret with a driver",
        )),
        (Some(driver), None) if driver.name.is_empty() => Err(Invalid::new(
            "Driver.Name",
            "a secret's driver must have a name",
        )),
        (Some(driver), None) => labels("Driver.Options", &driver.options),
    }
}

/// What is asked of a config, and the size of its content.
///
/// # Errors
/// The first field that is wrong.
pub fn config(spec: &ConfigSpec, size: usize) -> Checked {
    content_name("Name", &spec.name)?;
    labels("Labels", &spec.labels)?;
    data_size(size, CONFIG_BYTES_MAX)
}

/// Content of at least one byte, and of at most `max` (S14.01, S20.15).
///
/// # Errors
/// When it is outside.
pub fn data_size(size: usize, max: usize) -> Checked {
    if (1..=max).contains(&size) {
        return Ok(());
    }
    let limit = max + 1;
    Err(Invalid::new(
        "Data",
        format!("must be larger than 0 and less than {limit} bytes, and has {size}"),
    ))
}

/// A name of a secret or config: letters, digits, `-`, `_` and `.`, with a letter or digit at both
/// ends, at most 64 characters (S14.02).
///
/// # Errors
/// When it is not one.
pub fn content_name(field: &str, name: &str) -> Checked {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_valid = name.len() <= NAME_LEN_MAX
        && name.chars().all(inner)
        && outer(name.chars().next())
        && outer(name.chars().next_back());
    if is_valid {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!(
            "{name:?} is no valid name: only {NAME_LEN_MAX} [a-zA-Z0-9-_.] characters are allowed, \
             with a letter or digit at both ends"
        ),
    ))
}

/// Every reference of a container to a secret or config, as far as it can be judged alone: targets
/// are well-formed and nothing is put in one place twice (S20.13).
///
/// # Errors
/// The first reference that is wrong.
pub fn references(container: &ContainerSpec) -> Checked {
    let mut places = BTreeSet::new();
    for mount in &container.mounts {
        places.insert(plain_path(&mount.target));
    }
    for reference in container.contents() {
        let (kind, name) = (reference.id.kind(), reference.name);
        let field = format!("ContainerSpec.{}[{name:?}]", title(kind));
        let place = match (reference.target, reference.file()) {
            (ReferenceTarget::Env(variable), _) => {
                env_name(&field, variable)?;
                variable.clone()
            }
            (ReferenceTarget::File(file), path) => {
                file_target(&field, file)?;
                plain_path(&path.map_or_else(String::new, |(path, _)| path))
            }
        };
        if !places.insert(place.clone()) {
            return Err(Invalid::new(
                field,
                format!("{kind} references must not have a conflicting target {place:?}"),
            ));
        }
    }
    Ok(())
}

fn title(kind: &str) -> &'static str {
    if kind == "secret" {
        "Secrets"
    } else {
        "Configs"
    }
}

/// A path without empty and `.` parts.
fn plain_path(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.fold(String::new(), |path, part| path + "/" + part)
}

fn env_name(field: &str, name: &str) -> Checked {
    text::no_nul(format!("{field}.Env"), name)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty() && name.chars().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Ok(());
    }
    Err(Invalid::new(
        format!("{field}.Env"),
        format!("{name:?} is no name of a variable: letters, digits and '_', no digit first"),
    ))
}

fn file_target(field: &str, file: &FileTarget) -> Checked {
    let name = &file.name;
    text::no_nul(format!("{field}.File.Name"), name)?;
    let path = plain_path(name);
    let first = path.trim_start_matches('/').split('/').next();
    let why = if path.is_empty() {
        Some("a target is needed")
    } else if name.ends_with('/') {
        Some("it must be a file")
    } else if name.split('/').any(|part| part == "..") {
        Some("it must not hold \"..\"")
    } else if name.starts_with('/') && first == Some("proc") {
        Some("nothing can be put below /proc")
    } else {
        None
    };
    if let Some(why) = why {
        return Err(Invalid::new(
            format!("{field}.File.Name"),
            format!("invalid target {name:?}: {why}"),
        ));
    }
    for (part, id) in [("UID", &file.uid), ("GID", &file.gid)] {
        if id.parse::<u32>().is_err() {
            return Err(Invalid::new(
                format!("{field}.File.{part}"),
                format!("{id:?} must be a number"),
            ));
        }
    }
    if file.mode > MODE_MAX {
        return Err(Invalid::new(
            format!("{field}.File.Mode"),
            format!(
                "{:#o} is not a file mode, at most {MODE_MAX:#o} is",
                file.mode
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use types::secret::{ConfigReference, SecretReference};
    use types::{ConfigId, SecretId};

    use super::*;

    fn file(name: &str) -> ReferenceTarget {
        ReferenceTarget::File(FileTarget {
            name: name.into(),
            uid: "0".into(),
            gid: "0".into(),
            mode: 0o444,
        })
    }

    fn container(secrets: &[ReferenceTarget], configs: &[ReferenceTarget]) -> ContainerSpec {
        let mut container = ContainerSpec::default();
        for target in secrets {
            container.secrets.push(SecretReference {
                secret_id: SecretId::from_number(1),
                secret_name: "s".into(),
                version: 1,
                target: target.clone(),
            });
        }
        for target in configs {
            container.configs.push(ConfigReference {
                config_id: ConfigId::from_number(1),
                config_name: "c".into(),
                version: 1,
                target: target.clone(),
            });
        }
        container
    }

    #[test]
    fn names() {
        for (name, valid) in [
            ("db.password-1_x", true),
            ("7", true),
            (&"a".repeat(64), true),
            (&"a".repeat(65), false),
            ("", false),
            (".db", false),
            ("db-", false),
            ("d b", false),
            ("d/b", false),
            ("dé", false),
        ] {
            assert_eq!(content_name("Name", name).is_ok(), valid, "{name}");
        }
    }

    #[test]
    fn sizes() {
        let spec = SecretSpec {
            name: "db".into(),
            ..SecretSpec::default()
        };
        for (size, valid) in [(0, false), (1, true), (511_999, true), (512_000, false)] {
            assert_eq!(secret(&spec, Some(size)).is_ok(), valid, "{size}");
        }
        let spec = ConfigSpec {
            name: "db".into(),
            ..ConfigSpec::default()
        };
        for (size, valid) in [(0, false), (1_023_999, true), (1_024_000, false)] {
            assert_eq!(config(&spec, size).is_ok(), valid, "{size}");
        }
    }

    #[test]
    fn a_driver_brings_the_content() {
        let mut spec = SecretSpec {
            name: "db".into(),
            driver: Some(types::secret::Driver::default()),
            ..SecretSpec::default()
        };
        assert!(secret(&spec, None).is_err(), "no name");
        spec.driver.as_mut().unwrap().name = "vault".into();
        assert_eq!(secret(&spec, None), Ok(()));
        assert!(secret(&spec, Some(1)).is_err(), "two sources");
    }

    #[test]
    fn targets() {
        let env = |name: &str| ReferenceTarget::Env(name.into());
        let mut odd = file("x");
        if let ReferenceTarget::File(file) = &mut odd {
            file.uid = "root".into();
        }
        let mut wild = file("x");
        if let ReferenceTarget::File(file) = &mut wild {
            file.mode = 0o4755;
        }
        for (secrets, configs, problem) in [
            (
                vec![file("a"), file("b")],
                vec![file("a"), file("/etc/x")],
                "",
            ),
            (
                vec![file("/etc/a/./b")],
                vec![file("etc/a//b")],
                "conflicting target \"/etc/a/b\"",
            ),
            (
                vec![file("a"), file("/run/secrets/a")],
                vec![],
                "conflicting target",
            ),
            (
                vec![env("DB"), env("DB")],
                vec![],
                "conflicting target \"DB\"",
            ),
            (vec![env("1DB")], vec![], "no name of a variable"),
            (vec![env("")], vec![], "no name of a variable"),
            (vec![file("")], vec![], "a target is needed"),
            (vec![file("a/")], vec![], "must be a file"),
            (vec![file("../a")], vec![], "must not hold"),
            (vec![file("/proc/a")], vec![], "below /proc"),
            (vec![file("/")], vec![], "a target is needed"),
            (vec![odd], vec![], "must be a number"),
            (vec![wild], vec![], "not a file mode"),
        ] {
            match references(&container(&secrets, &configs)) {
                Ok(()) => assert_eq!(problem, "", "{secrets:?} {configs:?}"),
                Err(invalid) => {
                    let text = invalid.to_string();
                    assert!(!problem.is_empty() && text.contains(problem), "{text}");
                }
            }
        }
    }
}
