//! How scenario scripts write times, sizes and labels.

use std::time::Duration;

use anyhow::{Context as _, bail};

/// `300ms`, `5s`, `2m`.
///
/// # Errors
/// When it is none of these.
pub(super) fn duration(text: &str) -> anyhow::Result<Duration> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits
        .parse()
        .with_context(|| format!("{text:?} is no time"))?;
    Ok(match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        unit => bail!("{text:?} has the unknown unit {unit:?}"),
    })
}

/// `512M`, `2G`.
///
/// # Errors
/// When it is none of these.
pub(super) fn bytes(text: &str) -> anyhow::Result<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits
        .parse()
        .with_context(|| format!("{text:?} is no size"))?;
    Ok(match &text[digits.len()..] {
        "M" => number << 20,
        "G" => number << 30,
        unit => bail!("{text:?} has the unknown unit {unit:?}"),
    })
}

/// Processors, whole or with a decimal part, in billionths.
///
/// # Errors
/// When it is no such number.
pub(super) fn nano_cpus(text: &str) -> anyhow::Result<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = format!("{part:0<9}");
    let number = |text: &str| {
        text.parse::<u64>()
            .with_context(|| format!("{text:?} is no number"))
    };
    Ok(number(whole)? * 1_000_000_000 + number(&part)?)
}

/// `key=value`.
///
/// # Errors
/// When there is no `=`.
pub(super) fn pair(text: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = text
        .split_once('=')
        .with_context(|| format!("{text:?} has no '='"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Replaces every 25-character id in a text by its last digits, which is all that differs where
/// ids are counted.
#[must_use]
pub(super) fn shorten_ids(text: &str) -> String {
    let mut words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let mut short = String::new();
    for word in words.by_ref() {
        let core = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if core.parse::<types::TaskId>().is_ok() {
            short.push_str(core.trim_start_matches('0'));
            short.push_str(&word[core.len()..]);
        } else {
            short.push_str(word);
        }
    }
    short
}
