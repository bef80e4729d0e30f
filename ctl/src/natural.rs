//! The order people expect of names with numbers: `web.2` before `web.10`.

use std::cmp::Ordering;

/// Compares runs of digits as numbers and everything else character by character.
pub(crate) fn order(mut a: &str, mut b: &str) -> Ordering {
    loop {
        let (digits_a, rest_a) = leading_digits(a);
        let (digits_b, rest_b) = leading_digits(b);
        if !digits_a.is_empty() && !digits_b.is_empty() {
            match number_order(digits_a, digits_b) {
                Ordering::Equal => (a, b) = (rest_a, rest_b),
                order => return order,
            }
            continue;
        }
        let (mut chars_a, mut chars_b) = (a.chars(), b.chars());
        match (chars_a.next(), chars_b.next()) {
            (None, None) => return Ordering::Equal,
            (left, right) if left != right => return left.cmp(&right),
            _ => (a, b) = (chars_a.as_str(), chars_b.as_str()),
        }
    }
}

fn leading_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Of equal numbers the one with fewer leading zeros comes first.
fn number_order(a: &str, b: &str) -> Ordering {
    let (short_a, short_b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    let by_value = short_a
        .len()
        .cmp(&short_b.len())
        .then_with(|| short_a.cmp(short_b));
    by_value.then(a.len().cmp(&b.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count() {
        let mut names = [
            "web.10", "web.2", "api", "web.1", "web", "web2x", "web10x", "web.02", "10", "9",
        ];
        names.sort_by(|a, b| order(a, b));
        assert_eq!(
            names,
            [
                "9", "10", "api", "web", "web.1", "web.2", "web.02", "web.10", "web2x", "web10x"
            ]
        );
    }
}
