//! `swarmctl secret`: content only tasks that use it see.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use proto::control as wire;
use seal::{Plain, SealKey};
use types::secret::Driver;
use types::{Secret, SecretSpec, Timestamp};

use crate::connect::{Connection, Host};
use crate::content::{self, COLUMNS, Entry, FILTERS, change_labels, rows, template_driver};
use crate::error::Error;
use crate::filter::{Filter, Filters};
use crate::format::{Format, print_list};
use crate::output;
use crate::parse::key_value;
use crate::service::WaitFlags;

/// Times a change is made anew because the secret changed meanwhile.
const STALE_RETRIES_MAX: usize = 10;

/// What can be done to secrets.
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

/// Keep a secret in the swarm
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl secret create db-password password.txt
  pwgen 32 1 | swarmctl secret create db-password -
  swarmctl secret create --template-driver golang app.conf app.conf.tmpl
  swarmctl secret create --driver vault --driver-opt path=kv/db db-password")]
pub(crate) struct Create {
    /// Name of the secret
    name: String,
    /// File with the content, - for standard input; none with --driver
    file: Option<PathBuf>,
    /// What gives the content instead: a driver the managers are set up with
    #[arg(short, long, value_name = "NAME")]
    driver: Option<String>,
    /// What the driver is told
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value, requires = "driver")]
    driver_opt: Vec<(String, String)>,
    /// Label of the secret
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Vec<(String, String)>,
    /// The content is a template, filled in for each task: golang
    #[arg(long, value_name = "DRIVER", value_parser = template_driver)]
    template_driver: Option<bool>,
}

impl Create {
    async fn run(self, host: &Host) -> Result<(), Error> {
        let content = match (&self.file, &self.driver) {
            (Some(file), None) => Some(content::read(file)?),
            (None, Some(_)) => None,
            (Some(_), Some(_)) => {
                return Err(Error::Usage(
                    "a secret with a driver has no file: the driver gives the content".to_owned(),
                ));
            }
            (None, None) => {
                return Err(Error::Usage(
                    "a file with the content is needed, or - for standard input".to_owned(),
                ));
            }
        };
        let spec = SecretSpec {
            name: self.name,
            labels: self.label.into_iter().collect(),
            driver: self.driver.map(|name| Driver {
                name,
                options: self.driver_opt.into_iter().collect(),
            }),
            templated: self.template_driver.unwrap_or_default(),
        };
        let connection = host.connect().await?;
        let request = wire::CreateSecretRequest {
            spec: Some((&spec).into()),
            sealed: seal(&connection, &spec.name, content).await?,
        };
        let answer = connection
            .control()
            .create_secret(request)
            .await?
            .into_inner();
        Ok(output::line(answer.secret.unwrap_or_default().id)?)
    }
}

/// Show everything about secrets but their content
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl secret inspect db-password
  swarmctl secret inspect --pretty db-password
  swarmctl secret inspect --format '{{.Spec.Labels}}' db-password")]
pub(crate) struct Inspect {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "SECRET")]
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

/// List the secrets
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl secret ls
  swarmctl secret ls --filter label=owner=ops
  swarmctl secret ls --format '{{.Name}} {{.Version}}'")]
pub(crate) struct Ls {
    /// Only secrets that match: id, name, label
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
            .list_secrets(wire::ListSecretsRequest {})
            .await?
            .into_inner();
        let mut entries = vec![];
        for found in list.secrets {
            entries.push(Entry::from(&Secret::try_from(found)?));
        }
        let rows = rows(entries, &filters, Timestamp::now());
        print_list(&COLUMNS, rows, self.format.as_ref(), self.quiet)
    }
}

/// Remove secrets that no service uses
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl secret rm db-password
  swarmctl secret rm one two")]
pub(crate) struct Rm {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "SECRET")]
    keys: Vec<String>,
}

impl Rm {
    async fn run(self, host: &Host) -> Result<(), Error> {
        let mut control = host.connect().await?.control();
        let mut errors = vec![];
        for key in self.keys {
            let request = wire::RemoveSecretRequest { key: key.clone() };
            match control.remove_secret(request).await {
                Ok(_) => output::line(&key)?,
                Err(status) => errors.push(status.into()),
            }
        }
        Error::join(errors)
    }
}

/// Give a secret new content, and roll the services that use it; or change its labels
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl secret update db-password new.txt         A new version; services roll by their update policy
  swarmctl secret update --detach db-password -      Read it from standard input, do not wait
  swarmctl secret update --label-add owner=ops db-password")]
pub(crate) struct Update {
    /// Name, id or beginning of an id
    #[arg(value_name = "SECRET")]
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
                "nothing to change: see 'swarmctl secret update --help'".to_owned(),
            ));
        }
        let content = self.file.as_deref().map(content::read).transpose()?;
        let connection = host.connect().await?;
        let mut tries = 0;
        loop {
            let found = get(&connection, &self.key).await?;
            let mut spec = found.spec.clone();
            change_labels(&mut spec.labels, &self.label_rm, &self.label_add)?;
            let sealed = seal(&connection, &spec.name, content.clone()).await?;
            let request = wire::UpdateSecretRequest {
                id: found.id.to_string(),
                version: found.meta.version.index,
                spec: Some((&spec).into()),
                sealed,
            };
            let answer = connection.control().update_secret(request).await;
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

async fn get(connection: &Connection, key: &str) -> Result<Secret, Error> {
    let request = wire::GetSecretRequest {
        key: key.to_owned(),
    };
    let found = connection.control().get_secret(request).await?.into_inner();
    Ok(Secret::try_from(found.secret.unwrap_or_default())?)
}

/// The content in an envelope for the manager that is asked: what carries the request never sees it.
async fn seal(
    connection: &Connection,
    name: &str,
    content: Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, Error> {
    let Some(content) = content else {
        return Ok(None);
    };
    let content = Plain::new(content);
    let request = wire::GetSealKeyRequest {};
    let key = connection
        .control()
        .get_seal_key(request)
        .await?
        .into_inner();
    let sealed = SealKey::try_from(&key.seal_key[..])
        .and_then(|key| key.seal(name.as_bytes(), content))
        .map_err(|error| Error::Failed(format!("sealing the secret: {error}")))?;
    Ok(Some(sealed))
}
