//! `swarmctl service inspect`

use clap::Args;
use proto::control::GetServiceRequest;
use serde_json::{Map, Value, json};
use types::{Service, Timestamp};

use super::pretty::pretty;
use crate::connect::Host;
use crate::error::Error;
use crate::format::{Format, json, print_objects};
use crate::output;

/// Show everything about services
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl service inspect web
  swarmctl service inspect --pretty web
  swarmctl service inspect --format '{{json .Spec.TaskTemplate.ContainerSpec.Env}}' web")]
pub(crate) struct Inspect {
    /// Ids, names or beginnings of ids
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    /// json, or a template like {{.Spec.Name}}
    #[arg(short, long)]
    format: Option<Format>,
    /// Show it for people instead of programs
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
}

impl Inspect {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let mut control = host.connect().await?.control();
        let mut objects = vec![];
        let mut texts = vec![];
        let mut errors = vec![];
        for key in self.services {
            match control.get_service(GetServiceRequest { key }).await {
                Ok(answer) => {
                    let view = answer.into_inner().service.unwrap_or_default();
                    let service = Service::try_from(view.service.unwrap_or_default())?;
                    texts.push(pretty(&service, Timestamp::now()));
                    objects.push(object(&service));
                }
                Err(status) => errors.push(status.into()),
            }
        }
        if self.pretty {
            output::write(&texts.join("\n"))?;
        } else {
            print_objects(&objects, self.format.as_ref())?;
        }
        Error::join(errors)
    }
}

/// The service in the shape of Docker's API.
fn object(service: &Service) -> Value {
    let mut value = json(service);
    for spec in ["Spec", "PreviousSpec"] {
        if value[spec].is_object() {
            reshape_spec(&mut value[spec]);
        }
    }
    value
}

/// Puts what Docker nests into its objects.
fn reshape_spec(spec: &mut Value) {
    let task = &mut spec["TaskTemplate"];
    if let Value::Array(preferences) = &mut task["Placement"]["Preferences"] {
        for preference in preferences {
            *preference = json!({ "Spread": { "SpreadDescriptor": preference.take() } });
        }
    }
    if let Value::Array(mounts) = &mut task["ContainerSpec"]["Mounts"] {
        for mount in mounts {
            if let Value::Object(mount) = mount {
                reshape_mount(mount);
            }
        }
    }
}

fn reshape_mount(mount: &mut Map<String, Value>) {
    let size = mount.shift_remove("TmpfsSizeBytes").unwrap_or_default();
    let mode = mount.shift_remove("TmpfsMode").unwrap_or_default();
    if mount.get("Type").and_then(Value::as_str) == Some("tmpfs") {
        mount.insert(
            "TmpfsOptions".to_owned(),
            json!({ "SizeBytes": size, "Mode": mode }),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use types::container_spec::{Mount, MountKind};
    use types::{Meta, ServiceId, ServiceSpec, Version};

    use super::*;

    #[test]
    fn the_shape_is_dockers() {
        let mut spec = ServiceSpec {
            name: "web".into(),
            ..ServiceSpec::default()
        };
        let task = Arc::make_mut(&mut spec.task);
        task.placement.preferences = vec!["node.labels.zone".into()];
        task.container.mounts = vec![Mount {
            kind: MountKind::Tmpfs,
            target: "/t".into(),
            tmpfs_size_bytes: 5,
            ..Mount::default()
        }];
        let value = object(&Service {
            id: ServiceId::from_number(1),
            meta: Meta::default(),
            previous_spec: Some(spec.clone()),
            spec,
            spec_version: Version::default(),
            update_status: None,
            endpoint: types::network::Endpoint::default(),
        });
        let keys: Vec<_> = value.as_object().unwrap().keys().take(5).collect();
        assert_eq!(keys, ["ID", "Version", "CreatedAt", "UpdatedAt", "Spec"]);
        for spec in [&value["Spec"], &value["PreviousSpec"]] {
            assert_eq!(spec["Name"], "web");
            assert_eq!(spec["Mode"]["Replicated"]["Replicas"], 1);
            let task = &spec["TaskTemplate"];
            let preference = &task["Placement"]["Preferences"][0];
            assert_eq!(preference["Spread"]["SpreadDescriptor"], "node.labels.zone");
            let mount = &task["ContainerSpec"]["Mounts"][0];
            assert_eq!(mount["TmpfsOptions"], json!({ "SizeBytes": 5, "Mode": 0 }));
            assert!(mount.get("TmpfsMode").is_none());
        }
    }
}
