//! The one entry point of a developer: `cargo xtask <verb>`.

use std::process::ExitCode;

use anyhow::{Result, bail};

mod bench;
mod build;
mod check;
mod demo;
mod fuzz;
mod packages;
mod test;
mod tidy;

const USAGE: &str = "\
cargo xtask VERB

  check           fmt --check, clippy, tidy, cargo-deny where installed; writes nothing
  fix             fmt, clippy --fix
  test [FILTER]   every test: installs what tests need, builds, runs
  demo            a five-node swarm on this machine, its whole story, nothing left behind
                    --image FILE   run this image archive instead of the example service
                    --keep         leave the cluster running, with instructions to talk to it
  bench           measures the promises in speed and memory
                    --peer         also measures Docker's swarm in the same run
                    NAME...        only these measurements
  fuzz [TARGET]   drives the fuzz targets with libFuzzer, where cargo-fuzz is installed
                    --seconds N    so long each; 60 unless given
  ci              check + test: what is run before a change lands";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<()> {
    match args {
        ["check"] => check::check(),
        ["fix"] => check::fix(),
        ["test", filter @ ..] => test::run(filter),
        ["demo", options @ ..] => demo::run(options),
        ["fuzz", words @ ..] => fuzz::fuzz(words),
        ["bench", options @ ..] => bench::run_all(options),
        ["ci"] => {
            check::check()?;
            test::run(&[])
        }
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("unknown words {args:?}\n\n{USAGE}"),
    }
}
