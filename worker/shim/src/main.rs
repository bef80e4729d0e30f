//! The shim program: `swarm-shim DIRECTORY`, started by the daemon, never by people.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(dir) => container::shim::run(Path::new(&dir)),
        None => ExitCode::FAILURE,
    }
}
