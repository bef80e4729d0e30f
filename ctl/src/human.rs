//! Times and sizes in words, as Docker says them.

use std::time::Duration;

use types::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A length of time in its largest unit.
pub(crate) fn duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..MINUTE => format!("{secs} seconds"),
        MINUTE..120 => "About a minute".to_owned(),
        120..HOUR => format!("{} minutes", secs / MINUTE),
        HOUR..5400 => "About an hour".to_owned(),
        5400..172_800 => format!("{} hours", (secs + HOUR / 2) / HOUR),
        172_800..1_209_600 => format!("{} days", secs / DAY),
        1_209_600..5_184_000 => format!("{} weeks", secs / (7 * DAY)),
        5_184_000..63_072_000 => format!("{} months", secs / (30 * DAY)),
        _ => format!("{} years", secs / (365 * DAY)),
    }
}

/// How long ago `then` was; empty for a time that never was.
pub(crate) fn ago(now: Timestamp, then: Timestamp) -> String {
    if then.is_set() {
        format!("{} ago", duration(now.since(then)))
    } else {
        String::new()
    }
}

/// A length of time as Go writes it: `1m30s`, `1.5s`, `250ms`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let fraction = |nanos: u128, unit: u128| {
        let digits = unit.ilog10() as usize;
        let text = format!("{}.{:0digits$}", nanos / unit, nanos % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanos {
        0..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(nanos, 1_000_000)),
        _ => {
            let secs = duration.as_secs();
            let rest = nanos % (60 * 1_000_000_000);
            let seconds = format!("{}s", fraction(rest, 1_000_000_000));
            let (hours, minutes) = (secs / HOUR, secs % HOUR / MINUTE);
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, _) => format!("{minutes}m{seconds}"),
                _ => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// A size in decimal units with three digits: `1.23MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    scaled(bytes, 1000.0, &UNITS)
}

/// A size in binary units with four digits: `64MiB`.
pub(crate) fn memory(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    scaled(bytes, 1024.0, &UNITS)
}

fn scaled(bytes: u64, base: f64, units: &[&str]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let digits = if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (secs, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (150, "2 minutes"),
            (3700, "About an hour"),
            (7300, "2 hours"),
            (3 * DAY, "3 days"),
            (15 * DAY, "2 weeks"),
            (70 * DAY, "2 months"),
            (800 * DAY, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(secs)), expected);
        }
        assert_eq!(
            ago(Timestamp::from_secs(100), Timestamp::from_secs(95)),
            "5 seconds ago"
        );
        assert_eq!(ago(Timestamp::from_secs(100), Timestamp::default()), "");
    }

    #[test]
    fn go_durations() {
        for (nanos, expected) in [
            (0, "0s"),
            (5_000_000_000, "5s"),
            (1_500_000_000, "1.5s"),
            (250_000_000, "250ms"),
            (1_500, "1.5µs"),
            (7, "7ns"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), expected);
        }
    }

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1234, "1.23kB"),
            (12_345_678, "12.3MB"),
            (1_500_000_000, "1.5GB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        assert_eq!(memory(64 << 20), "64MiB");
        assert_eq!(memory(1536 << 20), "1.5GiB");
    }
}
