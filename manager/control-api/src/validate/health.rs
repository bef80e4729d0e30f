//! Health checks.

use std::time::Duration;

use types::container_spec::Healthcheck;

use super::{Checked, Invalid, text};

/// Shortest duration that means anything; zero means the default (features P3.22).
const DURATION_MIN: Duration = Duration::from_millis(1);

/// How to tell whether a container works.
///
/// # Errors
/// The first field that is wrong.
pub fn healthcheck(check: &Healthcheck) -> Checked {
    let field = |name: &str| format!("ContainerSpec.Healthcheck.{name}");
    let durations = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    for (name, duration) in durations {
        if !duration.is_zero() && duration < DURATION_MIN {
            let problem = format!("{duration:?} is too short: it must be 0 or at least 1ms");
            return Err(Invalid::new(field(name), problem));
        }
    }
    for (index, word) in check.test.iter().enumerate() {
        text::no_nul(field(&format!("Test[{index}]")), word)?;
    }
    let problem = match check.test.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["NONE"] | ["CMD-SHELL", _] => return Ok(()),
        ["CMD", program, ..] if !program.is_empty() => return Ok(()),
        ["CMD", ..] => "CMD needs a program behind it".to_owned(),
        ["CMD-SHELL", ..] => "CMD-SHELL takes one command".to_owned(),
        ["NONE", ..] => "NONE takes nothing behind it".to_owned(),
        [other, ..] => format!("{other:?} is not a kind of test: NONE, CMD or CMD-SHELL"),
    };
    Err(Invalid::new(field("Test"), problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_durations() {
        let check = |test: &[&str], interval_us| Healthcheck {
            test: test.iter().map(|word| String::from(*word)).collect(),
            interval: Duration::from_micros(interval_us),
            ..Healthcheck::default()
        };
        for test in [&[][..], &["NONE"], &["CMD", "true"], &["CMD-SHELL", "a b"]] {
            assert_eq!(healthcheck(&check(test, 1000)), Ok(()), "{test:?}");
        }
        for test in [
            &["CMD"][..],
            &["CMD", ""],
            &["CMD-SHELL"],
            &["CMD-SHELL", "a", "b"],
            &["NONE", "a"],
            &["curl"],
            &["CMD", "a\0b"],
        ] {
            assert!(healthcheck(&check(test, 0)).is_err(), "{test:?}");
        }
        let error = healthcheck(&check(&[], 999)).unwrap_err().to_string();
        assert!(
            error.starts_with("ContainerSpec.Healthcheck.Interval: 999µs"),
            "{error}"
        );
    }
}
