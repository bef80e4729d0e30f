//! `swarmctl service scale`

use clap::Args;
use types::ServiceSpec;
use types::service::ServiceMode;

use super::wait::{WaitFlags, Waiting};
use super::write::{Write, write};
use crate::connect::Host;
use crate::error::Error;
use crate::output;
use crate::parse::count;

/// Change how many tasks services have
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl service scale web=10
  swarmctl service scale --detach web=10 api=3")]
pub(crate) struct Scale {
    /// Services and their numbers of tasks
    #[arg(required = true, value_name = "SERVICE=REPLICAS", value_parser = target)]
    targets: Vec<(String, u64)>,
    #[command(flatten)]
    wait: WaitFlags,
}

fn target(text: &str) -> Result<(String, u64), String> {
    match text.split_once('=') {
        Some((service, replicas)) if !service.is_empty() => {
            Ok((service.to_owned(), count(replicas)?))
        }
        Some(_) | None => Err("it must be SERVICE=REPLICAS".to_owned()),
    }
}

impl Scale {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        let mut errors = vec![];
        let mut scaled = vec![];
        for (key, replicas) in self.targets {
            let change = |spec: &mut ServiceSpec| set_replicas(spec, replicas);
            match write(&connection, &key, &Write::Change(&change)).await {
                Ok(service) => {
                    output::line(format!("{key} scaled to {replicas}"))?;
                    scaled.push(service);
                }
                Err(error) => errors.push(error),
            }
        }
        for service in scaled {
            if let Err(error) = self.wait.wait(&connection, &service, Waiting::Update).await {
                errors.push(error);
            }
        }
        Error::join(errors)
    }
}

fn set_replicas(spec: &mut ServiceSpec, wanted: u64) -> Result<(), Error> {
    match &mut spec.mode {
        ServiceMode::Replicated { replicas } => {
            *replicas = wanted;
            Ok(())
        }
        ServiceMode::Global {} => Err(Error::Failed(format!(
            "{}: scale can only be used with replicated mode",
            spec.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_services_and_numbers() {
        assert_eq!(target("web=3"), Ok(("web".into(), 3)));
        for text in ["web", "=3", "web=", "web=-1", "web=x"] {
            assert!(target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_replicated_services_scale() {
        let mut spec = ServiceSpec::default();
        set_replicas(&mut spec, 7).unwrap();
        assert_eq!(spec.mode, ServiceMode::Replicated { replicas: 7 });
        spec.mode = ServiceMode::Global {};
        assert!(set_replicas(&mut spec, 7).is_err());
    }
}
