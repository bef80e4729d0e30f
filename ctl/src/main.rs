//! `swarmctl`: what people and scripts type to run a swarm.
//!
//! Exit codes: 0 when it was done, 1 for an error of the daemon or the cluster, 2 for a wrong
//! command line, 130 when waiting was interrupted (what was asked for goes on).

mod cli;
mod client;
mod config;
mod connect;
mod content;
mod context;
mod error;
mod filter;
mod format;
mod human;
mod image;
mod info;
mod natural;
mod network;
mod node;
mod output;
mod parse;
mod secret;
mod secret_input;
mod service;
mod swarm;
mod table;
mod task_list;
mod template;
mod token;

use std::process::ExitCode;

use clap::Parser as _;

use crate::error::Error;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.tell();
            ExitCode::from(error.exit_code())
        }
    }
}

fn run() -> Result<(), Error> {
    let cli = cli::Cli::parse();
    // One thread is enough to wait for answers, and starts in no time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Failed(format!("starting the runtime: {error}")))?;
    let result = runtime.block_on(cli.run());
    // A thread may still wait for standard input; nobody needs what it would read.
    runtime.shutdown_background();
    result
}
