//! The node's key file: one PEM block with headers that carry the keys of the encrypted log.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

use crate::key::{ENCRYPTED_KEY_TAG, PLAIN_KEY_TAG};

const RAFT_DEK: &str = "raft-dek";
const RAFT_DEK_PENDING: &str = "raft-dek-pending";
const NODE_KEY: &str = "node-key";
const KEK_VERSION: &str = "kek-version";
const DATA_KEY_EPOCH: &str = "raft-dek-epoch";
const DATA_KEY_MADE: &str = "raft-dek-made";
const RENEW: &str = "renew-key";
const SWARM_LOCKED: &str = "swarm-locked";

mod lock;

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
    /// The file is locked, and nobody has given the unlock key.
    #[error("it is locked")]
    Locked,
    /// The file is not locked.
    #[error("it is not locked")]
    NotLocked,
    /// The unlock key is another one, or the file was changed.
    #[error(
        "invalid key: this is not version {version} of the unlock key, which this manager was locked \
         with (a key that was rotated while the manager was off is not known to it: use the former one)"
    )]
    WrongKey {
        /// Which one is needed.
        version: u64,
    },
    /// The key cannot be encrypted.
    #[error("it cannot be encrypted: {0}")]
    Encrypt(String),
    /// The operating system gave no random numbers.
    #[error("no random numbers from the operating system")]
    Random(#[source] getrandom::Error),
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

    /// Version of the unlock key (KEK) the file has followed: the one it is locked with, or the one
    /// whose end it has seen; 0 before the first.
    ///
    /// # Errors
    /// When the header is damaged.
    pub fn kek_version(&self) -> Result<u64, KeyFileError> {
        self.number(KEK_VERSION)
    }

    /// Sets the version of the unlock key.
    pub fn set_kek_version(&mut self, version: u64) {
        self.put(KEK_VERSION, Some(Zeroizing::new(version.to_string())));
    }

    /// The key of what the node's agent and executor keep on disk, as bytes.
    ///
    /// # Errors
    /// When the header is damaged.
    pub fn node_key(&self) -> Result<Option<Zeroizing<Vec<u8>>>, KeyFileError> {
        let decode = |text: &str| {
            let bytes = STANDARD.decode(text).map(Zeroizing::new);
            bytes.map_err(|_| KeyFileError::DataKey { header: NODE_KEY })
        };
        self.header(NODE_KEY).map(decode).transpose()
    }

    /// Sets the key of what the node's agent and executor keep on disk.
    pub fn set_node_key(&mut self, key: Option<&Zeroizing<Vec<u8>>>) {
        let text = key.map(|key| Zeroizing::new(STANDARD.encode(key.as_slice())));
        self.put(NODE_KEY, text);
    }

    /// Which order to replace data keys was last carried out; 0 for none.
    ///
    /// # Errors
    /// When the header is damaged.
    pub fn data_key_epoch(&self) -> Result<u64, KeyFileError> {
        self.number(DATA_KEY_EPOCH)
    }

    /// Notes that an order to replace data keys was carried out.
    pub fn set_data_key_epoch(&mut self, epoch: u64) {
        self.put(DATA_KEY_EPOCH, Some(Zeroizing::new(epoch.to_string())));
    }

    /// When the key that seals the log was made, in seconds since the epoch; 0 when not known.
    ///
    /// # Errors
    /// When the header is damaged.
    pub fn data_key_made(&self) -> Result<u64, KeyFileError> {
        self.number(DATA_KEY_MADE)
    }

    /// Notes when the key that seals the log was made.
    pub fn set_data_key_made(&mut self, seconds: u64) {
        self.put(DATA_KEY_MADE, Some(Zeroizing::new(seconds.to_string())));
    }

    /// Whether the private key lay on disk in clear, or under a former unlock key, and is to be
    /// replaced soon. A new private key ends it.
    #[must_use]
    pub fn wants_renewal(&self) -> bool {
        self.header(RENEW).is_some()
    }

    /// Asks for another private key.
    pub fn set_wants_renewal(&mut self, wanted: bool) {
        self.put(RENEW, wanted.then(|| Zeroizing::new("yes".to_owned())));
    }

    /// Whether the swarm's managers are locked, as far as this node was told: then no key of what
    /// it keeps of tasks may be on its disk.
    #[must_use]
    pub fn is_swarm_locked(&self) -> bool {
        self.header(SWARM_LOCKED).is_some()
    }

    /// Notes whether the swarm's managers are locked.
    pub fn set_swarm_locked(&mut self, is_locked: bool) {
        let value = is_locked.then(|| Zeroizing::new("yes".to_owned()));
        self.put(SWARM_LOCKED, value);
    }

    /// Forgets all that concerns a manager's log, as a manager that becomes a worker has to.
    pub fn forget_log(&mut self) {
        for header in [RAFT_DEK, RAFT_DEK_PENDING, DATA_KEY_EPOCH, DATA_KEY_MADE] {
            self.headers.remove(header);
        }
    }

    fn put(&mut self, header: &'static str, value: Option<Zeroizing<String>>) {
        match value {
            Some(value) => {
                self.headers.insert(header.to_owned(), value);
            }
            None => {
                self.headers.remove(header);
            }
        }
    }

    fn number(&self, header: &'static str) -> Result<u64, KeyFileError> {
        self.header(header).map_or(Ok(0), |text| {
            text.parse().map_err(|_| KeyFileError::Number { header })
        })
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
        let text = key.map(|key| Zeroizing::new(STANDARD.encode(key.bytes())));
        self.put(header, text);
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
