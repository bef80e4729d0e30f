//! `swarmctl node update`

use clap::Args;
use types::NodeSpec;

use super::change::change;
use crate::connect::Host;
use crate::error::Error;
use crate::output;
use crate::parse::key_value;
use crate::swarm::{AvailabilityFlag, RoleFlag};

/// Change a node's availability, role or labels
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl node update --availability drain n2      Move its tasks away
  swarmctl node update --label-add zone=a --label-add ssd n2
  swarmctl node update --role manager n2")]
pub(crate) struct Update {
    /// Id, host name or beginning of an id
    node: String,
    /// Whether it takes tasks
    #[arg(long, value_enum, ignore_case = true)]
    availability: Option<AvailabilityFlag>,
    /// Manager or worker
    #[arg(long, value_enum, ignore_case = true)]
    role: Option<RoleFlag>,
    /// Add or change a label
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    label_add: Vec<(String, String)>,
    /// Remove a label
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
}

impl Update {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        if self.availability.is_none()
            && self.role.is_none()
            && self.label_add.is_empty()
            && self.label_rm.is_empty()
        {
            return Err(Error::Usage(
                "nothing to change: see 'swarmctl node update --help'".to_owned(),
            ));
        }
        let connection = host.connect().await?;
        change(&connection, &self.node, |spec| self.apply(spec)).await?;
        Ok(output::line(&self.node)?)
    }

    fn apply(&self, spec: &mut NodeSpec) -> Result<(), Error> {
        if let Some(availability) = self.availability {
            spec.availability = availability.into();
        }
        if let Some(role) = self.role {
            spec.role = role.into();
        }
        for key in &self.label_rm {
            if spec.labels.remove(key).is_none() {
                return Err(Error::Failed(format!(
                    "key {key:?} doesn't exist in node's labels"
                )));
            }
        }
        spec.labels.extend(self.label_add.iter().cloned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use types::node::Availability;
    use types::{Labels, NodeRole};

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        update: Update,
    }

    fn apply(flags: &[&str]) -> Result<NodeSpec, String> {
        let line = Line::try_parse_from(["update"].iter().chain(flags).chain(&["n1"]))
            .map_err(|error| error.to_string())?;
        let mut spec = NodeSpec {
            labels: Labels::from([("zone".to_owned(), "a".to_owned())]),
            ..NodeSpec::default()
        };
        line.update
            .apply(&mut spec)
            .map(|()| spec)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn flags_change_the_spec() {
        let spec = apply(&["--availability", "DRAIN", "--role", "manager"]).unwrap();
        assert_eq!(
            (spec.availability, spec.role),
            (Availability::Drain, NodeRole::Manager)
        );
        let spec = apply(&[
            "--label-rm",
            "zone",
            "--label-add",
            "zone=b",
            "--label-add",
            "ssd",
        ]);
        let labels = spec.unwrap().labels;
        assert_eq!((labels["zone"].as_str(), labels["ssd"].as_str()), ("b", ""));
        assert_eq!(
            apply(&["--label-rm", "nope"]).unwrap_err(),
            "key \"nope\" doesn't exist in node's labels"
        );
        assert!(
            apply(&["--availability", "gone"])
                .unwrap_err()
                .contains("possible values")
        );
    }
}
