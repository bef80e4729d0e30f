//! The managers a node knows of, kept on disk so that a restart finds the cluster again.

use std::path::PathBuf;

use crate::{Error, files};

/// Name of the file below the agent's directory: one `host:port` a line.
const FILE: &str = "managers";
/// Addresses kept at most; a cluster has a handful of managers.
const ADDRS_MAX: usize = 64;

/// Known managers, in the order in which they are tried.
#[derive(Debug)]
pub(crate) struct Managers {
    file: PathBuf,
    addrs: Vec<String>,
}

impl Managers {
    /// Those in the file and those given.
    pub(crate) fn open(dir: &std::path::Path, given: Vec<String>) -> Self {
        let file = dir.join(FILE);
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        let mut managers = Self {
            file,
            addrs: vec![],
        };
        let kept = kept.lines().map(str::to_owned);
        managers.addrs = bounded(given.into_iter().chain(kept));
        managers
    }

    /// The addresses, the most promising first.
    pub(crate) fn addrs(&self) -> &[String] {
        &self.addrs
    }

    /// Takes over the list a manager sent. An empty one is no list.
    pub(crate) fn replace(&mut self, addrs: &[String]) -> Result<(), Error> {
        let known = |a: &String| addrs.contains(a);
        if addrs.is_empty() || (addrs.len() == self.addrs.len() && self.addrs.iter().all(known)) {
            return Ok(());
        }
        // Those that were known keep their place.
        let (old, new) = (self.addrs.iter().filter(|a| known(a)), addrs.iter());
        self.addrs = bounded(old.chain(new).cloned().collect::<Vec<_>>().into_iter());
        files::replace(&self.file, self.addrs.join("\n").as_bytes())
    }

    /// A session with this one was lost: the others are more promising now.
    pub(crate) fn demote(&mut self, addr: &str) {
        self.addrs.sort_by_key(|a| a == addr);
    }
}

/// Without blanks and repetitions, in the same order.
fn bounded(addrs: impl Iterator<Item = String>) -> Vec<String> {
    let mut list: Vec<String> = vec![];
    for addr in addrs.map(|a| a.trim().to_owned()) {
        if !addr.is_empty() && !list.contains(&addr) && list.len() < ADDRS_MAX {
            list.push(addr);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_was_learnt_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut managers = Managers::open(dir.path(), list("a:1 a:1"));
        assert_eq!(managers.addrs(), list("a:1"));
        managers.replace(&[]).unwrap();
        assert_eq!(managers.addrs(), list("a:1"), "an empty list is no list");
        managers.replace(&list("c:1 a:1 b:1")).unwrap();
        assert_eq!(managers.addrs(), list("a:1 c:1 b:1"));
        managers.demote("a:1");
        assert_eq!(managers.addrs(), list("c:1 b:1 a:1"));
        assert_eq!(
            Managers::open(dir.path(), list("d:1")).addrs(),
            list("d:1 a:1 c:1 b:1")
        );
    }
}
