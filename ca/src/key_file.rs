//! The node's key file: one PEM block with headers that carry the keys of the encrypted log.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

use crate::key::{ENCRYPTED_KEY_TAG, PLAIN_KEY_TAG};

const RAFT_DEK: &str = "raft-dek";
const RAFT_DEK_PENDING: &str = "raft-dek-pending";
const KEK_VERSION: &str = "kek-version";

/// A key file that cannot be read, or a header that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Not a PEM block.
    #[error("it is not valid PEM: {0}")]
    Pem(String),
    /// A PEM block of something else.
    #[error("it holds a {0}, not a private key")]
    NotAKey(String),
    /// A data key that is damaged.
    #[error("its header {header} does not hold a 32-byte key")]
    DataKey {
        /// The header's name.
        header: &'static str,
    },
    /// A number that is damaged.
    #[error("its header {header} is not a number")]
    Number {
        /// The header's name.
        header: &'static str,
    },
    /// A header that PEM cannot carry.
    #[error(
        "a header named {name:?} cannot be written: names and values hold no colon and no line break"
    )]
    Header {
        /// The header's name.
        name: String,
    },
}

/// A data-encryption key (DEK): seals the records of the log and the snapshots. Wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// A key out of given bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A fresh key.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn generate() -> Result<Self, crate::Error> {
        let mut key = Self::new([0; 32]);
        getrandom::fill(key.0.as_mut()).map_err(crate::Error::Random)?;
        Ok(key)
    }

    /// The key's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(redacted)")
    }
}

/// A private key with headers, as it stands on disk.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFile {
    tag: String,
    der: Zeroizing<Vec<u8>>,
    headers: BTreeMap<String, Zeroizing<String>>,
}

impl KeyFile {
    /// Reads the file's text.
    ///
    /// # Errors
    /// When it is not one PEM block with a private key.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let block = pem::parse(text).map_err(|e| KeyFileError::Pem(e.to_string()))?;
        let tag = block.tag().to_owned();
        let headers = block
            .headers()
            .iter()
            .map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned())))
            .collect();
        let der = Zeroizing::new(block.into_contents());
        if tag != PLAIN_KEY_TAG && tag != ENCRYPTED_KEY_TAG {
            return Err(KeyFileError::NotAKey(tag));
        }
        Ok(Self { tag, der, headers })
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        encode(&self.tag, &self.der, &self.headers)
    }

    /// The key alone, without headers.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        encode(&self.tag, &self.der, &BTreeMap::new())
    }

    /// Puts another key in the place of this one; headers stay.
    ///
    /// # Errors
    /// When the text is not one PEM block with a private key.
    pub fn set_key_pem(&mut self, text: &str) -> Result<(), KeyFileError> {
        let other = Self::parse(text)?;
        (self.tag, self.der) = (other.tag.clone(), other.der.clone());
        Ok(())
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.as_str())
    }

    /// Writes a header, or removes it with `None`.
    ///
    /// # Errors
    /// When PEM cannot carry the name or the value.
    pub fn set_header(&mut self, name: &str, value: Option<&str>) -> Result<(), KeyFileError> {
        let fits = |text: &str| {
            !text.is_empty() && text.trim() == text && !text.contains([':', '\n', '\r'])
        };
        if !fits(name) || value.is_some_and(|value| !fits(value)) {
            return Err(KeyFileError::Header {
                name: name.to_owned(),
            });
        }
        match value {
            Some(value) => {
                self.headers
                    .insert(name.to_owned(), Zeroizing::new(value.to_owned()));
            }
            None => {
                self.headers.remove(name);
            }
        }
        Ok(())
    }

    /// The key that seals the log now.
    ///
    /// # Errors
    /// When the header is damaged.
    pub fn raft_dek(&self) -> Result<Option<DataKey>, KeyFileError> {
        self.data_key(RAFT_DEK)
    }

    /// Sets the key that seals the log now.
    pub fn set_raft_dek(&mut self, key: Option<&DataKey>) {
        self.set_data_key(RAFT_DEK, key);
    }

    /// The key the log is being rotated to.
    ///
    /// # Errors
    /// When the header is damaged.
    pub fn raft_dek_pending(&self) -> Result<Option<DataKey>, KeyFileError> {
        self.data_key(RAFT_DEK_PENDING)
    }

    /// Sets the key the log is being rotated to.
    pub fn set_raft_dek_pending(&mut self, key: Option<&DataKey>) {
        self.set_data_key(RAFT_DEK_PENDING, key);
    }

    /// Store index of the unlock key (KEK) that the file is encrypted with; 0 without one.
    ///
    /// # Errors
    /// When the header is damaged.
    pub fn kek_version(&self) -> Result<u64, KeyFileError> {
        self.header(KEK_VERSION).map_or(Ok(0), |text| {
            text.parse().map_err(|_| KeyFileError::Number {
                header: KEK_VERSION,
            })
        })
    }

    /// Sets the store index of the unlock key.
    pub fn set_kek_version(&mut self, version: u64) {
        self.headers
            .insert(KEK_VERSION.to_owned(), Zeroizing::new(version.to_string()));
    }

    fn data_key(&self, header: &'static str) -> Result<Option<DataKey>, KeyFileError> {
        let Some(text) = self.header(header) else {
            return Ok(None);
        };
        let damaged = KeyFileError::DataKey { header };
        let Ok(bytes) = STANDARD.decode(text).map(Zeroizing::new) else {
            return Err(damaged);
        };
        bytes
            .as_slice()
            .try_into()
            .map(|bytes| Some(DataKey::new(bytes)))
            .map_err(|_| damaged)
    }

    fn set_data_key(&mut self, header: &'static str, key: Option<&DataKey>) {
        match key {
            Some(key) => {
                let text = Zeroizing::new(STANDARD.encode(key.bytes()));
                self.headers.insert(header.to_owned(), text);
            }
            None => {
                self.headers.remove(header);
            }
        }
    }
}

fn encode(
    tag: &str,
    der: &[u8],
    headers: &BTreeMap<String, Zeroizing<String>>,
) -> Zeroizing<String> {
    let mut block = pem::Pem::new(tag, der);
    for (name, value) in headers {
        block
            .headers_mut()
            .add(name, value)
            .expect("a header is checked before it is kept");
    }
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let text = Zeroizing::new(pem::encode_config(&block, config));
    block.into_contents().zeroize();
    text
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().collect();
        f.debug_struct("KeyFile")
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
