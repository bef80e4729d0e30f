//! Netlink attributes: writing them nested, reading them back.

/// Attribute types carry this bit when they hold attributes.
const NESTED: u16 = 0x8000;

/// Writes attributes at the end of a message.
pub(crate) struct Attributes<'a>(pub(crate) &'a mut Vec<u8>);

impl Attributes<'_> {
    /// An attribute of raw bytes, padded to four.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).expect("attributes are chunked to 64 KiB");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Attributes written before, as they are.
    pub(crate) fn nested_bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.bytes(kind | NESTED, value)
    }

    /// A string with its terminating zero.
    pub(crate) fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        let length = u16::try_from(value.len() + 5).expect("names are short");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A number, big-endian as netfilter has it.
    pub(crate) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Attributes within an attribute.
    pub(crate) fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        write(&mut Attributes(self.0));
        let length = u16::try_from(self.0.len() - start).expect("attributes are chunked to 64 KiB");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

/// Reads attributes one after the other; what is cut short ends the reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Reader<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk::<2>()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk::<2>()?);
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    }
}

impl<'a> Reader<'a> {
    /// The first attribute of this kind.
    pub(crate) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        Iterator::find(&mut self, |(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// A number of this kind.
    pub(crate) fn number(self, kind: u16) -> Option<u32> {
        self.find(kind)?
            .first_chunk::<4>()
            .map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// A string of this kind, without its zero.
    pub(crate) fn string(self, kind: u16) -> Option<&'a str> {
        let bytes = self.find(kind)?;
        let end = bytes.iter().position(|byte| *byte == 0);
        std::str::from_utf8(&bytes[..end.unwrap_or(bytes.len())]).ok()
    }

    /// The attributes within the attribute of this kind.
    pub(crate) fn nested(self, kind: u16) -> Option<Reader<'a>> {
        self.find(kind).map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        Attributes(&mut bytes)
            .string(1, "web")
            .number(2, 0xdead_beef)
            .nest(3, |inner| {
                inner.bytes(1, &[1, 2, 3, 4, 5]);
            });
        let reader = Reader(&bytes);
        assert_eq!(reader.string(1), Some("web"));
        assert_eq!(reader.number(2), Some(0xdead_beef));
        let inner = reader.nested(3).expect("nested");
        assert_eq!(inner.find(1), Some(&[1, 2, 3, 4, 5][..]));
        assert_eq!(reader.find(4), None);
    }

    #[test]
    fn cut_bytes_end_the_reading() {
        let mut bytes = Vec::new();
        Attributes(&mut bytes)
            .string(1, "web")
            .string(2, "database");
        for end in 0..bytes.len() {
            assert!(Reader(&bytes[..end]).count() <= 1 || end >= bytes.len() - 3);
        }
        assert_eq!(Reader(&[0, 0, 1, 0]).count(), 0);
    }
}
