//! Where contexts are kept: `~/.swarm`, one file each, readable by their owner only.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Document;
use super::document::{LEN_MAX, Way};
use crate::connect::HOST_DEFAULT;
use crate::error::Error;

/// The daemon on this machine; always there.
pub(crate) const DEFAULT: &str = "default";

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    /// That of the user.
    pub(crate) fn of_user() -> Result<Self, Error> {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        let home = home.ok_or_else(|| {
            Error::Failed("contexts are kept in ~/.swarm, and HOME is not set".to_owned())
        })?;
        Ok(Self::at(Path::new(&home).join(".swarm")))
    }

    pub(crate) fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Names of all contexts but the default one, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let dir = self.contexts();
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
            Err(source) => return Err(Error::File { path: dir, source }),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|file| file.strip_suffix(".json").map(str::to_owned))
            .filter(|name| check_name(name).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The context of this name.
    pub(crate) fn read(&self, name: &str) -> Result<Document, Error> {
        if name == DEFAULT {
            return Ok(Document {
                name: name.to_owned(),
                description: "The daemon on this machine".to_owned(),
                way: Way::Socket {
                    host: HOST_DEFAULT.to_owned(),
                },
            });
        }
        check_name(name)?;
        let path = self.path(name);
        let text = match read_bounded(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::Failed(format!(
                    "context {name:?} does not exist: `swarmctl context ls` shows which do"
                )));
            }
            read => read.map_err(|source| Error::File { path, source })?,
        };
        let mut document = Document::parse(&text)?;
        name.clone_into(&mut document.name);
        Ok(document)
    }

    /// Keeps a new context.
    pub(crate) fn create(&self, document: &Document) -> Result<(), Error> {
        check_name(&document.name)?;
        if document.name == DEFAULT {
            return Err(Error::Usage(format!(
                "the name {DEFAULT} is taken: it is the daemon on this machine"
            )));
        }
        self.make_dirs()?;
        let path = self.path(&document.name);
        match write_new(&path, document.text().as_bytes()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::Failed(format!(
                "context {:?} exists already: remove it first, or use another name",
                document.name
            ))),
            written => written.map_err(|source| Error::File { path, source }),
        }
    }

    /// Forgets a context. The one in use only with `force`; the default one is in use then.
    pub(crate) fn remove(&self, name: &str, force: bool) -> Result<(), Error> {
        check_name(name)?;
        if name == DEFAULT {
            let text = "the default context is the daemon on this machine: it cannot be removed";
            return Err(Error::Usage(text.to_owned()));
        }
        let is_current = self.current()?.as_deref() == Some(name);
        if is_current && !force {
            return Err(Error::Failed(format!(
                "context {name:?} is in use: `swarmctl context use` another one first, or --force"
            )));
        }
        let path = self.path(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::Failed(format!("context {name:?} does not exist")));
            }
            removed => removed.map_err(|source| Error::File { path, source })?,
        }
        if is_current {
            self.use_context(DEFAULT)?;
        }
        Ok(())
    }

    /// The context in use; none when it is the default one.
    pub(crate) fn current(&self) -> Result<Option<String>, Error> {
        let path = self.dir.join("current");
        match read_bounded(&path) {
            Ok(name) => Ok(Some(name.trim().to_owned()).filter(|it| !it.is_empty())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { path, source }),
        }
    }

    /// Makes a context the one that is meant when none is named.
    pub(crate) fn use_context(&self, name: &str) -> Result<(), Error> {
        let path = self.dir.join("current");
        let failed = |source| Error::File {
            path: path.clone(),
            source,
        };
        if name == DEFAULT {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        self.read(name)?;
        self.make_dirs()?;
        let tmp = self.dir.join(format!("current.{}", std::process::id()));
        std::fs::write(&tmp, format!("{name}\n")).map_err(failed)?;
        std::fs::rename(&tmp, &path).map_err(failed)
    }

    fn contexts(&self) -> PathBuf {
        self.dir.join("contexts")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.contexts().join(format!("{name}.json"))
    }

    /// Makes the directories, and closes them to others if somebody opened them.
    fn make_dirs(&self) -> Result<(), Error> {
        for path in [self.dir.clone(), self.contexts()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            let closed = made.and_then(|()| {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))
            });
            closed.map_err(|source| Error::File { path, source })?;
        }
        Ok(())
    }
}

/// Names are file names: letters, digits, `.`, `-`, `_`, beginning with a letter or digit.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && name.len() <= 63 && name.chars().all(inner) {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "context name {name:?} cannot be used: letters, digits, '.', '-' and '_', at most 63, \
         beginning with a letter or digit"
    )))
}

/// Writes a file that its owner alone can read, and that was not there before.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        drop(std::fs::remove_file(path));
    }
    written
}

/// Reads a file, but not a huge one.
pub(super) fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(LEN_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(name: &str) -> Document {
        Document {
            name: name.to_owned(),
            description: String::new(),
            way: Way::Socket {
                host: format!("unix:///run/{name}.sock"),
            },
        }
    }

    #[test]
    fn contexts_are_kept_for_their_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf::at(home.path().join(".swarm"));
        assert!(shelf.names().unwrap().is_empty());
        shelf.create(&socket("b")).unwrap();
        shelf.create(&socket("a")).unwrap();
        assert_eq!(shelf.names().unwrap(), ["a", "b"]);
        let mode = |path: &str| {
            let path = home.path().join(path);
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode(".swarm"), 0o700);
        assert_eq!(mode(".swarm/contexts"), 0o700);
        assert_eq!(mode(".swarm/contexts/a.json"), 0o600);
        let twice = shelf.create(&socket("a")).unwrap_err();
        assert!(twice.to_string().contains("exists already"), "{twice}");
    }

    #[test]
    fn the_one_in_use_is_not_removed_by_accident() {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf::at(home.path().to_owned());
        shelf.create(&socket("a")).unwrap();
        assert_eq!(shelf.current().unwrap(), None);
        assert!(shelf.use_context("nope").is_err());
        shelf.use_context("a").unwrap();
        assert_eq!(shelf.current().unwrap().as_deref(), Some("a"));
        assert!(shelf.remove("a", false).is_err());
        shelf.remove("a", true).unwrap();
        assert_eq!(shelf.current().unwrap(), None);
        assert!(shelf.remove("default", true).is_err());
        assert!(shelf.create(&socket("default")).is_err());
    }

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["", ".", "..", "../x", "a/b", "-a", ".a", "a b", "é"] {
            assert_eq!(check_name(name).unwrap_err().exit_code(), 2, "{name:?}");
        }
        for name in ["a", "prod-1", "a.b_c"] {
            check_name(name).unwrap();
        }
    }
}
