//! `swarmctl service update`

use std::sync::Arc;

use clap::Args;
use proto::control::GetNetworkRequest;
use types::container_spec::{Mount, Ulimit};
use types::network::{NetworkAttachmentSpec, PublishedPort};
use types::{Labels, ServiceSpec, TaskSpec};

use super::flags::{SpecFlags, command};
use super::names::NameChanges;
use super::wait::{WaitFlags, Waiting};
use super::write::{Write, write};
use crate::connect::{Connection, Host};
use crate::content::reference::{Changes, Reference, reference};
use crate::error::Error;
use crate::output;
use crate::parse::mount::mount;
use crate::parse::network::attachment;
use crate::parse::port::ports;
use crate::parse::ulimit::ulimit;
use crate::parse::{env, key_value, placement_preference};

/// Change a service; what is not named stays. Removals come before additions
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  swarmctl service update --image web:2 web
  swarmctl service update --replicas 5 --env-add LEVEL=debug web
  swarmctl service update --mount-rm /cache --mount-add type=tmpfs,target=/cache web
  swarmctl service update --force web           Replace every task
  swarmctl service update --rollback web        As 'service rollback'")]
pub(crate) struct Update {
    /// Id, name or beginning of an id
    service: String,
    /// Image
    #[arg(long)]
    image: Option<String>,
    /// What the image runs instead of its command
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    args: Option<String>,
    /// Replace every task even if nothing else changes
    #[arg(long)]
    force: bool,
    /// Go back to what ran before the last update
    #[arg(long, conflicts_with_all = ["image", "args", "force"])]
    rollback: bool,
    /// Add or change an environment variable
    #[arg(long, value_name = "NAME[=VALUE]")]
    env_add: Vec<String>,
    /// Remove an environment variable
    #[arg(long, value_name = "NAME")]
    env_rm: Vec<String>,
    /// Add or change a label of the service
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    label_add: Vec<(String, String)>,
    /// Remove a label of the service
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Add or change a label of the containers
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    container_label_add: Vec<(String, String)>,
    /// Remove a label of the containers
    #[arg(long, value_name = "KEY")]
    container_label_rm: Vec<String>,
    /// Add a constraint
    #[arg(long, value_name = "CONSTRAINT")]
    constraint_add: Vec<String>,
    /// Remove a constraint
    #[arg(long, value_name = "CONSTRAINT")]
    constraint_rm: Vec<String>,
    /// Add a placement preference
    #[arg(long, value_name = "PREFERENCE", value_parser = placement_preference)]
    placement_pref_add: Vec<String>,
    /// Remove a placement preference
    #[arg(long, value_name = "PREFERENCE", value_parser = placement_preference)]
    placement_pref_rm: Vec<String>,
    /// Add or change a mount
    #[arg(long, value_name = "MOUNT", value_parser = mount)]
    mount_add: Vec<Mount>,
    /// Remove the mount at this path
    #[arg(long, value_name = "TARGET")]
    mount_rm: Vec<String>,
    /// Put the tasks on a network
    #[arg(long, value_name = "NETWORK", value_parser = attachment)]
    network_add: Vec<NetworkAttachmentSpec>,
    /// Take the tasks off a network
    #[arg(long, value_name = "NETWORK")]
    network_rm: Vec<String>,
    /// Add a secret, or move to its newest version after --secret-rm of it
    #[arg(long, value_name = "SECRET", value_parser = reference)]
    secret_add: Vec<Reference>,
    /// Take a secret away
    #[arg(long, value_name = "SECRET")]
    secret_rm: Vec<String>,
    /// Add a config, or move to its newest version after --config-rm of it
    #[arg(long, value_name = "CONFIG", value_parser = reference)]
    config_add: Vec<Reference>,
    /// Take a config away
    #[arg(long, value_name = "CONFIG")]
    config_rm: Vec<String>,
    /// Publish a port
    #[arg(long, value_name = "PORT", value_parser = ports)]
    publish_add: Vec<Vec<PublishedPort>>,
    /// Publish no longer this port of the container, like 80 or 53/udp
    #[arg(long, value_name = "TARGET", value_parser = ports)]
    publish_rm: Vec<Vec<PublishedPort>>,
    /// Add a group of the container's user
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Remove a group of the container's user
    #[arg(long, value_name = "GROUP")]
    group_rm: Vec<String>,
    /// Add or change a limit of the container's processes
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimit_add: Vec<Ulimit>,
    /// Remove a limit of the container's processes
    #[arg(long, value_name = "NAME")]
    ulimit_rm: Vec<String>,
    /// Add a capability, or no longer drop it
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop a capability, or no longer add it
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    #[command(flatten)]
    names: NameChanges,
    #[command(flatten)]
    spec: SpecFlags,
    #[command(flatten)]
    wait: WaitFlags,
}

