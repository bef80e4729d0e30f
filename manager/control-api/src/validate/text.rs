//! Names and other words: services, host names, users.

use std::fmt::Display;

use super::{Checked, Invalid};

/// Longest name and host name (DNS label).
const NAME_LEN_MAX: usize = 63;
/// Longest name of several labels (RFC 1035).
const DOMAIN_LEN_MAX: usize = 253;

/// A name that can be a DNS label: `^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$`, at most 63 characters.
///
/// # Errors
/// When it is missing, too long or has other characters.
pub fn name(field: &str, name: &str) -> Checked {
    if name.is_empty() {
        return Err(Invalid::new(field, "name must be provided"));
    }
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !name.chars().all(inner) || !outer(name.chars().next()) || !outer(name.chars().next_back()) {
        return Err(Invalid::new(
            field,
            format!(
                "{name:?} must be valid as a DNS name component: letters, digits, '-' and '_', \
                 with a letter or digit at both ends"
            ),
        ));
    }
    if name.len() > NAME_LEN_MAX {
        let len = name.len();
        return Err(Invalid::new(
            field,
            format!("name must be {NAME_LEN_MAX} characters or fewer, {name:?} has {len}"),
        ));
    }
    Ok(())
}

/// A host name: labels of letters, digits and `-`, joined by dots, at most 63 characters in all
/// (the kernel's limit is 64). With placeholders in it, the node checks what comes of them.
///
/// # Errors
/// When it is not one. Empty is no error: the task's id is used then.
pub fn hostname(field: &str, name: &str) -> Checked {
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_template = name.contains("{{") && !name.contains('\0');
    if name.is_empty() || is_template || name.len() <= NAME_LEN_MAX && name.split('.').all(label) {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!(
            "{name:?} is not a valid host name: labels of letters, digits and '-' joined by dots, \
             {NAME_LEN_MAX} characters or fewer in all"
        ),
    ))
}

/// A name of DNS: labels of letters, digits, `-` and `_`, joined by dots, perhaps with one at the
/// end.
///
/// # Errors
/// When it is not one.
pub(super) fn domain_name(field: &str, name: &str) -> Checked {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let label = |label: &str| (1..=NAME_LEN_MAX).contains(&label.len()) && label.chars().all(inner);
    let labels = name.strip_suffix('.').unwrap_or(name);
    if name.len() <= DOMAIN_LEN_MAX && labels.split('.').all(label) {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!(
            "{name:?} is not a name of DNS: labels of letters, digits, '-' and '_' joined by dots, \
             {NAME_LEN_MAX} characters or fewer each"
        ),
    ))
}

/// `user`, `user:group`, by name or number.
///
/// # Errors
/// When a part is empty or could not be a name. Empty as a whole is no error: the image decides.
pub fn user(field: &str, user: &str) -> Checked {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part
                .chars()
                .all(|c| !c.is_whitespace() && !c.is_control() && c != ':')
    };
    let (name, group) = user
        .split_once(':')
        .map_or((user, None), |(n, g)| (n, Some(g)));
    if user.is_empty() || part(name) && group.is_none_or(part) {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!("{user:?} is not valid: it must be user or user:group"),
    ))
}

/// The kernel ends texts at a NUL: one inside would silently cut off the rest.
pub(super) fn no_nul(field: impl Display, text: &str) -> Checked {
    if text.contains('\0') {
        return Err(Invalid::new(field, "must not hold a NUL character"));
    }
    Ok(())
}
