//! Locking a key file: the private key by PBES2, the keys in its headers sealed, all by the unlock key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use pkcs8::pkcs5::pbes2;
use pkcs8::{EncryptedPrivateKeyInfo, PrivateKeyInfo};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{KeyFile, KeyFileError, NODE_KEY, RAFT_DEK, RAFT_DEK_PENDING};
use crate::UnlockKey;
use crate::key::{ENCRYPTED_KEY_TAG, PLAIN_KEY_TAG};

/// Headers that hold keys. The others only count, and say what is to be done after unlocking.
const SECRET_HEADERS: [&str; 3] = [RAFT_DEK, RAFT_DEK_PENDING, NODE_KEY];
/// Proves that the unlock key is the right one and the encrypted private key unchanged: PBES2 alone
/// proves neither.
const SEAL: &str = "kek-seal";
/// The unlock key is 256 random bits, so stretching it gains nothing (reference: control plane, D).
const PBKDF2_ROUNDS: u32 = 2048;
const NONCE_BYTES: usize = 24;

impl KeyFile {
    /// Whether the key is encrypted: nothing in the file can be used before [`KeyFile::unlock`].
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.tag == ENCRYPTED_KEY_TAG
    }

    /// The same file, readable only with the unlock key.
    ///
    /// # Errors
    /// When it is locked already, or the operating system gives no random numbers.
    pub fn lock(&self, key: &UnlockKey) -> Result<Self, KeyFileError> {
        if self.is_locked() {
            return Err(KeyFileError::Locked);
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(KeyFileError::Random)?;
        let (salt, iv) = random.split_at(16);
        let iv = iv.try_into().expect("half of 32 bytes");
        let parameters = pbes2::Parameters::pbkdf2_sha256_aes256cbc(PBKDF2_ROUNDS, salt, iv)
            .map_err(|e| KeyFileError::Encrypt(e.to_string()))?;
        let der = PrivateKeyInfo::try_from(self.der.as_slice())
            .and_then(|info| info.encrypt_with_params(parameters, key.reveal().as_bytes()))
            .map_err(|e| KeyFileError::Encrypt(e.to_string()))?;
        let mut locked = Self {
            tag: ENCRYPTED_KEY_TAG.to_owned(),
            der: Zeroizing::new(der.as_bytes().to_vec()),
            headers: self.headers.clone(),
        };
        let version = self.kek_version()?;
        let cipher = cipher(key);
        for name in SECRET_HEADERS {
            if let Some(value) = self.headers.get(name) {
                let sealed = seal(&cipher, &context(name, version, &[]), value.as_bytes())?;
                locked.headers.insert(name.to_owned(), sealed);
            }
        }
        let proof = seal(&cipher, &context(SEAL, version, &locked.der), &[])?;
        locked.headers.insert(SEAL.to_owned(), proof);
        Ok(locked)
    }

    /// The same file, readable.
    ///
    /// # Errors
    /// [`KeyFileError::WrongKey`], with the version of the right one.
    pub fn unlock(&self, key: &UnlockKey) -> Result<Self, KeyFileError> {
        if !self.is_locked() {
            return Err(KeyFileError::NotLocked);
        }
        let version = self.kek_version()?;
        let wrong = || KeyFileError::WrongKey { version };
        let cipher = cipher(key);
        let proof = self.header(SEAL).ok_or_else(wrong)?;
        open(&cipher, &context(SEAL, version, &self.der), proof).ok_or_else(wrong)?;
        let der = EncryptedPrivateKeyInfo::try_from(self.der.as_slice())
            .and_then(|info| info.decrypt(key.reveal().as_bytes()))
            .map_err(|_| wrong())?;
        let mut plain = Self {
            tag: PLAIN_KEY_TAG.to_owned(),
            der: Zeroizing::new(der.as_bytes().to_vec()),
            headers: self.headers.clone(),
        };
        plain.headers.remove(SEAL);
        for name in SECRET_HEADERS {
            if let Some(value) = self.headers.get(name) {
                let opened = open(&cipher, &context(name, version, &[]), value)
                    .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
                    .map(Zeroizing::new)
                    .ok_or_else(wrong)?;
                plain.headers.insert(name.to_owned(), opened);
            }
        }
        Ok(plain)
    }
}

/// The headers' cipher: a key of its own, so that one secret serves two purposes safely.
fn cipher(key: &UnlockKey) -> XChaCha20Poly1305 {
    let mut hash = Sha256::new();
    hash.update(b"swarm key file headers\0");
    hash.update(key.bytes());
    let derived = Zeroizing::new(<[u8; 32]>::from(hash.finalize()));
    XChaCha20Poly1305::new(derived.as_slice().into())
}

