//! Users of other machines: who may ask this cluster from elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use proto::control::{CreateClientRequest, ListClientsRequest, RemoveClientRequest};
use proto::objects;
use serde_json::Value;
use types::Timestamp;
use types::access::{Client, ClientRole};

use crate::connect::Host;
use crate::context::{Document, Way, save};
use crate::error::Error;
use crate::format::{Column, Format, print_list, row, shown};
use crate::parse::duration::duration;
use crate::{human, output};

/// What can be done about them.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Create(Create),
    Ls(Ls),
    Rm(Rm),
}

impl Verb {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        match self {
            Self::Create(command) => command.run(host).await,
            Self::Ls(command) => command.run(host).await,
            Self::Rm(command) => command.run(host).await,
        }
    }
}

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleFlag {
    // Look, but at no secret and no token
    Reader,
    // Look and change
    Operator,
}

impl From<RoleFlag> for ClientRole {
    fn from(flag: RoleFlag) -> Self {
        match flag {
            RoleFlag::Reader => Self::Reader,
            RoleFlag::Operator => Self::Operator,
        }
    }
}

/// Let somebody ask this cluster from another machine
///
/// Makes a key here and has the cluster sign a certificate for it. Both are written into a file,
/// with the cluster's roots and the managers' addresses, for `swarmctl context import` there.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl client create laptop --role operator
  swarmctl client create dashboard --role reader --expiry 720h -o dashboard.context
  ssh manager swarmctl client create ci --role operator -o - | swarmctl context import prod -")]
pub(crate) struct Create {
    /// What to call it
    name: String,
    /// What it may do
    #[arg(long, value_enum, default_value = "reader")]
    role: RoleFlag,
    /// Life of the certificate [default: 2160h]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expiry: Option<Duration>,
    /// Where to write it; - is standard output [default: NAME.context]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A manager's address to write into it instead of those the cluster knows
    #[arg(long = "manager", value_name = "HOST:PORT")]
    managers: Vec<String>,
}

impl Create {
    async fn run(self, host: &Host) -> Result<(), Error> {
        let file = self.output;
        let file = file.unwrap_or_else(|| PathBuf::from(format!("{}.context", self.name)));
        if file.exists() {
            let text = format!("{} exists already: it is not overwritten", file.display());
            return Err(Error::Failed(text));
        }
        let no_key = |error: ca::Error| Error::Failed(error.to_string());
        let key = ca::PrivateKey::generate().map_err(no_key)?;
        let expiry = self.expiry.unwrap_or_default();
        let request = CreateClientRequest {
            name: self.name.clone(),
            role: objects::ClientRole::from(ClientRole::from(self.role)).into(),
            expires_in: u64::try_from(expiry.as_nanos()).unwrap_or(u64::MAX),
            csr_pem: key.csr_pem().map_err(no_key)?,
        };
        let mut control = host.connect().await?.control();
        let answer = control.create_client(request).await?.into_inner();
        let managers = match self.managers.is_empty() {
            true => answer.managers,
            false => self.managers,
        };
        let document = Document {
            name: self.name.clone(),
            description: format!("Cluster {}", answer.cluster_id),
            way: Way::Remote {
                managers,
                root: answer.root_cert_pem,
                certificate: answer.certificate_pem,
                key: key.to_pem().to_string(),
            },
        };
        let saved = save(&document, &file);
        if saved.is_err() {
            // Nobody has its key: it must not stay behind.
            let request = RemoveClientRequest { key: self.name };
            drop(control.remove_client(request).await);
        }
        saved
    }
}

const COLUMNS: [Column; 5] = [
    shown("ID", "ID"),
    shown("Name", "NAME"),
    shown("Role", "ROLE"),
    shown("Created", "CREATED"),
    shown("Expires", "EXPIRES"),
];

/// List who may ask from other machines
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl client ls
  swarmctl client ls --format '{{.Name}} {{.Expires}}'")]
pub(crate) struct Ls {
    /// table, json, or a template like {{.ID}} {{.Name}}
    #[arg(long)]
    format: Option<Format>,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    async fn run(self, host: &Host) -> Result<(), Error> {
        let mut control = host.connect().await?.control();
        let answer = control.list_clients(ListClientsRequest {}).await?;
        let now = Timestamp::now();
        let mut rows = vec![];
        for view in answer.into_inner().clients {
            let client = Client::try_from(view.client.unwrap_or_default())?;
            let expires = match client.expires_at > now {
                true => format!("in {}", human::duration(client.expires_at.since(now))),
                false => "expired".to_owned(),
            };
            let created = human::ago(now, client.created_at);
            let values = [
                view.id,
                client.name,
                client.role.to_string(),
                created,
                expires,
            ];
            rows.push(row(&COLUMNS, values.map(Value::from)));
        }
        print_list(&COLUMNS, rows, self.format.as_ref(), self.quiet)
    }
}

/// Take somebody's access back; their connections are closed at once
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl client rm laptop")]
pub(crate) struct Rm {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "CLIENT")]
    clients: Vec<String>,
}

impl Rm {
    async fn run(self, host: &Host) -> Result<(), Error> {
        let mut control = host.connect().await?.control();
        let mut errors = vec![];
        for key in self.clients {
            let request = RemoveClientRequest { key: key.clone() };
            match control.remove_client(request).await {
                Ok(_) => output::line(key)?,
                Err(status) => errors.push(status.into()),
            }
        }
        Error::join(errors)
    }
}
