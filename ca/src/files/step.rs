//! The single moves a change of files is made of, each of them whole or not done at all.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

/// One move. Names are relative to the directory.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Write a whole file and sync it. A crash leaves part of it, so only `.tmp` names stand here.
    Write {
        name: String,
        mode: u32,
        bytes: Zeroizing<Vec<u8>>,
    },
    /// Rename over whatever is there.
    Rename { from: String, to: String },
    /// Remove if there.
    Remove { name: String },
    /// Make all of the above survive a loss of power.
    SyncDir,
}

impl Step {
    pub(super) fn run(&self, dir: &Path) -> io::Result<()> {
        match self {
            Self::Write { name, mode, bytes } => {
                // What a crash left under this name may have another mode.
                remove(&dir.join(name))?;
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(*mode)
                    .open(dir.join(name))?;
                file.write_all(bytes)?;
                file.sync_all()
            }
            Self::Rename { from, to } => std::fs::rename(dir.join(from), dir.join(to)),
            Self::Remove { name } => remove(&dir.join(name)),
            Self::SyncDir => File::open(dir)?.sync_all(),
        }
    }

    /// The verb for messages.
    pub(super) fn doing(&self) -> &'static str {
        match self {
            Self::Write { .. } => "write",
            Self::Rename { .. } => "replace",
            Self::Remove { .. } => "remove",
            Self::SyncDir => "sync directory",
        }
    }

    /// The name for messages; empty for the directory itself.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Write { name, .. } | Self::Remove { name } => name,
            Self::Rename { to, .. } => to,
            Self::SyncDir => "",
        }
    }
}

/// Where the content of `name` is written before it gets a name that counts.
pub(super) fn tmp_of(name: &str) -> String {
    format!("{name}.tmp")
}

/// Puts content under `target` by way of the temporary name of `name`.
pub(super) fn replace(name: &str, target: &str, mode: u32, bytes: &[u8]) -> [Step; 2] {
    let tmp = tmp_of(name);
    let bytes = Zeroizing::new(bytes.to_vec());
    [
        Step::Write {
            name: tmp.clone(),
            mode,
            bytes,
        },
        Step::Rename {
            from: tmp,
            to: target.to_owned(),
        },
    ]
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes the directory and its parents; one that is there is closed to others.
pub(super) fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(dir)?;
    tighten(dir, mode).map(drop)
}

/// Takes away every permission that is not in `mode`; says whether there was one.
pub(super) fn tighten(path: &Path, mode: u32) -> io::Result<bool> {
    let permissions = match std::fs::metadata(path) {
        Ok(metadata) => metadata.permissions(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    if permissions.mode() & 0o777 & !mode == 0 {
        return Ok(false);
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map(|()| true)
}
