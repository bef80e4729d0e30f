//! Join tokens: `SWMTKN-1-<digest of the root bundle>-<secret>`, byte for byte as Swarm writes them.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::bundle::digest;
use crate::{Error, RootBundle, base36};

const PREFIX: &str = "SWMTKN";
const VERSION: &str = "1";
/// Characters of the digest: 256 bits in base 36.
const DIGEST_LEN: usize = 50;
/// Characters of the secret: 128 bits in base 36.
const SECRET_LEN: usize = 25;
/// Length of a whole token in characters.
const TOKEN_LEN: usize = PREFIX.len() + 1 + VERSION.len() + 1 + DIGEST_LEN + 1 + SECRET_LEN;

/// Why a text is not a join token. No variant repeats the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing was given.
    #[error("not a valid join token: it is empty")]
    Empty,
    /// It is an unlock key.
    #[error(
        "not a valid join token: it is an unlock key, a join token begins with {PREFIX}-{VERSION}-"
    )]
    UnlockKey,
    /// It begins with something else.
    #[error("not a valid join token: it does not begin with {PREFIX}-{VERSION}-")]
    WrongPrefix,
    /// It is a token of a kind this release does not know.
    #[error("not a valid join token: version {0:?} is not supported, only version {VERSION} is")]
    UnsupportedVersion(String),
    /// A character that is no base-36 digit; `at` counts from 1.
    #[error("not a valid join token: character {at} is {found:?}, only 0-9 and a-z stand there")]
    BadCharacter {
        /// Position in the token, from 1.
        at: usize,
        /// What stands there.
        found: char,
    },
    /// Characters are missing at the end.
    #[error("not a valid join token: it is cut off, {found} of {TOKEN_LEN} characters are there")]
    Truncated {
        /// Length found, in characters.
        found: usize,
    },
    /// Characters follow its end.
    #[error("not a valid join token: it is too long, {found} instead of {TOKEN_LEN} characters")]
    TooLong {
        /// Length found, in characters.
        found: usize,
    },
    /// The parts do not have their lengths.
    #[error("not a valid join token: its {part} has {found} characters instead of {expected}")]
    PartLength {
        /// `digest` or `secret`.
        part: &'static str,
        /// Length found, in characters.
        found: usize,
        /// Length of that part in a token.
        expected: usize,
    },
    /// A number larger than any token holds.
    #[error("not a valid join token: its {part} is out of range")]
    OutOfRange {
        /// `digest` or `secret`.
        part: &'static str,
    },
}

/// What a new node has to know: which root to trust, and a secret that stands for a role.
///
/// Compared in constant time; the secret is wiped on drop and never shown by `Debug`.
#[derive(Clone)]
pub struct JoinToken {
    digest: [u8; 32],
    secret: Zeroizing<[u8; 16]>,
}

impl JoinToken {
    /// The token for this bundle and secret.
    #[must_use]
    pub fn new(bundle: &RootBundle, secret: [u8; 16]) -> Self {
        Self {
            digest: bundle.digest(),
            secret: Zeroizing::new(secret),
        }
    }

    /// A token with a fresh secret.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn generate(bundle: &RootBundle) -> Result<Self, Error> {
        let mut secret = Zeroizing::new([0; 16]);
        getrandom::fill(secret.as_mut()).map_err(Error::Random)?;
        Ok(Self::new(bundle, *secret))
    }

    /// The same secret for another root, as a root rotation asks for.
    #[must_use]
    pub fn with_bundle(&self, bundle: &RootBundle) -> Self {
        Self::new(bundle, *self.secret)
    }

    /// Whether these are the exact bytes of the bundle that the token was made for.
    #[must_use]
    pub fn matches_bundle(&self, pem: &[u8]) -> bool {
        self.digest.ct_eq(&digest(pem)).into()
    }

    /// The token's text. Whoever reads it can join the cluster.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let digest = base36::encode(&self.digest, DIGEST_LEN);
        let secret = Zeroizing::new(base36::encode(&*self.secret, SECRET_LEN));
        Zeroizing::new(format!("{PREFIX}-{VERSION}-{digest}-{}", *secret))
    }
}

impl PartialEq for JoinToken {
    fn eq(&self, other: &Self) -> bool {
        (self.digest.ct_eq(&other.digest) & self.secret.ct_eq(&*other.secret)).into()
    }
}

impl Eq for JoinToken {}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (digest, secret) = split(text)?;
        let digest = base36::decode(digest).ok_or(TokenError::OutOfRange { part: "digest" })?;
        let secret = base36::decode(secret).ok_or(TokenError::OutOfRange { part: "secret" })?;
        Ok(Self {
            digest,
            secret: Zeroizing::new(secret),
        })
    }
}

/// Takes the two numbers out of a token, or says precisely what is wrong with it.
fn split(text: &str) -> Result<(&str, &str), TokenError> {
    if text.is_empty() {
        return Err(TokenError::Empty);
    }
    if text.starts_with("SWMKEY-") {
        return Err(TokenError::UnlockKey);
    }
    let found = text.chars().count();
    let mut parts = text.splitn(3, '-');
    if parts.next() != Some(PREFIX) {
        let cut_inside_prefix = PREFIX.starts_with(text);
        return Err(if cut_inside_prefix {
            TokenError::Truncated { found }
        } else {
            TokenError::WrongPrefix
        });
    }
    let version = parts.next().unwrap_or_default();
    let Some(body) = parts.next() else {
        let cut_off = VERSION.starts_with(version);
        return Err(if cut_off {
            TokenError::Truncated { found }
        } else {
            unsupported(version)
        });
    };
    if version != VERSION {
        return Err(unsupported(version));
    }
    let body_at = TOKEN_LEN - DIGEST_LEN - 1 - SECRET_LEN;
    let bad = |c: char| !base36::is_digit(c) && c != '-';
    if let Some((index, c)) = body.chars().enumerate().find(|(_, c)| bad(*c)) {
        return Err(TokenError::BadCharacter {
            at: body_at + index + 1,
            found: c,
        });
    }
    let Some((digest, secret)) = body.split_once('-') else {
        let cut_off = body.len() <= DIGEST_LEN;
        return Err(if cut_off {
            TokenError::Truncated { found }
        } else {
            TokenError::PartLength {
                part: "digest",
                found: body.len(),
                expected: DIGEST_LEN,
            }
        });
    };
    if digest.len() != DIGEST_LEN {
        let found = digest.len();
        return Err(TokenError::PartLength {
            part: "digest",
            found,
            expected: DIGEST_LEN,
        });
    }
    if let Some(index) = secret.find('-') {
        let at = body_at + DIGEST_LEN + 1 + index + 1;
        return Err(TokenError::BadCharacter { at, found: '-' });
    }
    match secret.len() {
        SECRET_LEN => Ok((digest, secret)),
        ..SECRET_LEN => Err(TokenError::Truncated { found }),
        _ => Err(TokenError::TooLong { found }),
    }
}

/// Names the version, but not a whole text that somebody pasted behind the prefix.
fn unsupported(version: &str) -> TokenError {
    TokenError::UnsupportedVersion(version.chars().take(8).collect())
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = base36::encode(&self.digest, DIGEST_LEN);
        write!(f, "JoinToken({PREFIX}-{VERSION}-{digest}-…)")
    }
}

#[cfg(test)]
mod tests;
