//! Plans a container's mounts, and looks whether the machine has what they bind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use container::spec::{Mount, MountSource, Propagation};
use types::Task;
use types::container_spec::{self, MountKind};

use super::Error;
use crate::template::{Place, expand};

/// The mounts the spec asks for.
pub(super) fn plan(
    asked: &[container_spec::Mount],
    task: &Task,
    place: Place<'_>,
) -> Result<Vec<Mount>, Error> {
    let mut targets = BTreeSet::new();
    let mut mounts = Vec::with_capacity(asked.len());
    for mount in asked {
        let filled = |text: &str| {
            expand(text, task, place).map_err(|source| Error::Template {
                field: "mounts",
                source,
            })
        };
        let (source, target) = (filled(&mount.source)?, filled(&mount.target)?);
        let invalid = |reason: String| Error::Mount {
            kind: kind_name(mount.kind),
            reason,
        };
        check_target(&target).map_err(invalid)?;
        let source = match mount.kind {
            MountKind::Bind => bind(source).map_err(invalid)?,
            MountKind::Tmpfs if source.is_empty() => tmpfs(mount),
            MountKind::Tmpfs => {
                return Err(invalid("field Source must not be specified".to_owned()));
            }
        };
        // `/a` and `/a/` are one place.
        let place: PathBuf = Path::new(&target).components().collect();
        if !targets.insert(place) {
            return Err(Error::DuplicateMount(target));
        }
        mounts.push(Mount {
            target,
            source,
            readonly: mount.read_only,
        });
    }
    Ok(mounts)
}

/// Looks whether everything that is bound exists. Blocks.
pub(crate) fn check_sources(mounts: &[Mount]) -> Result<(), Error> {
    for mount in mounts {
        let MountSource::Bind { path, .. } = &mount.source else {
            continue;
        };
        if let Err(error) = std::fs::metadata(path) {
            let path = path.display();
            let reason = if error.kind() == std::io::ErrorKind::NotFound {
                format!("bind source path does not exist: {path}")
            } else {
                format!("bind source path cannot be used: {path}: {error}")
            };
            return Err(Error::Mount {
                kind: kind_name(MountKind::Bind),
                reason,
            });
        }
    }
    Ok(())
}

fn check_target(target: &str) -> Result<(), String> {
    if target.is_empty() {
        return Err("field Target must not be empty".to_owned());
    }
    if !target.starts_with('/') {
        return Err(not_absolute(target));
    }
    if Path::new(target).components().count() == 1 {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    Ok(())
}

fn bind(source: String) -> Result<MountSource, String> {
    if source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    if !source.starts_with('/') {
        return Err(not_absolute(&source));
    }
    Ok(MountSource::Bind {
        path: source.into(),
        propagation: Propagation::Private,
        recursive: true,
    })
}

fn tmpfs(mount: &container_spec::Mount) -> MountSource {
    MountSource::Tmpfs {
        size_bytes: (mount.tmpfs_size_bytes > 0).then_some(mount.tmpfs_size_bytes),
        mode: (mount.tmpfs_mode > 0).then_some(mount.tmpfs_mode),
    }
}

fn not_absolute(path: &str) -> String {
    format!("invalid mount path: '{path}' mount path must be absolute")
}

fn kind_name(kind: MountKind) -> &'static str {
    match kind {
        MountKind::Bind => "bind",
        MountKind::Tmpfs => "tmpfs",
    }
}
