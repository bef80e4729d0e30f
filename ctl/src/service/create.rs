//! `swarmctl service create`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use proto::control::CreateServiceRequest;
use types::container_spec::{Mount, Ulimit};
use types::network::{NetworkAttachmentSpec, PublishedPort};
use types::service::ServiceMode;
use types::{Service, ServiceSpec};

use super::flags::SpecFlags;
use super::names::NameFlags;
use super::wait::{WaitFlags, Waiting};
use crate::connect::Host;
use crate::content::reference::{Changes, Reference, reference};
use crate::error::Error;
use crate::output;
use crate::parse::mount::mount;
use crate::parse::network::attachment;
use crate::parse::port::ports;
use crate::parse::ulimit::ulimit;
use crate::parse::{env, key_value, placement_preference};

/// Declare a service and wait until it runs
#[derive(Args, Debug)]
#[command(
    override_usage = "swarmctl service create [OPTIONS] IMAGE [COMMAND] [ARG]...",
    after_help = "Examples:
  swarmctl service create --name web --replicas 3 web:1
  swarmctl service create --name web --network host --replicas-max-per-node 1 --replicas 5 web:1
  swarmctl service create --name web --network front --publish 8080:80 --replicas 3 web:1
  swarmctl service create --mode global --constraint node.role==worker agent:2 --verbose
  swarmctl service create --limit-memory 64m --mount type=tmpfs,target=/tmp,tmpfs-size=16m web:1
  swarmctl service create --detach --restart-condition none job:1 sh -c 'echo done'"
)]
pub(crate) struct Create {
    /// The image, and what it runs instead of its command
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "IMAGE [COMMAND] [ARG]"
    )]
    words: Vec<String>,
    /// Name of the service [default: a random one]
    #[arg(long)]
    name: Option<String>,
    /// How many tasks: as told, or one on each node
    #[arg(long, value_enum, default_value = "replicated")]
    mode: ModeFlag,
    /// Environment variable; without a value, the one swarmctl has
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// File of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Label of the service
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Vec<(String, String)>,
    /// Label of the containers
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    container_label: Vec<(String, String)>,
    /// Where tasks may run, like node.labels.zone==a
    #[arg(long, value_name = "CONSTRAINT")]
    constraint: Vec<String>,
    /// What tasks are spread over, like spread=node.labels.zone
    #[arg(long, value_name = "PREFERENCE", value_parser = placement_preference)]
    placement_pref: Vec<String>,
    /// Mount, like type=bind,source=/data,target=/data,readonly
    #[arg(long, value_name = "MOUNT", value_parser = mount)]
    mount: Vec<Mount>,
    /// Network, by name or like name=web,alias=www
    #[arg(long, value_name = "NETWORK", value_parser = attachment)]
    network: Vec<NetworkAttachmentSpec>,
    /// Published port, like 8080:80, 53:53/udp or published=8080,target=80,mode=host
    #[arg(short, long, value_name = "PORT", value_parser = ports)]
    publish: Vec<Vec<PublishedPort>>,
    /// Secret the tasks see, like db-password or source=db-password,target=pw,uid=33,mode=0400
    #[arg(long, value_name = "SECRET", value_parser = reference)]
    secret: Vec<Reference>,
    /// Config the tasks see, like app.conf or source=app.conf,target=/etc/app.conf
    #[arg(long, value_name = "CONFIG", value_parser = reference)]
    config: Vec<Reference>,
    /// Additional group of the container's user
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// Limit of the container's processes, like nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimit: Vec<Ulimit>,
    /// Capability beyond the usual ones
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Capability to do without
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    #[command(flatten)]
    names: NameFlags,
    #[command(flatten)]
    spec: SpecFlags,
    #[command(flatten)]
    wait: WaitFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeFlag {
    // As many as --replicas says
    Replicated,
    // One on each node that fits
    Global,
}

impl Create {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let wait = self.wait;
        let (secrets, configs) = (self.secret.clone(), self.config.clone());
        let mut spec = self.into_spec(|name| std::env::var(name).ok())?;
        let connection = host.connect().await?;
        Changes::find(&connection, &secrets, &configs)
            .await?
            .apply(&mut spec);
        let request = CreateServiceRequest {
            spec: Some((&spec).into()),
        };
        let created = connection
            .control()
            .create_service(request)
            .await?
            .into_inner();
        created
            .warnings
            .iter()
            .for_each(|warning| output::note(format!("warning: {warning}")));
        let service = Service::try_from(created.service.unwrap_or_default())?;
        output::line(service.id)?;
        wait.wait(&connection, &service, Waiting::Update).await
    }

    fn into_spec(self, own: impl Fn(&str) -> Option<String>) -> Result<ServiceSpec, Error> {
        let mut words = self.words.into_iter();
        let image = words.next().unwrap_or_default();
        // What follows the image may begin with '-', so clap takes an unknown flag for it.
        if image.starts_with('-') {
            return Err(Error::Usage(format!(
                "unexpected argument '{image}': see 'swarmctl service create --help'"
            )));
        }
        let mut spec = ServiceSpec {
            name: self.name.unwrap_or_default(),
            labels: self.label.into_iter().collect::<BTreeMap<_, _>>(),
            mode: match self.mode {
                ModeFlag::Replicated => ServiceMode::default(),
                ModeFlag::Global => ServiceMode::Global {},
            },
            ..ServiceSpec::default()
        };
        spec.endpoint.ports = self.publish.into_iter().flatten().collect();
        let task = Arc::make_mut(&mut spec.task);
        task.placement.constraints = self.constraint;
        task.placement.preferences = self.placement_pref;
        task.networks = self.network;
        let container = &mut task.container;
        container.image = image;
        container.args = words.collect();
        container.labels = self.container_label.into_iter().collect();
        container.env = environment(&self.env_file, &self.env, own)?;
        container.mounts = self.mount;
        container.groups = self.group;
        container.ulimits = self.ulimit;
        container.capability_add = self.cap_add;
        container.capability_drop = self.cap_drop;
        self.names.apply(container);
        self.spec.apply(&mut spec)?;
        Ok(spec)
    }
}

/// Variables of files first, then those of the command line, which win.
fn environment(
    files: &[PathBuf],
    flags: &[String],
    own: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, Error> {
    let mut variables = vec![];
    for path in files {
        variables.extend(env::file(path, &own)?);
    }
    for flag in flags {
        variables.extend(env::variable(flag, &own).map_err(Error::Usage)?);
    }
    Ok(env::merge(variables))
}

#[cfg(test)]
mod tests;
