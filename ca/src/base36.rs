//! Fixed-width base 36, lower case, left-padded with `0`, as join tokens write their numbers.

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Writes `bytes`, a big-endian number, as exactly `width` characters.
///
/// The caller picks a width that holds every number of that many bytes.
pub(crate) fn encode(bytes: &[u8], width: usize) -> String {
    let mut number = bytes.to_vec();
    let mut text = vec![b'0'; width];
    for place in text.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in &mut number {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = (value / 36).to_le_bytes()[0];
            remainder = value % 36;
        }
        *place = DIGITS[remainder as usize];
    }
    // Every byte has been divided down to zero, so nothing secret is left in `number`.
    assert!(
        number.iter().all(|b| *b == 0),
        "{width} characters are too few"
    );
    String::from_utf8(text).expect("digits are ASCII")
}

/// Reads digits into a big-endian number; `None` when the number needs more than `N` bytes.
///
/// The caller has checked that every character is a digit.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut number = [0_u8; N];
    for c in text.bytes() {
        let mut carry = u32::try_from(DIGITS.iter().position(|d| *d == c)?).ok()?;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 36 + carry;
            *byte = value.to_le_bytes()[0];
            carry = value >> 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

/// Whether `c` is one of the 36 digits.
pub(crate) fn is_digit(c: char) -> bool {
    matches!(c, '0'..='9' | 'a'..='z')
}
