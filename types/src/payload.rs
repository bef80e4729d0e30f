//! Bytes nobody may see by accident: the content of secrets and configs, and keys.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// Content that prints as its length only and is wiped when its last holder lets go.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload(Arc<Zeroizing<Vec<u8>>>);

impl Payload {
    /// Takes the bytes over; the caller keeps no copy.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// The bytes themselves.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Payload;

    #[test]
    fn the_content_is_never_printed() {
        let payload = Payload::new(b"hunter2".to_vec());
        assert_eq!(format!("{payload:?}"), "<7 bytes>");
    }
}
