//! Finds the user a container runs as, in the image's own `/etc/passwd` and `/etc/group`.
//!
//! Those files are the image author's: they are read with limits, and a number is always taken as a
//! number (CVE-2024-40635, CVE-2026-46680, CVE-2026-47262).

use crate::error::{During, Fault, Result, Step};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use std::io::{BufRead, BufReader, Read};

/// Highest user or group id, the kernel's and Docker's: above it, ids turn negative somewhere.
const ID_MAX: u32 = i32::MAX as u32;
/// The most of a file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Longest line that is looked at, in bytes; longer ones are skipped.
const LINE_BYTES_MAX: usize = 64 << 10;
/// The most groups a process can have, from `linux/limits.h`.
const GROUPS_MAX: usize = 65_536;

/// Who a container's program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All groups of the process; the first is `gid`, which belongs among them (CVE-2023-25173).
    pub(crate) groups: Vec<u32>,
    /// The home directory.
    pub(crate) home: String,
}

/// A file of the image, opened anew for each pass over it.
pub(crate) type Open<'a> = &'a dyn Fn(&str) -> Result<Option<Box<dyn Read>>>;

/// Opens a file of the image, once this process's root is the image. `None` when it has none.
pub(crate) fn open_in_root(path: &str) -> Result<Option<Box<dyn Read>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(Fault::errno(Step::User, path, errno)),
    };
    let stat = fstat(&file).during(Step::User, path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Fault::refuse(Step::User, path, "it is not a regular file"));
    }
    Ok(Some(Box::new(std::fs::File::from(file))))
}

/// Resolves `user[:group]` and additional groups.
pub(crate) fn resolve(text: &str, additional: &[String], open: Open<'_>) -> Result<User> {
    let (user_part, group_part) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let wanted = if user_part.is_empty() { "0" } else { user_part };
    let number = parse_id(wanted)?;
    let mut entry = None;
    each_line(open, "/etc/passwd", |line| {
        let fields: Vec<&str> = line.split(':').collect();
        if let [name, _, uid, gid, _, home, ..] = fields.as_slice()
            && let (Ok(uid), Ok(gid)) = (uid.parse::<u32>(), gid.parse::<u32>())
            && uid <= ID_MAX
            && gid <= ID_MAX
            && number.map_or(*name == wanted, |number| number == uid)
        {
            entry = Some(((*name).to_owned(), uid, gid, (*home).to_owned()));
        }
        entry.is_none()
    })?;
    let (name, uid, gid, home) = match (entry, number) {
        (Some(entry), _) => entry,
        (None, Some(uid)) => (String::new(), uid, 0, String::new()),
        (None, None) => {
            return Err(Fault::refuse(
                Step::User,
                wanted,
                "the image's /etc/passwd has no such user",
            ));
        }
    };
    let home = if home.starts_with('/') {
        home
    } else {
        String::from("/")
    };
    let explicit = group_part.filter(|group| !group.is_empty());
    let names: Vec<&str> = explicit
        .into_iter()
        .chain(additional.iter().map(String::as_str))
        .collect();
    // With an explicit group, Docker leaves out the groups the user is a member of.
    let member = explicit.is_none().then_some(name.as_str());
    let (found, member_of) = find_groups(&names, member, open)?;
    let gid = if explicit.is_some() { found[0] } else { gid };
    let mut groups = vec![gid];
    groups.extend(member_of);
    groups.extend(found);
    dedup(&mut groups);
    if groups.len() > GROUPS_MAX {
        return Err(Fault::refuse(
            Step::User,
            wanted,
            "it is in too many groups",
        ));
    }
    Ok(User {
        uid,
        gid,
        groups,
        home,
    })
}

/// The ids of the named or numbered groups, in their order, and of those that `member` is in.
fn find_groups(
    names: &[&str],
    member: Option<&str>,
    open: Open<'_>,
) -> Result<(Vec<u32>, Vec<u32>)> {
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        ids.push(parse_id(name)?);
    }
    let mut member_of = Vec::new();
    each_line(open, "/etc/group", |line| {
        let mut fields = line.split(':');
        if let (Some(name), Some(id), Some(members)) = (fields.next(), fields.nth(1), fields.next())
            && let Ok(id) = id.parse::<u32>()
            && id <= ID_MAX
        {
            for (wanted, found) in names.iter().zip(&mut ids) {
                if found.is_none() && *wanted == name {
                    *found = Some(id);
                }
            }
            let is_member =
                |member: &str| !member.is_empty() && members.split(',').any(|one| one == member);
            if member.is_some_and(is_member) && member_of.len() <= GROUPS_MAX {
                member_of.push(id);
            }
        }
        true
    })?;
    let missing = |name: &str| {
        Fault::refuse(
            Step::User,
            format!("group {name}"),
            "the image's /etc/group has no such group",
        )
    };
    let found: Result<Vec<u32>> = names
        .iter()
        .zip(ids)
        .map(|(name, id)| id.ok_or_else(|| missing(name)))
        .collect();
    Ok((found?, member_of))
}

