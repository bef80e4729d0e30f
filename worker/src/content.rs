//! Puts the secrets and configs of a task where its container sees them.

use std::collections::BTreeMap;

use container::private::{Place as MountPlace, Private, PrivateMount};
use container::{ContentFile, content_mount};
use executor::{ContentError, Contents};
use types::Task;
use types::secret::{ContentUse, FileTarget, ReferenceTarget, SECRETS_DIR};
use zeroize::Zeroizing;

use crate::template::{self, Place};

/// Longest variable in bytes: the kernel's `MAX_ARG_STRLEN`, with the NUL.
const VARIABLE_BYTES_MAX: usize = 128 << 10;

/// Why a task's contents cannot be put into its container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error("expanding {kind} {name:?} failed: {source}")]
    Template {
        kind: &'static str,
        name: String,
        source: template::Error,
    },
    #[error("{kind} {name:?} cannot be the variable {variable}: {reason}")]
    Variable {
        kind: &'static str,
        name: String,
        variable: String,
        reason: &'static str,
    },
    #[error("{kind} {name:?}: {part} {value:?} is no number")]
    Owner {
        kind: &'static str,
        name: String,
        part: &'static str,
        value: String,
    },
    #[error("putting secrets and configs into memory failed: {0}")]
    Mount(container::Fault),
}

impl Error {
    /// Whether the same may succeed later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Content(ContentError::Waiting { .. }))
    }
}

/// Opens everything `task` refers to and puts it into memory only its container will see. Blocks.
pub(crate) fn gather(task: &Task, place: Place<'_>, contents: &Contents) -> Result<Private, Error> {
    let mut env = vec![];
    let mut files: BTreeMap<String, (Zeroizing<Vec<u8>>, &FileTarget, ContentUse<'_>)> =
        BTreeMap::new();
    for used in task.spec.container.contents() {
        let data = expanded(task, place, contents, &used)?;
        match (used.target, used.file()) {
            (ReferenceTarget::Env(name), _) => env.push(variable(name, &used, data)?),
            (ReferenceTarget::File(_), Some((path, file))) => {
                files.insert(normal(&path), (data, file, used));
            }
            (ReferenceTarget::File(_), None) => {}
        }
    }
    let below = format!("{SECRETS_DIR}/");
    let mut in_dir = vec![];
    let mut elsewhere = vec![];
    let mut places = vec![];
    for (path, (data, target, used)) in &files {
        let (list, path) = match path.strip_prefix(&below) {
            Some(rest) => (&mut in_dir, rest.to_owned()),
            None => {
                let number = places.len().to_string();
                places.push((number.clone(), path.clone()));
                (&mut elsewhere, number)
            }
        };
        list.push(ContentFile {
            path,
            uid: number(used, "uid", &target.uid)?,
            gid: number(used, "gid", &target.gid)?,
            mode: target.mode,
            data,
        });
    }
    let mut mounts = vec![];
    if !in_dir.is_empty() {
        let mount = content_mount(&in_dir).map_err(Error::Mount)?;
        let place = MountPlace::Directory(SECRETS_DIR.to_owned());
        mounts.push(PrivateMount { mount, place });
    }
    if !elsewhere.is_empty() {
        let mount = content_mount(&elsewhere).map_err(Error::Mount)?;
        let place = MountPlace::Files(places);
        mounts.push(PrivateMount { mount, place });
    }
    Ok(Private { env, mounts })
}

/// The content, filled in when it is a template.
fn expanded(
    task: &Task,
    place: Place<'_>,
    contents: &Contents,
    used: &ContentUse<'_>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let opened = contents.open(task.id, used)?;
    if !opened.is_template {
        return Ok(opened.data);
    }
    let failed = |source| Error::Template {
        kind: used.id.kind(),
        name: used.name.to_owned(),
        source,
    };
    let text = std::str::from_utf8(&opened.data).map_err(|_| failed(template::Error::NoText))?;
    let found = |kind: &str, target: &str| -> Result<Zeroizing<String>, template::Error> {
        let mut uses = task.spec.container.contents();
        let wanted = uses.find(|it| it.id.kind() == kind && is_target(it, target));
        let opened = contents.open(task.id, &wanted.ok_or_else(|| unknown(kind, target))?);
        let opened = opened.map_err(|error| template::Error::Content(error.to_string()))?;
        let text = std::str::from_utf8(&opened.data).map_err(|_| template::Error::NoText)?;
        Ok(Zeroizing::new(text.to_owned()))
    };
    let filled = template::expand_content(text, task, place, &found).map_err(failed)?;
    Ok(filled)
}

fn unknown(kind: &str, target: &str) -> template::Error {
    template::Error::Content(format!("the task has no {kind} with target {target:?}"))
}

fn is_target(used: &ContentUse<'_>, target: &str) -> bool {
    match used.target {
        ReferenceTarget::File(file) => file.name == target,
        ReferenceTarget::Env(name) => name == target,
    }
}

fn variable(
    name: &str,
    used: &ContentUse<'_>,
    data: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<String>, Error> {
    let refuse = |reason| Error::Variable {
        kind: used.id.kind(),
        name: used.name.to_owned(),
        variable: name.to_owned(),
        reason,
    };
    let text = std::str::from_utf8(&data).map_err(|_| refuse("it is no text"))?;
    if text.contains('\0') {
        return Err(refuse("it holds a NUL"));
    }
    let length = name.len() + 1 + text.len();
    if length >= VARIABLE_BYTES_MAX {
        return Err(refuse(
            "it is too long for a variable, which has 131071 bytes at most",
        ));
    }
    // As long as it gets from the beginning, so that no copy of a part is left behind.
    let mut pair = Zeroizing::new(String::with_capacity(length));
    pair.push_str(name);
    pair.push('=');
    pair.push_str(text);
    Ok(pair)
}

fn number(used: &ContentUse<'_>, part: &'static str, value: &str) -> Result<u32, Error> {
    value.parse().map_err(|_| Error::Owner {
        kind: used.id.kind(),
        name: used.name.to_owned(),
        part,
        value: value.to_owned(),
    })
}

/// A path without empty and `.` parts.
fn normal(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.fold(String::new(), |path, part| path + "/" + part)
}