impl Update {
    pub(crate) async fn run(mut self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        self.name_networks_by_id(&connection).await?;
        let contents = Changes::find(&connection, &self.secret_add, &self.config_add)
            .await?
            .without(&self.secret_rm, &self.config_rm);
        let change = |spec: &mut ServiceSpec| {
            contents.apply(spec);
            self.apply(spec)
        };
        let (what, waiting) = if self.rollback {
            (Write::Previous, Waiting::Rollback)
        } else {
            (Write::Change(&change), Waiting::Update)
        };
        let service = write(&connection, &self.service, &what).await?;
        output::line(&self.service)?;
        self.wait.wait(&connection, &service, waiting).await
    }

    /// Specs hold ids of networks; what the user calls them is looked up here.
    async fn name_networks_by_id(&mut self, connection: &Connection) -> Result<(), Error> {
        let added = self
            .network_add
            .iter_mut()
            .map(|network| &mut network.target);
        for key in self.network_rm.iter_mut().chain(added) {
            let request = GetNetworkRequest { key: key.clone() };
            let answer = connection.control().get_network(request).await?;
            let view = answer.into_inner().network.unwrap_or_default();
            if !view.predefined {
                *key = view.network.unwrap_or_default().id;
            }
        }
        Ok(())
    }

    fn apply(&self, spec: &mut ServiceSpec) -> Result<(), Error> {
        // Removing comes first, so that -rm and -add of the same thing replace it.
        change_labels(&mut spec.labels, &self.label_rm, &self.label_add);
        let (gone, new) = (self.publish_rm.iter(), self.publish_add.iter());
        change_ports(&mut spec.endpoint.ports, gone.flatten(), new.flatten());
        let task = Arc::make_mut(&mut spec.task);
        self.apply_to_task(task)?;
        self.spec.clone().apply(spec)
    }

    fn apply_to_task(&self, task: &mut TaskSpec) -> Result<(), Error> {
        let placement = &mut task.placement;
        change_texts(
            &mut placement.constraints,
            &self.constraint_rm,
            &self.constraint_add,
        );
        let (gone, new) = (&self.placement_pref_rm, &self.placement_pref_add);
        change_texts(&mut placement.preferences, gone, new);
        let networks = &mut task.networks;
        replace(networks, &self.network_rm, &self.network_add, |network| {
            &network.target
        });
        task.force_update += u64::from(self.force);
        let container = &mut task.container;
        if let Some(image) = &self.image {
            container.image.clone_from(image);
        }
        if let Some(args) = &self.args {
            container.args = command("args", args)?;
        }
        let (gone, new) = (&self.container_label_rm, &self.container_label_add);
        change_labels(&mut container.labels, gone, new);
        container
            .env
            .retain(|known| !self.env_rm.iter().any(|gone| env::name(known) == gone));
        let own = |name: &str| std::env::var(name).ok();
        let mut variables = std::mem::take(&mut container.env);
        for flag in &self.env_add {
            variables.extend(env::variable(flag, own).map_err(Error::Usage)?);
        }
        container.env = env::merge(variables);
        replace(
            &mut container.mounts,
            &self.mount_rm,
            &self.mount_add,
            |mount| &mount.target,
        );
        replace(
            &mut container.ulimits,
            &self.ulimit_rm,
            &self.ulimit_add,
            |ulimit| &ulimit.name,
        );
        change_texts(&mut container.groups, &self.group_rm, &self.group_add);
        self.names.apply(container);
        change_capabilities(
            &mut container.capability_add,
            &mut container.capability_drop,
            &self.cap_add,
            &self.cap_drop,
        );
        Ok(())
    }
}

