//! The group that may use the local socket, by name or number.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Where groups are written. The program is static: it asks no name service.
pub const GROUPS: &str = "/etc/group";

/// Finds a group's number: the name as it stands in `groups`, or the number itself.
///
/// # Errors
/// When the file cannot be read, or has no such group.
pub fn number(group: &str, groups: &Path) -> Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let text = std::fs::read_to_string(groups)
        .with_context(|| format!("--group {group}: reading {}", groups.display()))?;
    for line in text.lines() {
        let mut fields = line.split(':');
        if !group.is_empty()
            && fields.next() == Some(group)
            && let Some(number) = fields.nth(1).and_then(|number| number.parse().ok())
        {
            return Ok(number);
        }
    }
    bail!(
        "--group {group}: there is no such group in {}: make it with `groupadd --system {group}`",
        groups.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name_and_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("group");
        std::fs::write(&file, "root:x:0:\nswarm:x:990:ann,bob\nbroken\n:x:1:\n").unwrap();
        assert_eq!(number("swarm", &file).unwrap(), 990);
        assert_eq!(number("42", Path::new("/nowhere")).unwrap(), 42);
        for group in ["swar", "swarm2", "ann", "broken", ""] {
            let error = number(group, &file).unwrap_err().to_string();
            assert!(error.contains("there is no such group"), "{error}");
        }
        assert!(number("swarm", Path::new("/nowhere")).is_err());
    }
}
