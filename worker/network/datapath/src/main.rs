//! The datapath program: `swarm-datapath --socket PATH --release DIGEST`, started by the daemon, never
//! by people.

use std::process::ExitCode;

fn main() -> ExitCode {
    match datapath::process::main(std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