fn change_labels(labels: &mut Labels, gone: &[String], new: &[(String, String)]) {
    labels.retain(|key, _| !gone.contains(key));
    labels.extend(new.iter().cloned());
}

/// Ports go by target and protocol, and by the published number where one is given (F3.48). A new
/// one takes the place of the one with its published number.
fn change_ports<'a>(
    ports: &mut Vec<PublishedPort>,
    gone: impl Iterator<Item = &'a PublishedPort>,
    new: impl Iterator<Item = &'a PublishedPort>,
) {
    for gone in gone {
        ports.retain(|port| {
            let same_number =
                gone.published_port == 0 || gone.published_port == port.published_port;
            !(same_number && gone.target_port == port.target_port && gone.protocol == port.protocol)
        });
    }
    for new in new {
        let same = |port: &&mut PublishedPort| {
            let published = new.published_port != 0 && port.published_port == new.published_port;
            port.protocol == new.protocol && (published || **port == *new)
        };
        match ports.iter_mut().find(same) {
            Some(known) => *known = new.clone(),
            None => ports.push(new.clone()),
        }
    }
}

/// Each text once, in the order given.
fn change_texts(texts: &mut Vec<String>, gone: &[String], new: &[String]) {
    change(texts, gone, new);
}

/// Each thing once, in the order given.
pub(super) fn change<T: Clone + PartialEq>(things: &mut Vec<T>, gone: &[T], new: &[T]) {
    things.retain(|thing| !gone.contains(thing));
    for thing in new {
        if !things.contains(thing) {
            things.push(thing.clone());
        }
    }
}

/// Things with a key: a new one takes the place of the one with its key.
fn replace<T: Clone>(things: &mut Vec<T>, gone: &[String], new: &[T], key: impl Fn(&T) -> &String) {
    things.retain(|thing| !gone.contains(key(thing)));
    for thing in new {
        match things.iter_mut().find(|known| key(known) == key(thing)) {
            Some(known) => *known = thing.clone(),
            None => things.push(thing.clone()),
        }
    }
}

/// Adding one that was dropped only takes back the drop, and the other way round (X24). `RESET`
/// empties both lists first.
fn change_capabilities(
    added: &mut Vec<String>,
    dropped: &mut Vec<String>,
    add: &[String],
    drop: &[String],
) {
    let normal = |name: &String| {
        let name = name.to_ascii_uppercase();
        let whole = matches!(name.as_str(), "ALL" | "RESET") || name.starts_with("CAP_");
        if whole { name } else { format!("CAP_{name}") }
    };
    let (add, drop) = (add.iter().map(normal), drop.iter().map(normal));
    let (add, drop): (Vec<_>, Vec<_>) = (add.collect(), drop.collect());
    if add.iter().chain(&drop).any(|name| name == "RESET") {
        added.clear();
        dropped.clear();
    }
    let toggle = |names: Vec<String>, into: &mut Vec<String>, out_of: &mut Vec<String>| {
        for name in names.into_iter().filter(|name| name != "RESET") {
            if out_of.contains(&name) {
                out_of.retain(|known| *known != name);
            } else if !into.contains(&name) {
                into.push(name);
            }
        }
    };
    toggle(add, added, dropped);
    toggle(drop, dropped, added);
}

#[cfg(test)]
mod tests;
