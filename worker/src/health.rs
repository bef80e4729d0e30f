//! Whether a container works: asks it again and again, and judges by the answers in a row.

use std::time::Duration;

use container::Container;
use tokio::time::Instant;
use types::container_spec::Healthcheck;

/// Time between checks when nobody says otherwise (features P3.22).
const INTERVAL_DEFAULT: Duration = Duration::from_secs(30);

/// Time one check may take when nobody says otherwise (features P3.22).
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Time between checks in the start period when nobody says otherwise (features P3.23).
const START_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);

/// Failures in a row that count when nobody says otherwise (features P3.24).
const RETRIES_DEFAULT: u32 = 3;

/// A check with everything settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    args: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Probe {
    /// What the spec asks on top of the image; none when nothing is to be checked.
    pub(crate) fn new(asked: Option<&Healthcheck>, of_image: Option<&Healthcheck>) -> Option<Self> {
        let (none, empty) = (Healthcheck::default(), Duration::ZERO);
        let (asked, of_image) = (asked.unwrap_or(&none), of_image.unwrap_or(&none));
        let pick = |asked: Duration, of_image: Duration, default| match (asked, of_image) {
            (asked, _) if asked != empty => asked,
            (_, of_image) if of_image != empty => of_image,
            _ => default,
        };
        let test = if asked.test.is_empty() {
            &of_image.test
        } else {
            &asked.test
        };
        let args = match test.split_first().map(|(kind, rest)| (kind.as_str(), rest)) {
            Some(("CMD", args)) if !args.is_empty() => args.to_vec(),
            Some(("CMD-SHELL", [command])) => {
                vec!["/bin/sh".to_owned(), "-c".to_owned(), command.clone()]
            }
            // Also an image's mistake, which does not keep it from running, as with Docker.
            Some(_) | None => return None,
        };
        Some(Self {
            args,
            interval: pick(asked.interval, of_image.interval, INTERVAL_DEFAULT),
            timeout: pick(asked.timeout, of_image.timeout, TIMEOUT_DEFAULT),
            start_period: pick(asked.start_period, of_image.start_period, empty),
            start_interval: pick(
                asked.start_interval,
                of_image.start_interval,
                START_INTERVAL_DEFAULT,
            ),
            retries: match (asked.retries, of_image.retries) {
                (0, 0) => RETRIES_DEFAULT,
                (0, retries) | (retries, _) => retries,
            },
        })
    }

    /// Waits until the container is known to work. An error says why it does not.
    pub(crate) async fn until_healthy(&self, container: &Container) -> Result<(), String> {
        let mut record = Record::default();
        let started = Instant::now();
        loop {
            tokio::time::sleep(self.pause(&record, started.elapsed())).await;
            match record.take(self, started.elapsed(), self.ask(container).await) {
                Verdict::Healthy => return Ok(()),
                Verdict::Unhealthy(why) => return Err(why),
                Verdict::Unknown => {}
            }
        }
    }

    /// Waits until a container that worked does no longer, and tells why.
    pub(crate) async fn until_unhealthy(&self, container: &Container) -> String {
        let mut record = Record {
            was_healthy: true,
            ..Record::default()
        };
        let started = Instant::now();
        loop {
            tokio::time::sleep(self.interval).await;
            if let Verdict::Unhealthy(why) =
                record.take(self, started.elapsed(), self.ask(container).await)
            {
                return why;
            }
        }
    }

    /// Time until the next check.
    fn pause(&self, record: &Record, since_start: Duration) -> Duration {
        if !record.was_healthy && since_start < self.start_period {
            self.start_interval
        } else {
            self.interval
        }
    }

    async fn ask(&self, container: &Container) -> Answer {
        match container.exec(&self.args, self.timeout).await {
            Ok(ended) if ended.timed_out => {
                Answer::Failed(format!("no answer within {:?}", self.timeout))
            }
            Ok(ended) if ended.code == 0 => Answer::Good,
            Ok(ended) => {
                let output = ended.output.trim();
                Answer::Failed(format!("exit code {}: {output}", ended.code))
            }
            Err(error) => Answer::Failed(error.to_string()),
        }
    }
}

/// What a container said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Good,
    Failed(String),
}

/// What the answers so far mean.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Unknown,
    Healthy,
    Unhealthy(String),
}

/// Answers so far.
#[derive(Debug, Default)]
struct Record {
    was_healthy: bool,
    failures_in_row: u32,
}

impl Record {
    fn take(&mut self, probe: &Probe, since_start: Duration, answer: Answer) -> Verdict {
        match answer {
            Answer::Good => {
                self.was_healthy = true;
                self.failures_in_row = 0;
                Verdict::Healthy
            }
            // Before the first good answer the start period forgives (S22.01).
            Answer::Failed(_) if !self.was_healthy && since_start < probe.start_period => {
                Verdict::Unknown
            }
            Answer::Failed(why) => {
                self.failures_in_row += 1;
                if self.failures_in_row >= probe.retries {
                    Verdict::Unhealthy(why)
                } else {
                    Verdict::Unknown
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(test: &[&str]) -> Healthcheck {
        Healthcheck {
            test: test.iter().map(|word| String::from(*word)).collect(),
            ..Healthcheck::default()
        }
    }

    #[test]
    fn the_spec_goes_before_the_image_field_by_field() {
        let image = Healthcheck {
            interval: Duration::from_secs(7),
            retries: 9,
            ..check(&["CMD", "probe", "-x"])
        };
        let asked = Healthcheck {
            timeout: Duration::from_secs(2),
            ..Healthcheck::default()
        };
        let probe = Probe::new(Some(&asked), Some(&image)).unwrap();
        assert_eq!(probe.args, ["probe", "-x"]);
        assert_eq!(probe.interval, Duration::from_secs(7));
        assert_eq!(probe.timeout, Duration::from_secs(2));
        assert_eq!(
            (probe.start_interval, probe.retries),
            (START_INTERVAL_DEFAULT, 9)
        );
        let shell = Probe::new(Some(&check(&["CMD-SHELL", "a | b"])), Some(&image)).unwrap();
        assert_eq!(shell.args, ["/bin/sh", "-c", "a | b"]);
        assert_eq!(Probe::new(Some(&check(&["NONE"])), Some(&image)), None);
        assert_eq!(Probe::new(None, None), None);
    }

    #[test]
    fn failures_count_in_a_row_and_not_while_it_starts() {
        let probe = Probe {
            start_period: Duration::from_secs(10),
            retries: 2,
            ..Probe::new(Some(&check(&["CMD", "x"])), None).unwrap()
        };
        let bad = || Answer::Failed("bad".into());
        let at = Duration::from_secs;
        for (answers, verdict) in [
            (vec![(1, bad()), (2, bad()), (3, bad())], Verdict::Unknown),
            (vec![(11, bad())], Verdict::Unknown),
            (
                vec![(11, bad()), (12, bad())],
                Verdict::Unhealthy("bad".into()),
            ),
            (vec![(11, bad()), (12, Answer::Good)], Verdict::Healthy),
            (
                vec![(1, Answer::Good), (2, bad()), (3, bad())],
                Verdict::Unhealthy("bad".into()),
            ),
            (
                vec![(11, bad()), (12, Answer::Good), (13, bad())],
                Verdict::Unknown,
            ),
        ] {
            let mut record = Record::default();
            let mut last = Verdict::Unknown;
            for (seconds, answer) in answers.clone() {
                last = record.take(&probe, at(seconds), answer);
            }
            assert_eq!(last, verdict, "{answers:?}");
        }
    }
}
