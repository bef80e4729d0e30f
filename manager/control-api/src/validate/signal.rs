//! Names and numbers of signals.

use super::{Checked, Invalid};

/// Highest signal number of Linux (SIGRTMAX).
const NUMBER_MAX: u32 = 64;

/// Signals of Linux by name, without `SIG`.
const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// A stop signal: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`. Empty leaves it to the image.
///
/// # Errors
/// When no such signal exists.
pub fn stop_signal(field: &str, signal: &str) -> Checked {
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
    let offset = |prefix, sign| {
        let offset = name.strip_prefix(prefix)?.strip_prefix(sign)?;
        number(offset).filter(|offset| *offset <= 30)
    };
    let known = signal.is_empty()
        || number(signal).is_some_and(|n| (1..=NUMBER_MAX).contains(&n))
        || NAMES.contains(&name)
        || offset("RTMIN", '+').is_some()
        || offset("RTMAX", '-').is_some();
    if known {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!(
            "{signal:?} is not a signal: use a name like SIGTERM or a number 1 to {NUMBER_MAX}"
        ),
    ))
}
