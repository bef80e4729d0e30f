//! Join tokens made for a purpose, besides the two of `swarmctl join-token`.

use std::time::Duration;

use clap::{Args, Subcommand};
use proto::control::{
    CreateJoinTokenRequest, GetClusterRequest, JoinTokenView, ListJoinTokensRequest,
    RemoveJoinTokenRequest,
};
use proto::objects::NodeRole;
use serde_json::Value;
use types::Timestamp;

use crate::connect::{Connection, Host};
use crate::error::Error;
use crate::format::{Column, Format, print_list, row, shown};
use crate::parse::duration::duration;
use crate::swarm::{RoleFlag, join_command};
use crate::{human, output};

/// What can be done about them.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Create(Create),
    Ls(Ls),
    Show(Show),
    Rm(Rm),
}

impl Verb {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        match self {
            Self::Create(command) => command.run(host).await,
            Self::Ls(command) => command.run(host).await,
            Self::Show(command) => command.run(host).await,
            Self::Rm(command) => command.run(host).await,
        }
    }
}

/// Make a join token with an end
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl token create --role worker --expires 24h --uses 10
  swarmctl token create -q autoscaler --role worker --expires 720h > token
  swarmctl token create rack7 --role manager --uses 1")]
pub(crate) struct Create {
    /// What to call it [default: a name is made up]
    name: Option<String>,
    /// What machines with it become
    #[arg(long, value_enum, default_value = "worker")]
    role: RoleFlag,
    /// How long it works [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: Option<Duration>,
    /// How many nodes it lets in [default: any number]
    #[arg(long, value_name = "NUMBER")]
    uses: Option<u64>,
    /// Only show the token
    #[arg(short, long)]
    quiet: bool,
}

impl Create {
    async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let request = CreateJoinTokenRequest {
            name: self.name.unwrap_or_default(),
            role: NodeRole::from(types::NodeRole::from(self.role)).into(),
            expires_in: self.expires.map(nanos),
            uses_max: self.uses,
        };
        let answer = connection.control().create_join_token(request).await?;
        let view = answer.into_inner().token.unwrap_or_default();
        if !self.quiet {
            output::line(format!("Join token {} made.\n", view.name))?;
        }
        print(&connection, &view, self.quiet).await
    }
}

async fn print(connection: &Connection, view: &JoinTokenView, quiet: bool) -> Result<(), Error> {
    if quiet {
        return Ok(output::line(&view.token)?);
    }
    let cluster = connection
        .control()
        .get_cluster(GetClusterRequest {})
        .await?;
    let cluster = cluster.into_inner().cluster.unwrap_or_default();
    let addr = cluster.managers.into_iter().next().unwrap_or_default();
    let role = types::NodeRole::from(view.role()).to_string();
    Ok(output::line(join_command(&role, &view.token, &addr))?)
}

const COLUMNS: [Column; 5] = [
    shown("Name", "NAME"),
    shown("Role", "ROLE"),
    shown("Created", "CREATED"),
    shown("Expires", "EXPIRES"),
    shown("Uses", "USES"),
];

/// List the join tokens that were made, not the two permanent ones
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl token ls
  swarmctl token ls --format '{{.Name}} {{.Uses}}'")]
pub(crate) struct Ls {
    /// table, json, or a template like {{.Name}} {{.Uses}}
    #[arg(long)]
    format: Option<Format>,
    /// Show only names
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    async fn run(self, host: &Host) -> Result<(), Error> {
        let tokens = list(&host.connect().await?).await?;
        if self.quiet {
            let names: String = tokens
                .iter()
                .map(|view| format!("{}\n", view.name))
                .collect();
            return Ok(output::write(&names)?);
        }
        let now = Timestamp::now();
        let rows = tokens.iter().map(|view| listed(view, now)).collect();
        print_list(&COLUMNS, rows, self.format.as_ref(), false)
    }
}

fn listed(view: &JoinTokenView, now: Timestamp) -> crate::format::Row {
    let expires = match (view.ended.as_str(), view.expires_at.map(Timestamp)) {
        ("", Some(at)) => format!("in {}", human::duration(at.since(now))),
        ("", None) => "never".to_owned(),
        (ended, _) => ended.to_owned(),
    };
    let uses = view.uses_max.map_or("any number".to_owned(), |max| {
        format!("{} of {max}", view.uses)
    });
    let values = [
        view.name.clone(),
        types::NodeRole::from(view.role()).to_string(),
        human::ago(now, Timestamp(view.created_at)),
        expires,
        uses,
    ];
    row(&COLUMNS, values.map(Value::from))
}

async fn list(connection: &Connection) -> Result<Vec<JoinTokenView>, Error> {
    let mut control = connection.control();
    let answer = control.list_join_tokens(ListJoinTokensRequest {});
    Ok(answer.await?.into_inner().tokens)
}

/// Show a join token that was made
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl token show rack7
  swarmctl token show -q rack7 > token")]
pub(crate) struct Show {
    /// Which one
    name: String,
    /// Only show the token
    #[arg(short, long)]
    quiet: bool,
}

impl Show {
    async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        let tokens = list(&connection).await?;
        let view = tokens.into_iter().find(|view| view.name == self.name);
        let view =
            view.ok_or_else(|| Error::Failed(format!("join token {} not found", self.name)))?;
        if view.token.is_empty() {
            let text = "a reader may not see join tokens: it takes an operator";
            return Err(Error::Failed(text.to_owned()));
        }
        print(&connection, &view, self.quiet).await
    }
}

/// Revoke join tokens; nodes that came with them stay
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl token rm rack7")]
pub(crate) struct Rm {
    /// Which ones
    #[arg(required = true, value_name = "TOKEN")]
    names: Vec<String>,
}

impl Rm {
    async fn run(self, host: &Host) -> Result<(), Error> {
        let mut control = host.connect().await?.control();
        let mut errors = vec![];
        for name in self.names {
            let request = RemoveJoinTokenRequest { name: name.clone() };
            match control.remove_join_token(request).await {
                Ok(_) => output::line(name)?,
                Err(status) => errors.push(status.into()),
            }
        }
        Error::join(errors)
    }
}
