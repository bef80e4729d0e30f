//! Points in time: RFC 3339, seconds since the epoch, or how long ago.

use types::Timestamp;

use super::duration::duration;

/// A point in time. Seconds may have decimals; a date may leave out the time or the zone, which is
/// UTC then.
pub(crate) fn point(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    for zoned in [
        format!("{text}Z"),
        format!("{text}T00:00:00Z"),
        format!("{text}:00Z"),
    ] {
        if let Ok(at) = zoned.parse::<Timestamp>() {
            return Ok(at);
        }
    }
    if let Some(at) = seconds(text) {
        return Ok(at);
    }
    match duration(text) {
        Ok(ago) => {
            let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
            Ok(Timestamp(now.0.saturating_sub(ago)))
        }
        Err(_) => Err(
            "it must be a time like 2026-01-02T13:23:37Z, seconds since 1970, or how \
                       long ago like 42m"
                .to_owned(),
        ),
    }
}

fn seconds(text: &str) -> Option<Timestamp> {
    let (secs, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    if !digits(fraction) || !digits(secs) || fraction.len() > 9 {
        return None;
    }
    let nanos: u64 = format!("{fraction:0<9}").parse().ok()?;
    Some(Timestamp(
        secs.parse::<u64>()
            .ok()?
            .checked_mul(1_000_000_000)?
            .checked_add(nanos)?,
    ))
}
