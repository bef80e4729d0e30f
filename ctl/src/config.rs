//! `swarmctl config`: content tasks can read, not secret.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use proto::control as wire;
use types::{Config, ConfigSpec, Timestamp};

use crate::connect::{Connection, Host};
use crate::content::{self, COLUMNS, Entry, FILTERS, change_labels, rows, template_driver};
use crate::error::Error;
use crate::filter::{Filter, Filters};
use crate::format::{Format, print_list};
use crate::output;
use crate::parse::key_value;
use crate::service::WaitFlags;

/// Times a change is made anew because the config changed meanwhile.
const STALE_RETRIES_MAX: usize = 10;

/// What can be done to configs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Create(Create),
    Inspect(Inspect),
    #[command(alias = "list")]
    Ls(Ls),
    #[command(alias = "remove")]
    Rm(Rm),
    Update(Update),
}

impl Verb {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        match self {
            Self::Create(command) => command.run(host).await,
            Self::Inspect(command) => command.run(host).await,
            Self::Ls(command) => command.run(host).await,
            Self::Rm(command) => command.run(host).await,
            Self::Update(command) => command.run(host).await,
        }
    }
}

/// Keep a config in the swarm
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl config create nginx.conf ./nginx.conf
  swarmctl config create --template-driver golang app.conf app.conf.tmpl")]
pub(crate) struct Create {
    /// Name of the config
    name: String,
    /// File with the content, - for standard input
    file: PathBuf,
    /// Label of the config
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Vec<(String, String)>,
    /// The content is a template, filled in for each task: golang
    #[arg(long, value_name = "DRIVER", value_parser = template_driver)]
    template_driver: Option<bool>,
}

impl Create {
    async fn run(self, host: &Host) -> Result<(), Error> {
        let spec = ConfigSpec {
            name: self.name,
            labels: self.label.into_iter().collect(),
            templated: self.template_driver.unwrap_or_default(),
        };
        let request = wire::CreateConfigRequest {
            spec: Some((&spec).into()),
            data: content::read(&self.file)?,
        };
        let connection = host.connect().await?;
        let answer = connection
            .control()
            .create_config(request)
            .await?
            .into_inner();
        Ok(output::line(answer.config.unwrap_or_default().id)?)
    }
}

/// Show everything about configs
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl config inspect app.conf
  swarmctl config inspect --pretty app.conf
  swarmctl config inspect --format '{{.Spec.Labels}}' app.conf")]
pub(crate) struct Inspect {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "CONFIG")]
    keys: Vec<String>,
    /// json, or a template like {{.Spec.Name}}
    #[arg(short, long)]
    format: Option<Format>,
    /// Show it for people instead of programs
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
}

impl Inspect {
    async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        let mut entries = vec![];
        let mut errors = vec![];
        for key in &self.keys {
            match get(&connection, key).await {
                Ok(found) => entries.push(Entry::from(&found)),
                Err(error) => errors.push(error),
            }
        }
        content::show(&entries, self.pretty, self.format.as_ref())?;
        Error::join(errors)
    }
}

/// List the configs
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl config ls
  swarmctl config ls --filter label=owner=ops
  swarmctl config ls --format '{{.Name}} {{.Version}}'")]
pub(crate) struct Ls {
    /// Only configs that match: id, name, label
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// table, json, or a template like {{.ID}} {{.Name}}
    #[arg(long)]
    format: Option<Format>,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    async fn run(self, host: &Host) -> Result<(), Error> {
        let filters = Filters::new(&self.filters, &FILTERS)?;
        let mut control = host.connect().await?.control();
        let list = control
            .list_configs(wire::ListConfigsRequest {})
            .await?
            .into_inner();
        let mut entries = vec![];
        for found in list.configs {
            entries.push(Entry::from(&Config::try_from(found)?));
        }
        let rows = rows(entries, &filters, Timestamp::now());
        print_list(&COLUMNS, rows, self.format.as_ref(), self.quiet)
    }
}

/// Remove configs that no service uses
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl config rm app.conf
  swarmctl config rm one two")]
pub(crate) struct Rm {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "CONFIG")]
    keys: Vec<String>,
}

impl Rm {
    async fn run(self, host: &Host) -> Result<(), Error> {
        let mut control = host.connect().await?.control();
        let mut errors = vec![];
        for key in self.keys {
            let request = wire::RemoveConfigRequest { key: key.clone() };
            match control.remove_config(request).await {
                Ok(_) => output::line(&key)?,
                Err(status) => errors.push(status.into()),
            }
        }
        Error::join(errors)
    }
}

/// Give a config new content, and roll the services that use it; or change its labels
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl config update app.conf new.txt         A new version; services roll by their update policy
  swarmctl config update --detach app.conf -      Read it from standard input, do not wait
  swarmctl config update --label-add owner=ops app.conf")]
pub(crate) struct Update {
    /// Name, id or beginning of an id
    #[arg(value_name = "CONFIG")]
    key: String,
    /// File with the new content, - for standard input
    file: Option<PathBuf>,
    /// Add or change a label
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    label_add: Vec<(String, String)>,
    /// Remove a label
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    #[command(flatten)]
    wait: WaitFlags,
}

impl Update {
    async fn run(self, host: &Host) -> Result<(), Error> {
        if self.file.is_none() && self.label_add.is_empty() && self.label_rm.is_empty() {
            return Err(Error::Usage(
                "nothing to change: see 'swarmctl config update --help'".to_owned(),
            ));
        }
        let content = self.file.as_deref().map(content::read).transpose()?;
        let connection = host.connect().await?;
        let mut tries = 0;
        loop {
            let found = get(&connection, &self.key).await?;
            let mut spec = found.spec.clone();
            change_labels(&mut spec.labels, &self.label_rm, &self.label_add)?;
            let request = wire::UpdateConfigRequest {
                id: found.id.to_string(),
                version: found.meta.version.index,
                spec: Some((&spec).into()),
                data: content.clone(),
            };
            let answer = connection.control().update_config(request).await;
            match answer.map_err(Error::from) {
                Ok(answer) => {
                    output::line(&self.key)?;
                    let services = answer.into_inner().services;
                    return content::wait(&connection, self.wait, services).await;
                }
                Err(error) if error.is_stale() && tries < STALE_RETRIES_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

async fn get(connection: &Connection, key: &str) -> Result<Config, Error> {
    let request = wire::GetConfigRequest {
        key: key.to_owned(),
    };
    let found = connection.control().get_config(request).await?.into_inner();
    Ok(Config::try_from(found.config.unwrap_or_default())?)
}
