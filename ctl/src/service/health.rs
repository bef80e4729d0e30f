//! Flags of health checks.

use std::time::Duration;

use clap::Args;
use types::ContainerSpec;
use types::container_spec::Healthcheck;

use crate::error::Error;
use crate::parse::count;
use crate::parse::duration::duration;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Health")]
pub(crate) struct HealthFlags {
    /// Command that tells by its exit code whether the container works
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between checks (default: the image's, or 30s)
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    health_interval: Option<Duration>,
    /// Time one check may take (default: the image's, or 30s)
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    health_timeout: Option<Duration>,
    /// Failures in a row that make a container unhealthy (default: the image's, or 3)
    #[arg(long, value_name = "NUMBER", value_parser = count)]
    health_retries: Option<u64>,
    /// Time after the start in which failures do not count (default: the image's, or none)
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    health_start_period: Option<Duration>,
    /// Time between checks in that time until the first good one (default: the image's, or 5s)
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    health_start_interval: Option<Duration>,
    /// Do without the image's health check
    #[arg(long, conflicts_with_all = [
        "health_cmd", "health_interval", "health_timeout", "health_retries",
        "health_start_period", "health_start_interval",
    ])]
    no_healthcheck: bool,
}

impl HealthFlags {
    /// Sets what was given.
    pub(super) fn apply(self, container: &mut ContainerSpec) -> Result<(), Error> {
        if self.no_healthcheck {
            container.healthcheck = Some(Healthcheck {
                test: vec!["NONE".to_owned()],
                ..Healthcheck::default()
            });
            return Ok(());
        }
        let mut check = container.healthcheck.clone().unwrap_or_default();
        if let Some(command) = self.health_cmd {
            // An empty command goes back to the image's.
            check.test = match command.as_str() {
                "" => vec![],
                _ => vec!["CMD-SHELL".to_owned(), command],
            };
        } else if check.test == ["NONE"] && check != Healthcheck::default() {
            // Other flags say that checks are wanted after all.
            let wanted = self.health_interval.is_some()
                || self.health_timeout.is_some()
                || self.health_retries.is_some()
                || self.health_start_period.is_some()
                || self.health_start_interval.is_some();
            if wanted {
                check.test = vec![];
            }
        }
        for (field, given) in [
            (&mut check.interval, self.health_interval),
            (&mut check.timeout, self.health_timeout),
            (&mut check.start_period, self.health_start_period),
            (&mut check.start_interval, self.health_start_interval),
        ] {
            *field = given.unwrap_or(*field);
        }
        if let Some(retries) = self.health_retries {
            check.retries = u32::try_from(retries).map_err(|_| {
                let max = u32::MAX;
                Error::Usage(format!(
                    "invalid value {retries} for --health-retries: at most {max}"
                ))
            })?;
        }
        container.healthcheck = (check != Healthcheck::default()).then_some(check);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_change_what_they_name() {
        let mut container = ContainerSpec::default();
        HealthFlags::default().apply(&mut container).unwrap();
        assert_eq!(container.healthcheck, None);
        let flags = HealthFlags {
            health_cmd: Some("curl -f localhost".into()),
            health_retries: Some(2),
            ..HealthFlags::default()
        };
        flags.apply(&mut container).unwrap();
        let check = container.healthcheck.clone().unwrap();
        assert_eq!(check.test, ["CMD-SHELL", "curl -f localhost"]);
        assert_eq!(check.retries, 2);
        let none = HealthFlags {
            no_healthcheck: true,
            ..HealthFlags::default()
        };
        none.apply(&mut container).unwrap();
        assert_eq!(container.healthcheck.clone().unwrap().test, ["NONE"]);
        let again = HealthFlags {
            health_interval: Some(Duration::from_secs(1)),
            ..HealthFlags::default()
        };
        again.apply(&mut container).unwrap();
        assert_eq!(container.healthcheck.unwrap().test, Vec::<String>::new());
    }
}
