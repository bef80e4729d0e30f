//! The unlock key (SwarmKit's KEK): what an operator types to open a locked manager's key file.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::{Zeroize as _, Zeroizing};

use crate::Error;

/// What every unlock key begins with; the number is the format's.
const PREFIX: &str = "SWMKEY-1-";
/// Length of the key itself.
const KEY_BYTES: usize = 32;

/// 32 random bytes, written `SWMKEY-1-` and base64 without padding (S10.13). Wiped on drop, never
/// shown by `Debug`.
#[derive(Clone)]
pub struct UnlockKey(Zeroizing<[u8; KEY_BYTES]>);

/// The text is not an unlock key. It is not repeated: it may be a real one with a slip in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not an unlock key: one is SWMKEY-1- and 43 more characters")]
pub struct UnlockKeyError;

impl UnlockKey {
    /// A fresh key.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let mut key = Self(Zeroizing::new([0; KEY_BYTES]));
        getrandom::fill(key.0.as_mut()).map_err(Error::Random)?;
        Ok(key)
    }

    /// The key as an operator keeps it.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut digits = STANDARD_NO_PAD.encode(self.0.as_slice());
        let text = Zeroizing::new(format!("{PREFIX}{digits}"));
        digits.zeroize();
        text
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl FromStr for UnlockKey {
    type Err = UnlockKeyError;

    fn from_str(text: &str) -> Result<Self, UnlockKeyError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(UnlockKeyError)?;
        let bytes = STANDARD_NO_PAD.decode(digits).map_err(|_| UnlockKeyError)?;
        let bytes = Zeroizing::new(bytes);
        let key = bytes.as_slice().try_into().map_err(|_| UnlockKeyError)?;
        Ok(Self(Zeroizing::new(key)))
    }
}

impl PartialEq for UnlockKey {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for UnlockKey {}

impl fmt::Debug for UnlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnlockKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_shown() {
        let key = UnlockKey::generate().unwrap();
        let text = key.reveal();
        assert_eq!(text.len(), 52);
        assert_eq!(text.parse::<UnlockKey>().unwrap(), key);
        assert_eq!(format!(" {}\n", *text).parse::<UnlockKey>().unwrap(), key);
        assert_ne!(UnlockKey::generate().unwrap(), key);
        assert_eq!(format!("{key:?}"), "UnlockKey(redacted)");
    }

    #[test]
    fn anything_else_is_refused_without_being_repeated() {
        let key = UnlockKey::generate().unwrap().reveal();
        for text in [
            "",
            "SWMKEY-1-",
            &key[..51],
            &format!("{}A", *key),
            &key.replace("KEY-1", "KEY-2"),
            &key.replace("SWMKEY", "SWMTKN"),
            &format!("{}=", *key),
        ] {
            let error = text.parse::<UnlockKey>().unwrap_err().to_string();
            assert!(
                text.is_empty() || !error.contains(text) || text.len() < 10,
                "{error}"
            );
        }
    }
}
