//! `swarmctl context`: the verbs.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::document::{LEN_MAX, Way};
use super::shelf::{read_bounded, write_new};
use super::{DEFAULT, Document, Shelf};
use crate::error::Error;
use crate::format::{Column, Format, print_list, print_objects, row, shown};
use crate::output;

/// What can be done with contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Create(Create),
    Ls(Ls),
    Use(Use),
    Show(Show),
    Inspect(Inspect),
    Rm(Rm),
    Export(Export),
    Import(Import),
}

impl Verb {
    /// `meant` is the context that other commands would use.
    pub(crate) fn run(self, meant: &str) -> Result<(), Error> {
        let shelf = Shelf::of_user()?;
        match self {
            Self::Create(command) => command.run(&shelf),
            Self::Ls(command) => command.run(&shelf, meant),
            Self::Use(command) => command.run(&shelf),
            Self::Show(_) => Ok(output::line(meant)?),
            Self::Inspect(command) => command.run(&shelf, meant),
            Self::Rm(command) => command.run(&shelf),
            Self::Export(command) => command.run(&shelf),
            Self::Import(command) => command.run(&shelf),
        }
    }
}

/// Remember where a cluster is and what to show there
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl context create lab --host unix:///run/lab/swarmd.sock
  swarmctl context create prod --manager 10.0.0.1:2377 --manager 10.0.0.2:2377 \\
    --root ca.pem --cert cert.pem --key key.pem

`swarmctl client create` on a manager writes a file that `swarmctl context import` takes as it is.")]
pub(crate) struct Create {
    /// What to call it
    name: String,
    /// What it is for
    #[arg(long, default_value = "")]
    description: String,
    /// Socket of a daemon on this machine
    #[arg(
        long,
        value_name = "unix:///PATH",
        required_unless_present = "managers"
    )]
    host: Option<String>,
    /// A manager elsewhere; may be given several times
    #[arg(long = "manager", value_name = "HOST:PORT", conflicts_with = "host", requires_all = ["root", "cert", "key"])]
    managers: Vec<String>,
    /// PEM file with the cluster's roots
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// PEM file with the client certificate
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// PEM file with its key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Create {
    fn run(self, shelf: &Shelf) -> Result<(), Error> {
        let way = match self.host {
            Some(host) => Way::Socket { host },
            None => Way::Remote {
                managers: self.managers,
                root: text(self.root.as_deref())?,
                certificate: text(self.cert.as_deref())?,
                key: text(self.key.as_deref())?,
            },
        };
        let document = Document {
            name: self.name,
            description: self.description,
            way,
        };
        document.check()?;
        shelf.create(&document)?;
        Ok(output::line(document.name)?)
    }
}

