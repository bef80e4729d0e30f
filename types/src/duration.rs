//! Durations in JSON as whole nanoseconds, the way Docker's API writes them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// Writes nanoseconds.
///
/// # Errors
/// Only what the serializer itself reports.
pub fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX))
}

/// Reads nanoseconds.
///
/// # Errors
/// When the value is not a non-negative integer.
pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    Ok(Duration::from_nanos(u64::deserialize(d)?))
}
