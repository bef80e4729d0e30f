//! Mounts of a container.

use std::collections::BTreeSet;

use types::container_spec::{Mount, MountKind};

use super::{Checked, Invalid, text};

/// Permission bits with set-id and sticky bits.
const MODE_MAX: u32 = 0o7777;

/// The mounts of one container.
///
/// # Errors
/// The first field that is wrong, or a target that is used twice (S20.04).
pub fn mounts(field: &str, mounts: &[Mount]) -> Checked {
    let mut targets = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let target = target(&format!("{field}.Target"), &mount.target)?;
        match mount.kind {
            MountKind::Bind => bind(&field, mount)?,
            MountKind::Tmpfs => tmpfs(&field, mount)?,
        }
        if !targets.insert(target.clone()) {
            return Err(Invalid::new(
                format!("{field}.Target"),
                format!("duplicate mount point {target:?}: each target may be mounted once"),
            ));
        }
    }
    Ok(())
}

/// The target without empty and `.` parts, so that two ways of writing it are one.
fn target(field: &str, target: &str) -> Result<String, Invalid> {
    if target.is_empty() {
        return Err(Invalid::new(field, "a mount needs a target"));
    }
    if !target.starts_with('/') {
        return Err(Invalid::new(
            field,
            format!("{target:?} must be an absolute path"),
        ));
    }
    text::no_nul(field, target)?;
    let parts: Vec<&str> = target
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return Err(Invalid::new(
            field,
            format!("{target:?} must not hold \"..\""),
        ));
    }
    if parts.is_empty() {
        return Err(Invalid::new(field, "the target cannot be \"/\""));
    }
    Ok(format!("/{}", parts.join("/")))
}

fn bind(field: &str, mount: &Mount) -> Checked {
    let source = format!("{field}.Source");
    if mount.source.is_empty() {
        return Err(Invalid::new(
            source,
            "a bind mount needs a source, a path on the node",
        ));
    }
    if !mount.source.starts_with('/') {
        return Err(Invalid::new(
            source,
            format!("{:?} must be an absolute path", mount.source),
        ));
    }
    if mount.tmpfs_size_bytes != 0 || mount.tmpfs_mode != 0 {
        return Err(Invalid::new(
            format!("{field}.TmpfsOptions"),
            "cannot be given for a bind mount",
        ));
    }
    text::no_nul(source, &mount.source)
}

fn tmpfs(field: &str, mount: &Mount) -> Checked {
    if !mount.source.is_empty() {
        return Err(Invalid::new(
            format!("{field}.Source"),
            format!("{:?} must be empty: a tmpfs has no source", mount.source),
        ));
    }
    if mount.tmpfs_mode > MODE_MAX {
        return Err(Invalid::new(
            format!("{field}.TmpfsOptions.Mode"),
            format!(
                "{:#o} is not a file mode, at most {MODE_MAX:#o} is",
                mount.tmpfs_mode
            ),
        ));
    }
    Ok(())
}
