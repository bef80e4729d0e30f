//! The command line's top: options for all commands, and the nouns.

use clap::{Parser, Subcommand};

use crate::connect::{HOST_DEFAULT, Host};
use crate::context::{DEFAULT, Shelf};
use crate::error::Error;
use crate::{client, config, context, image, info, network, node, secret, service, swarm, token};

/// Runs a swarm: services kept running on many machines
#[derive(Debug, Parser)]
#[command(
    name = "swarmctl",
    version,
    disable_help_subcommand = true,
    after_help = "Examples:
  swarmctl init                                  Make this machine the first of a swarm
  swarmctl join --token-file t 10.0.0.1:2377     Join one
  swarmctl service create --name web --replicas 3 web:1
  swarmctl service ps web

Exit codes: 0 done, 1 error of the daemon or the cluster, 2 wrong command line, 130 interrupted"
)]
pub(crate) struct Cli {
    /// The daemon's socket [env: SWARM_HOST] [default: that of the context in use]
    #[arg(
        short = 'H',
        long,
        value_name = "unix:///PATH",
        conflicts_with = "context"
    )]
    host: Option<String>,
    /// The context: which cluster is asked [env: SWARM_CONTEXT] [default: the one in use]
    #[arg(short, long, value_name = "NAME")]
    context: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(swarm::init::Init),
    Join(swarm::join::Join),
    Leave(swarm::leave::Leave),
    JoinToken(swarm::join_token::JoinToken),
    Update(swarm::update::Update),
    Unlock(swarm::unlock::Unlock),
    UnlockKey(swarm::unlock_key::UnlockKey),
    /// Make, join and leave a swarm
    Swarm {
        #[command(subcommand)]
        verb: swarm::Verb,
    },
    /// The machines of the swarm
    Node {
        #[command(subcommand)]
        verb: node::Verb,
    },
    /// What the swarm keeps running
    Service {
        #[command(subcommand)]
        verb: service::Verb,
    },
    /// Content only the tasks that use it see
    Secret {
        #[command(subcommand)]
        verb: secret::Verb,
    },
    /// Content tasks can read
    Config {
        #[command(subcommand)]
        verb: config::Verb,
    },
    /// What connects containers
    Network {
        #[command(subcommand)]
        verb: network::Verb,
    },
    /// Images on this machine
    Image {
        #[command(subcommand)]
        verb: image::Verb,
    },
    /// Join tokens made for a purpose
    Token {
        #[command(subcommand)]
        verb: token::Verb,
    },
    /// Who may ask this cluster from other machines
    Client {
        #[command(subcommand)]
        verb: client::Verb,
    },
    /// Which cluster commands ask
    Context {
        #[command(subcommand)]
        verb: context::Verb,
    },
    #[command(alias = "status")]
    Info(info::Info),
}

impl Cli {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let meant = self.meant()?;
        let host = &match (&meant, &self.command) {
            // A context that is damaged must not be in the way of removing it.
            (_, Command::Context { .. }) => Host::socket(HOST_DEFAULT.to_owned()),
            (Meant::Host(host), _) => Host::socket(host.clone()),
            (Meant::Context(name), _) if name == DEFAULT => Host::socket(HOST_DEFAULT.to_owned()),
            (Meant::Context(name), _) => Host::context(Shelf::of_user()?.read(name)?),
        };
        match self.command {
            Command::Init(command) => command.run(host).await,
            Command::Join(command) => command.run(host).await,
            Command::Leave(command) => command.run(host).await,
            Command::JoinToken(command) => command.run(host).await,
            Command::Update(command) => command.run(host).await,
            Command::Unlock(command) => command.run(host).await,
            Command::UnlockKey(command) => command.run(host).await,
            Command::Swarm { verb } => verb.run(host).await,
            Command::Node { verb } => verb.run(host).await,
            Command::Service { verb } => verb.run(host).await,
            Command::Secret { verb } => verb.run(host).await,
            Command::Config { verb } => verb.run(host).await,
            Command::Network { verb } => verb.run(host).await,
            Command::Image { verb } => verb.run(host).await,
            Command::Info(command) => command.run(host).await,
            Command::Token { verb } => verb.run(host).await,
            Command::Client { verb } => verb.run(host).await,
            Command::Context { verb } => verb.run(match &meant {
                Meant::Context(name) => name,
                Meant::Host(_) => "",
            }),
        }
    }

    /// Flags count more than the environment, and that more than what was chosen for good.
    fn meant(&self) -> Result<Meant, Error> {
        let set = |name| {
            std::env::var(name)
                .ok()
                .filter(|it: &String| !it.is_empty())
        };
        if let Some(host) = &self.host {
            return Ok(Meant::Host(host.clone()));
        }
        if let Some(context) = &self.context {
            return Ok(Meant::Context(context.clone()));
        }
        // The second is the name of earlier releases.
        if let Some(host) = set("SWARM_HOST").or_else(|| set("SWARMCTL_HOST")) {
            return Ok(Meant::Host(host));
        }
        if let Some(context) = set("SWARM_CONTEXT") {
            return Ok(Meant::Context(context));
        }
        // Services have no home, and need none to reach this machine's daemon.
        let current = match Shelf::of_user() {
            Ok(shelf) => shelf.current()?,
            Err(_) => None,
        };
        Ok(Meant::Context(
            current.unwrap_or_else(|| DEFAULT.to_owned()),
        ))
    }
}

/// Whom the command line means.
#[derive(Debug)]
enum Meant {
    /// The daemon at this socket.
    Host(String),
    /// The context of this name.
    Context(String),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_shows_examples() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                command
                    .get_subcommands()
                    .for_each(|verb| check(verb, &path));
            } else {
                let help = command
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(help.starts_with("Examples:\n  swarmctl "), "{path}: {help}");
                assert!(command.get_about().is_some(), "{path} says what it does");
            }
        }
        check(&super::Cli::command(), "");
    }
}
