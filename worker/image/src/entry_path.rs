//! Paths of archive entries, taken apart into names that stay below the archive's root.

/// Most names in one path. Archives of real systems stay below 40; deep trees cost a descriptor a
/// level to extract and to remove.
const DEPTH_MAX: usize = 256;
/// Longest name, in bytes (the kernel's NAME_MAX).
const NAME_BYTES_MAX: usize = 255;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadPath {
    Absolute,
    Parent,
    TooDeep,
    NameTooLong,
}

impl BadPath {
    /// The rest of a sentence that begins with the entry.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Absolute => "has an absolute path",
            Self::Parent => "has `..` in its path",
            Self::TooDeep => "lies more than 256 directories deep",
            Self::NameTooLong => "has a name of more than 255 bytes",
        }
    }
}

/// The names of `path`, without empty ones and `.`; none for the root itself.
pub(crate) fn components(path: &[u8]) -> Result<Vec<&[u8]>, BadPath> {
    if path.starts_with(b"/") {
        return Err(BadPath::Absolute);
    }
    let mut names = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(BadPath::Parent),
            _ if names.len() == DEPTH_MAX => return Err(BadPath::TooDeep),
            name if name.len() > NAME_BYTES_MAX => return Err(BadPath::NameTooLong),
            name => names.push(name),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        type Row<'a> = (&'a str, Result<&'a [&'a [u8]], BadPath>);
        let deep = "a/".repeat(DEPTH_MAX + 1);
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        let table: [Row<'_>; 10] = [
            ("", Ok(&[])),
            ("./", Ok(&[])),
            ("./a//b/./c/", Ok(&[b"a", b"b", b"c"])),
            ("..a/b..", Ok(&[b"..a", b"b.."])),
            ("/", Err(BadPath::Absolute)),
            ("/a", Err(BadPath::Absolute)),
            ("..", Err(BadPath::Parent)),
            ("a/../b", Err(BadPath::Parent)),
            (&long, Err(BadPath::NameTooLong)),
            (&deep, Err(BadPath::TooDeep)),
        ];
        for (path, expected) in table {
            let names = components(path.as_bytes());
            assert_eq!(names.as_deref().map_err(|&e| e), expected, "{path}");
        }
    }
}