/// A number if it is written as one, and then within range.
fn parse_id(text: &str) -> Result<Option<u32>> {
    if text.is_empty() {
        return Err(Fault::refuse(Step::User, "\"\"", "an empty name"));
    }
    let is_number = text
        .strip_prefix('-')
        .unwrap_or(text)
        .bytes()
        .all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= ID_MAX => Ok(Some(id)),
        Ok(_) | Err(_) => Err(Fault::refuse(
            Step::User,
            text,
            format!("ids go from 0 to {ID_MAX}"),
        )),
    }
}

/// Calls `each` with the lines of a file until it says no.
fn each_line(open: Open<'_>, path: &str, mut each: impl FnMut(&str) -> bool) -> Result<()> {
    let Some(file) = open(path)? else {
        return Ok(());
    };
    let mut reader = BufReader::with_capacity(4096, file.take(FILE_BYTES_MAX));
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = (&mut reader)
            .take(LINE_BYTES_MAX as u64)
            .read_until(b'\n', &mut line)
            .during(Step::User, path)?;
        if count == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && count == LINE_BYTES_MAX {
            skip_line(&mut reader).during(Step::User, path)?;
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if !text.starts_with('#') && !each(text) {
            return Ok(());
        }
    }
}

fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let count = end.map_or(buffer.len(), |at| at + 1);
        reader.consume(count);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// Removes later repetitions, keeping the order.
fn dedup(groups: &mut Vec<u32>) {
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|group| seen.insert(*group));
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
# comment:x:5:5::/:
broken line
huge:x:4294967295:0::/:/bin/sh
negative:x:-1:0::/:/bin/sh
web:x:1000:1001:Web,,,:/srv/web:/bin/sh
1000:x:7:7:a name that is a number:/nope:/bin/sh
nohome:x:1002:1002::relative:/bin/sh
";
    const GROUP: &str = "\
root:x:0:
web:x:1001:
www:x:33:web,other
adm:x:4:other,web
big:x:4294967295:web
";

    fn resolve_in(passwd: &str, group: &str, user: &str, additional: &[&str]) -> Option<User> {
        let open = |path: &str| -> Result<Option<Box<dyn Read>>> {
            let text = if path == "/etc/passwd" { passwd } else { group };
            let bytes = text.as_bytes().to_vec();
            Ok((!text.is_empty()).then(|| Box::new(std::io::Cursor::new(bytes)) as Box<dyn Read>))
        };
        let additional: Vec<_> = additional.iter().map(|name| String::from(*name)).collect();
        resolve(user, &additional, &open).ok()
    }

    #[test]
    fn users_and_groups() {
        type Expected = Option<(u32, u32, &'static [u32], &'static str)>;
        let cases: [(&str, &[&str], Expected); 17] = [
            ("", &[], Some((0, 0, &[0], "/root"))),
            ("root", &[], Some((0, 0, &[0], "/root"))),
            ("web", &[], Some((1000, 1001, &[1001, 33, 4], "/srv/web"))),
            ("1000", &[], Some((1000, 1001, &[1001, 33, 4], "/srv/web"))),
            ("web:www", &[], Some((1000, 33, &[33], "/srv/web"))),
            ("web:7", &[], Some((1000, 7, &[7], "/srv/web"))),
            (
                "web",
                &["www", "99"],
                Some((1000, 1001, &[1001, 33, 4, 99], "/srv/web")),
            ),
            ("4242", &[], Some((4242, 0, &[0], "/"))),
            ("4242:33", &[], Some((4242, 33, &[33], "/"))),
            ("nohome", &[], Some((1002, 1002, &[1002], "/"))),
            ("nobody", &[], None),
            ("web:nope", &[], None),
            ("web", &["nope"], None),
            ("2147483648", &[], None),
            ("4294967296", &[], None),
            ("-1", &[], None),
            ("huge", &[], None),
        ];
        for (user, additional, expected) in cases {
            let found = resolve_in(PASSWD, GROUP, user, additional);
            let expected = expected.map(|(uid, gid, groups, home)| User {
                uid,
                gid,
                groups: groups.to_vec(),
                home: home.to_owned(),
            });
            assert_eq!(found, expected, "{user} {additional:?}");
        }
    }

    #[test]
    fn image_without_the_files_takes_numbers_only() {
        assert_eq!(resolve_in("", "", "5:6", &[]).unwrap().groups, [6]);
        assert_eq!(resolve_in("", "", "", &[]).unwrap().uid, 0);
        assert!(resolve_in("", "", "web", &[]).is_none());
    }

    #[test]
    fn overlong_line_is_skipped_and_the_next_one_read() {
        let passwd = format!("x{}\nweb:x:5:6::/w:\n", ":".repeat(3 * LINE_BYTES_MAX));
        assert_eq!(resolve_in(&passwd, "", "web", &[]).unwrap().uid, 5);
    }

    #[test]
    fn devices_are_not_read_as_user_files() {
        assert!(open_in_root("/dev/null").is_err());
        assert!(open_in_root("/nonexistent").unwrap().is_none());
    }
}
