//! Image references: `[registry[:port]/]path[:tag][@digest]`, as registries and Docker read them.

use super::{Checked, Invalid};

/// Longest name without tag and digest, in characters.
const NAME_LEN_MAX: usize = 255;
/// Longest tag, in characters.
const TAG_LEN_MAX: usize = 128;

/// A reference to an image.
///
/// # Errors
/// When it is missing or does not follow the grammar.
pub fn image_reference(field: &str, image: &str) -> Checked {
    if image.is_empty() {
        return Err(Invalid::new(field, "image reference must be provided"));
    }
    match problem(image) {
        None => Ok(()),
        Some(problem) => Err(Invalid::new(
            field,
            format!("{image:?} is not a valid repository/tag: {problem}"),
        )),
    }
}

fn problem(image: &str) -> Option<String> {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    if let Some(digest) = digest
        && !is_digest(digest)
    {
        return Some(format!(
            "{digest:?} is not a digest like sha256:<64 hex digits>"
        ));
    }
    // A colon before the last slash belongs to the registry's port.
    let tag_at = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
    let (name, tag) = match tag_at {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag
        && !is_tag(tag)
    {
        return Some(format!(
            "tag {tag:?} must be 1 to {TAG_LEN_MAX} letters, digits, '_', '.' and '-', not \
             starting with '.' or '-'"
        ));
    }
    if name.len() > NAME_LEN_MAX {
        return Some(format!(
            "its name must be {NAME_LEN_MAX} characters or fewer"
        ));
    }
    let path = match name.split_once('/') {
        Some((domain, path)) if looks_like_domain(domain) => {
            if !is_domain(domain) {
                return Some(format!("{domain:?} is not a registry's host[:port]"));
            }
            path
        }
        Some(_) | None => name,
    };
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Some("the name must be lower-case".to_owned());
    }
    if !path.split('/').all(is_component) {
        return Some(
            "the name must be of lower-case letters and digits, separated by '.', '_', '__', '-' \
             or '/'"
                .to_owned(),
        );
    }
    None
}

/// As Docker decides whether the first part is a registry or the beginning of a path.
fn looks_like_domain(part: &str) -> bool {
    part == "localhost"
        || part.contains(['.', ':', '['])
        || part.chars().any(|c| c.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (domain, None),
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    let is_host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(label),
    };
    is_host && port.is_none_or(is_port)
}

fn is_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alphanumeric = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    let separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends && separators.filter(|s| !s.is_empty()).all(|separator| {
        matches!(separator, "." | "_" | "__") || separator.bytes().all(|c| c == b'-')
    })
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= TAG_LEN_MAX
        && tag
            .bytes()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric() || c == b'_')
        && tag
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let hex = |text: &str, len| {
        text.len() == len && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    match digest.split_once(':') {
        Some(("sha256", text)) => hex(text, 64),
        Some(("sha512", text)) => hex(text, 128),
        Some(_) | None => false,
    }
}
