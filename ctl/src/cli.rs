//! The command line's top: options for all commands, and the nouns.

use clap::{Parser, Subcommand};

use crate::connect::{HOST_DEFAULT, Host};
use crate::error::Error;
use crate::{config, image, info, node, secret, service, swarm};

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
    /// The daemon's socket
    #[arg(short = 'H', long, env = "SWARMCTL_HOST", default_value = HOST_DEFAULT, value_name = "unix:///PATH")]
    host: String,
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
    /// Images on this machine
    Image {
        #[command(subcommand)]
        verb: image::Verb,
    },
    #[command(alias = "status")]
    Info(info::Info),
}

impl Cli {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let host = &Host::new(self.host);
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
            Command::Image { verb } => verb.run(host).await,
            Command::Info(command) => command.run(host).await,
        }
    }
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
