//! Lengths of time as Go writes them: `1m30s`, `1.5h`, `250ms`.

use std::time::Duration;

/// A length of time. Only `0` may do without a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "it must be a length of time like 10s, 1m30s or 250ms".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if let Some(rest) = text.strip_prefix('-') {
        return Err(if duration(rest).is_ok() {
            "it cannot be negative".to_owned()
        } else {
            wrong()
        });
    }
    let mut rest = text;
    let mut nanos: f64 = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(wrong()),
        };
        rest = &rest[end..];
        nanos += number * unit;
    }
    // Go's limit: what fits 63 bits of nanoseconds, 292 years.
    if nanos > 9.2e18 {
        return Err("it is too long".to_owned());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range and without a sign"
    )]
    let nanos = nanos.round() as u64;
    Ok(Duration::from_nanos(nanos))
}
