//! Image references (`registry/repository:tag@sha256:…`): Docker's grammar, parsing and short form.
//!
//! The file uses nothing else of this crate (only `thiserror`), because whoever validates a service spec
//! needs the same grammar as whoever looks an image up.

use std::fmt;
use std::str::FromStr;

/// The registry meant when a reference names none.
const DOMAIN_DEFAULT: &str = "docker.io";
/// An old name of the default registry, still found in archives and scripts.
const DOMAIN_LEGACY: &str = "index.docker.io";
/// Where the default registry keeps repositories of a single component (`web`).
const NAMESPACE_DEFAULT: &str = "library";
/// The tag meant when a reference has neither tag nor digest.
const TAG_DEFAULT: &str = "latest";
/// Longest `domain/path`, in bytes (`NameTotalLengthMax` of distribution/reference).
const NAME_BYTES_MAX: usize = 255;
/// Longest tag, in bytes (distribution/reference: `[\w][\w.-]{0,127}`).
const TAG_BYTES_MAX: usize = 128;

/// A parsed, normalized image reference: `web` is held as `docker.io/library/web`.
///
/// `Display` writes the short form users type (`web:latest`); [`Reference::canonical`] the long one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why a text is not an image reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// There is nothing to parse.
    #[error("the name is empty")]
    Empty,
    /// The repository has capital letters.
    #[error("a repository name must be lower case")]
    Uppercase,
    /// Name and domain together are longer than 255 bytes.
    #[error("a repository name has at most {NAME_BYTES_MAX} characters")]
    TooLong,
    /// 64 hexadecimal digits would be taken for an image id.
    #[error("64 hexadecimal digits are an image id, not a name")]
    LooksLikeId,
    /// The part before the first slash is no host name with optional port.
    #[error("the registry must be a host name with an optional port")]
    BadDomain,
    /// A path component does not follow the grammar.
    #[error(
        "a repository name is made of lower case letters and digits, \
         separated by `/`, `.`, `_`, `__` or dashes"
    )]
    BadPath,
    /// The part after the colon is no tag.
    #[error(
        "a tag has up to 128 letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`"
    )]
    BadTag,
    /// The part after the `@` is no digest.
    #[error("a digest is `sha256:` and 64 lower case hexadecimal digits")]
    BadDigest,
}

impl Reference {
    /// Registry, with port if any: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Repository below the registry: `library/web`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Tag, if the reference has one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Digest, if the reference has one: `sha256:…`.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The same reference, with tag `latest` when it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(TAG_DEFAULT.to_owned());
        }
        self
    }

    /// The same reference without its digest.
    #[must_use]
    pub fn without_digest(mut self) -> Self {
        self.digest = None;
        self
    }

    /// The same repository, at `digest` and without tag.
    ///
    /// # Errors
    /// When `digest` is not a digest.
    pub fn with_digest(mut self, digest: &str) -> Result<Self, ParseError> {
        check_digest(digest)?;
        self.tag = None;
        self.digest = Some(digest.to_owned());
        Ok(self)
    }

    /// True when both name the same repository, whatever their tags and digests.
    #[must_use]
    pub fn is_same_repository(&self, other: &Self) -> bool {
        self.domain == other.domain && self.path == other.path
    }

    /// The long form, with registry and namespace: `docker.io/library/web:latest`.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.with_name(&format!("{}/{}", self.domain, self.path))
    }

    /// Registry and repository as users write them, without tag and digest: `web`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        let long = || format!("{}/{}", self.domain, self.path);
        if self.domain != DOMAIN_DEFAULT {
            return long();
        }
        let official = self
            .path
            .strip_prefix(NAMESPACE_DEFAULT)
            .and_then(|rest| rest.strip_prefix('/'))
            .filter(|rest| !rest.contains('/'));
        if let Some(short) = official {
            return short.to_owned();
        }
        // `docker.io/a.b/c` shortened to `a.b/c` would read as registry `a.b`.
        match self.path.split_once('/') {
            Some((first, _)) if !is_domain(first) => self.path.clone(),
            Some(_) | None => long(),
        }
    }

    fn with_name(&self, name: &str) -> String {
        let mut text = name.to_owned();
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest);
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.with_name(&self.familiar_name()))
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Empty);
        }
        if is_image_id(text) {
            return Err(ParseError::LooksLikeId);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let after_slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[after_slash..].find(':') {
            Some(at) => (
                &rest[..after_slash + at],
                Some(&rest[after_slash + at + 1..]),
            ),
            None => (rest, None),
        };
        let (domain, path) = split_name(name)?;
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        if let Some(digest) = digest {
            check_digest(digest)?;
        }
        Ok(Self {
            domain,
            path,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

/// Domain and path of a name, with the defaults filled in.
fn split_name(name: &str) -> Result<(String, String), ParseError> {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if is_domain(first) => (first, rest),
        Some(_) | None => (DOMAIN_DEFAULT, name),
    };
    let domain = if domain == DOMAIN_LEGACY {
        DOMAIN_DEFAULT
    } else {
        domain
    };
    check_domain(domain)?;
    check_path(path)?;
    let path = if domain == DOMAIN_DEFAULT && !path.contains('/') {
        format!("{NAMESPACE_DEFAULT}/{path}")
    } else {
        path.to_owned()
    };
    if domain.len() + 1 + path.len() > NAME_BYTES_MAX {
        return Err(ParseError::TooLong);
    }
    Ok((domain.to_owned(), path))
}

/// Whether the first component of a name is a registry, by Docker's rule.
fn is_domain(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_image_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(is_lower_hex)
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn check_domain(domain: &str) -> Result<(), ParseError> {
    let (host, port) = if domain.starts_with('[') {
        let (host, rest) = domain.split_once(']').ok_or(ParseError::BadDomain)?;
        let address = &host[1..];
        let is_address =
            !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        if !is_address {
            return Err(ParseError::BadDomain);
        }
        match rest.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None if rest.is_empty() => (None, None),
            None => return Err(ParseError::BadDomain),
        }
    } else {
        match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        }
    };
    let host_is_good = host.is_none_or(|host| host.split('.').all(is_domain_component));
    let port_is_good =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    if host_is_good && port_is_good {
        Ok(())
    } else {
        Err(ParseError::BadDomain)
    }
}

fn is_domain_component(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('-')
        && !part.ends_with('-')
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn check_path(path: &str) -> Result<(), ParseError> {
    if path.split('/').all(is_path_component) {
        return Ok(());
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ParseError::Uppercase);
    }
    Err(ParseError::BadPath)
}

/// Letters and digits in runs, separated by one `.`, one or two `_`, or any number of dashes.
fn is_path_component(part: &str) -> bool {
    let is_alphanumeric = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = part.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !is_alphanumeric(first) || !is_alphanumeric(last) {
        return false;
    }
    bytes.split(|&b| is_alphanumeric(b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
    })
}

fn check_tag(tag: &str) -> Result<(), ParseError> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let starts_well = tag.bytes().next().is_some_and(is_word);
    let goes_on_well = tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-');
    if starts_well && goes_on_well && tag.len() <= TAG_BYTES_MAX {
        Ok(())
    } else {
        Err(ParseError::BadTag)
    }
}

fn check_digest(digest: &str) -> Result<(), ParseError> {
    let (algorithm, hex) = digest.split_once(':').ok_or(ParseError::BadDigest)?;
    let digits = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _other => return Err(ParseError::BadDigest),
    };
    if hex.len() == digits && hex.bytes().all(is_lower_hex) {
        Ok(())
    } else {
        Err(ParseError::BadDigest)
    }
}

#[cfg(test)]
mod tests;