/// What a value is bound to: its place, the unlock key's version, and the key it goes with.
fn context(name: &str, version: u64, der: &[u8]) -> Vec<u8> {
    let mut context = format!("{name}\0{version}\0").into_bytes();
    context.extend_from_slice(der);
    context
}

fn seal(
    cipher: &XChaCha20Poly1305,
    aad: &[u8],
    plain: &[u8],
) -> Result<Zeroizing<String>, KeyFileError> {
    let mut sealed = vec![0; NONCE_BYTES];
    getrandom::fill(&mut sealed).map_err(KeyFileError::Random)?;
    let payload = Payload { msg: plain, aad };
    let text = cipher
        .encrypt(XNonce::from_slice(&sealed), payload)
        .map_err(|e| KeyFileError::Encrypt(e.to_string()))?;
    sealed.extend(text);
    Ok(Zeroizing::new(STANDARD.encode(sealed)))
}

fn open(cipher: &XChaCha20Poly1305, aad: &[u8], text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let sealed = STANDARD.decode(text).ok()?;
    let (nonce, msg) = sealed.split_at_checked(NONCE_BYTES)?;
    cipher
        .decrypt(XNonce::from_slice(nonce), Payload { msg, aad })
        .ok()
        .map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::super::KEK_VERSION;
    use super::*;
    use crate::{DataKey, PrivateKey};

    fn plain() -> KeyFile {
        let mut file = KeyFile::parse(&PrivateKey::generate().unwrap().to_pem()).unwrap();
        file.set_raft_dek(Some(&DataKey::new([1; 32])));
        file.set_raft_dek_pending(Some(&DataKey::new([2; 32])));
        file.set_node_key(Some(&Zeroizing::new(vec![3; 64])));
        file.set_kek_version(7);
        file.set_data_key_epoch(4);
        file
    }

    #[test]
    fn a_locked_file_shows_only_counters_and_opens_with_its_key() {
        let (file, key) = (plain(), UnlockKey::generate().unwrap());
        let locked = file.lock(&key).unwrap();
        let text = locked.to_text();
        let read = KeyFile::parse(&text).unwrap();
        assert!(read.is_locked() && !file.is_locked());
        assert_eq!(read.kek_version().unwrap(), 7);
        assert_eq!(read.data_key_epoch().unwrap(), 4);
        for secret in [RAFT_DEK, RAFT_DEK_PENDING, NODE_KEY] {
            let value = file.header(secret).unwrap();
            assert!(!text.contains(value), "{secret} is in clear");
        }
        assert!(text.contains("BEGIN ENCRYPTED PRIVATE KEY"));
        assert!(PrivateKey::from_pem(&read.key_pem()).is_err());
        assert_eq!(read.unlock(&key).unwrap(), file);
        assert_ne!(
            file.lock(&key).unwrap().to_text(),
            text,
            "a nonce came twice"
        );
        assert!(matches!(locked.lock(&key), Err(KeyFileError::Locked)));
        assert!(matches!(file.unlock(&key), Err(KeyFileError::NotLocked)));
    }

    #[test]
    fn another_key_or_a_changed_file_is_a_wrong_key() {
        let (file, key) = (plain(), UnlockKey::generate().unwrap());
        let locked = file.lock(&key).unwrap();
        let refused = |file: &KeyFile, key: &UnlockKey| {
            let error = file.unlock(key).unwrap_err();
            assert!(matches!(error, KeyFileError::WrongKey { .. }), "{error:?}");
        };
        refused(&locked, &UnlockKey::generate().unwrap());
        for header in [RAFT_DEK, RAFT_DEK_PENDING, NODE_KEY, SEAL] {
            let mut changed = locked.clone();
            let other = plain().lock(&key).unwrap();
            changed.headers.insert(
                header.to_owned(),
                Zeroizing::new(locked.header(KEK_VERSION).unwrap().to_owned()),
            );
            refused(&changed, &key);
            if header == SEAL {
                changed.headers = other.headers.clone();
                refused(&changed, &key);
            }
        }
        let mut older = locked.clone();
        older.set_kek_version(6);
        refused(&older, &key);
        let mut without = locked.clone();
        without.headers.remove(SEAL);
        refused(&without, &key);
    }

    #[test]
    fn openssl_reads_the_encrypted_key() {
        let (file, key) = (plain(), UnlockKey::generate().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, file.lock(&key).unwrap().key_pem().as_bytes()).unwrap();
        let password = format!("pass:{}", *key.reveal());
        let run = std::process::Command::new("openssl")
            .args(["pkey", "-noout", "-passin", &password, "-in"])
            .arg(&path)
            .output();
        match run {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(error) => println!("skipped: needs openssl: {error}"),
        }
    }
}
