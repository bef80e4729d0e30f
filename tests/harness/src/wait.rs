//! Waiting on conditions: what is true, or what it last looked like when time ran out.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time between two looks. Short, since tests and benchmarks measure with it.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Asks again until `look` answers with a value, or fails with its last excuse after `limit`.
///
/// # Errors
/// The last excuse, and how long was waited.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Result<T, String>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let excuse = match look() {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(excuse)) => excuse,
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > limit {
            bail!("waited {limit:?} for {what}; last: {excuse}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until `look` is true.
///
/// # Errors
/// When it is not within `limit`.
pub fn eventually(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<bool>,
) -> Result<()> {
    wait_for(what, limit, || {
        Ok(if look()? {
            Ok(())
        } else {
            Err("not yet".to_owned())
        })
    })
}