fn text(path: Option<&Path>) -> Result<String, Error> {
    let path = path.unwrap_or(Path::new(""));
    read_bounded(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

const COLUMNS: [Column; 5] = [
    shown("Name", "NAME"),
    shown("Role", "ROLE"),
    shown("Expires", "EXPIRES"),
    shown("Endpoint", "ENDPOINT"),
    shown("Description", "DESCRIPTION"),
];

/// List the contexts; the one in use is marked
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl context ls
  swarmctl context ls --format '{{.Name}} {{.Endpoint}}'")]
pub(crate) struct Ls {
    /// table, json, or a template like {{.Name}} {{.Endpoint}}
    #[arg(long)]
    format: Option<Format>,
    /// Show only names
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    fn run(self, shelf: &Shelf, meant: &str) -> Result<(), Error> {
        let mut names = vec![DEFAULT.to_owned()];
        names.extend(shelf.names()?);
        if self.quiet {
            return Ok(output::line(names.join("\n"))?);
        }
        let rows = names.iter().map(|name| {
            let mark = if name == meant { " *" } else { "" };
            // One that cannot be read is listed all the same, so that it can be removed.
            let (role, expires, endpoint, description) = match shelf.read(name) {
                Ok(document) => {
                    let identity = document.identity();
                    let role = identity.map(|it| it.role.to_string()).unwrap_or_default();
                    let expires = identity.map(|it| it.cert_not_after.to_string());
                    let endpoint = document.endpoint();
                    (
                        role,
                        expires.unwrap_or_default(),
                        endpoint,
                        document.description,
                    )
                }
                Err(error) => (
                    String::new(),
                    String::new(),
                    String::new(),
                    error.to_string(),
                ),
            };
            let values = [
                format!("{name}{mark}"),
                role,
                expires,
                endpoint,
                description,
            ];
            row(&COLUMNS, values.map(Value::from))
        });
        print_list(&COLUMNS, rows.collect(), self.format.as_ref(), false)
    }
}

/// Make a context the one that commands use
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl context use prod
  swarmctl context use default      The daemon on this machine")]
pub(crate) struct Use {
    /// Which one
    name: String,
}

impl Use {
    fn run(self, shelf: &Shelf) -> Result<(), Error> {
        shelf.use_context(&self.name)?;
        Ok(output::line(self.name)?)
    }
}

/// Show which context commands use
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl context show")]
pub(crate) struct Show {}

/// Show contexts without their keys
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl context inspect
  swarmctl context inspect prod --format '{{.Expires}}'")]
pub(crate) struct Inspect {
    /// Which ones [default: the one in use]
    names: Vec<String>,
    /// json, or a template like {{.Endpoint}}
    #[arg(short, long)]
    format: Option<Format>,
}

impl Inspect {
    fn run(self, shelf: &Shelf, meant: &str) -> Result<(), Error> {
        let names = match self.names.is_empty() {
            true => vec![meant.to_owned()],
            false => self.names,
        };
        let mut objects = vec![];
        for name in names {
            let document = shelf.read(&name)?;
            let identity = document.identity();
            objects.push(json!({
                "Name": document.name,
                "Description": document.description,
                "Endpoint": document.endpoint(),
                "ClientID": identity.map(|it| it.client_id.to_string()),
                "ClusterID": identity.map(|it| it.cluster_id.to_string()),
                "Role": identity.map(|it| it.role.to_string()),
                "Expires": identity.map(|it| it.cert_not_after.to_string()),
            }));
        }
        print_objects(&objects, self.format.as_ref())
    }
}

/// Forget contexts; the cluster goes on knowing the client until `swarmctl client rm`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl context rm lab
  swarmctl context rm --force prod      Even while it is in use")]
pub(crate) struct Rm {
    /// Which ones
    #[arg(required = true)]
    names: Vec<String>,
    /// Also the one in use
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    fn run(self, shelf: &Shelf) -> Result<(), Error> {
        let mut errors = vec![];
        for name in self.names {
            match shelf.remove(&name, self.force) {
                Ok(()) => output::line(name)?,
                Err(error) => errors.push(error),
            }
        }
        Error::join(errors)
    }
}

/// Write a context with its key into a file that only you can read
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl context export prod
  swarmctl context export prod - | ssh laptop swarmctl context import prod -")]
pub(crate) struct Export {
    /// Which one
    name: String,
    /// Where to; - is standard output [default: NAME.context]
    file: Option<PathBuf>,
}

impl Export {
    fn run(self, shelf: &Shelf) -> Result<(), Error> {
        let document = shelf.read(&self.name)?;
        let file = self.file;
        let file = file.unwrap_or_else(|| PathBuf::from(format!("{}.context", self.name)));
        save(&document, &file)
    }
}

/// Writes a context into a new file, or to standard output for `-`.
pub(crate) fn save(document: &Document, file: &Path) -> Result<(), Error> {
    if file == Path::new("-") {
        return Ok(output::write(&document.text())?);
    }
    write_new(file, document.text().as_bytes()).map_err(|source| Error::File {
        path: file.to_owned(),
        source,
    })?;
    output::note(format!("Written to {}: it holds a key.", file.display()));
    Ok(())
}

/// Take a context out of a file
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl context import prod prod.context
  ssh manager swarmctl client create laptop --role operator -o - | swarmctl context import prod -")]
pub(crate) struct Import {
    /// What to call it here
    name: String,
    /// Where from; - is standard input
    file: PathBuf,
}

impl Import {
    fn run(self, shelf: &Shelf) -> Result<(), Error> {
        let read = if self.file == Path::new("-") {
            let mut text = String::new();
            let input = std::io::stdin().take(LEN_MAX);
            { input }.read_to_string(&mut text).map(|_| text)
        } else {
            read_bounded(&self.file)
        };
        let text = read.map_err(|source| Error::File {
            path: self.file,
            source,
        })?;
        let mut document = Document::parse(&text)?;
        document.name = self.name;
        shelf.create(&document)?;
        Ok(output::line(document.name)?)
    }
}
