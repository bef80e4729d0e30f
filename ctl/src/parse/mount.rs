//! `--mount`: comma-separated keys and values (X01), for the kinds of mounts there are so far.

use types::container_spec::{Mount, MountKind};

use super::{amount, csv};

/// One mount.
pub(crate) fn mount(text: &str) -> Result<Mount, String> {
    let mut mount = Mount::default();
    let mut kind = None;
    let mut bind_key = None;
    let mut tmpfs_key = None;
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.trim())),
            None => (field.trim().to_ascii_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("readonly" | "ro", value) => mount.read_only = boolean(&key, value)?,
            ("type", Some(value)) => kind = Some(mount_kind(value)?),
            ("source" | "src", Some(value)) => mount.source = source(value),
            ("target" | "dst" | "destination", Some(value)) => mount.target = value.to_owned(),
            ("tmpfs-size", Some(value)) => {
                mount.tmpfs_size_bytes = in_key(&key, amount::bytes(value))?;
                tmpfs_key = Some(key);
            }
            ("tmpfs-mode", Some(value)) => {
                mount.tmpfs_mode = u32::from_str_radix(value, 8)
                    .map_err(|_| format!("tmpfs-mode {value:?} is not an octal file mode"))?;
                tmpfs_key = Some(key);
            }
            ("bind-propagation", Some(value)) => {
                propagation(value)?;
                bind_key = Some(key);
            }
            ("consistency", Some(_)) => {}
            (
                "bind-recursive" | "bind-create-src" | "bind-nonrecursive" | "volume-subpath"
                | "volume-nocopy" | "volume-label" | "volume-driver" | "volume-opt"
                | "image-subpath",
                _,
            ) => return Err(format!("option {key} is not supported yet")),
            (_, None) => {
                return Err(format!(
                    "invalid field {field:?}: it must be a key=value pair"
                ));
            }
            (_, Some(_)) => {
                return Err(format!(
                    "unexpected key {key:?}: there are type, source, target, readonly, \
                     bind-propagation, tmpfs-size and tmpfs-mode"
                ));
            }
        }
    }
    mount.kind = kind.ok_or_else(|| {
        "type is required: volumes, which it would be by default, are not supported yet; use \
         type=bind or type=tmpfs"
            .to_owned()
    })?;
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    let (stranger, name) = match mount.kind {
        MountKind::Bind => (tmpfs_key, "bind"),
        MountKind::Tmpfs => (bind_key, "tmpfs"),
    };
    match stranger {
        Some(key) => Err(format!("cannot mix option {key} with mount type {name:?}")),
        None => Ok(mount),
    }
}

fn mount_kind(value: &str) -> Result<MountKind, String> {
    match value.to_ascii_lowercase().as_str() {
        "bind" => Ok(MountKind::Bind),
        "tmpfs" => Ok(MountKind::Tmpfs),
        "volume" | "cluster" | "image" | "npipe" => Err(format!(
            "mount type {value:?} is not supported yet: use bind or tmpfs"
        )),
        _ => Err(format!(
            "mount type {value:?} is not known: use bind or tmpfs"
        )),
    }
}

/// A source that begins with a dot is meant from where the user stands.
fn source(value: &str) -> String {
    if !matches!(value, "." | "..") && !value.starts_with("./") && !value.starts_with("../") {
        return value.to_owned();
    }
    match std::path::absolute(value) {
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(_) => value.to_owned(),
    }
}

fn boolean(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("1" | "true" | "t") => Ok(true),
        Some("0" | "false" | "f") => Ok(false),
        Some(other) => Err(format!(
            "invalid value for {key}: {other:?} must be true or false"
        )),
    }
}

/// `rprivate` is what a mount is; sharing mounts with the node comes with volumes.
fn propagation(value: &str) -> Result<(), String> {
    match value {
        "rprivate" => Ok(()),
        "private" | "shared" | "rshared" | "slave" | "rslave" => Err(format!(
            "bind-propagation {value:?} is not supported yet: only rprivate is"
        )),
        _ => Err(format!("bind-propagation {value:?} is not known")),
    }
}

fn in_key<T>(key: &str, result: Result<T, String>) -> Result<T, String> {
    result.map_err(|problem| format!("invalid value for {key}: {problem}"))
}
