//! `bench`: builds everything for speed and runs the measurements of `tests/bench`.

use std::process::Command;

use anyhow::Result;
use harness::programs::BIN_DIR_VAR;

use crate::build::{self, cargo, root, run};
use crate::packages;

pub(crate) fn run_all(options: &[&str]) -> Result<()> {
    packages::install();
    let (_, bin_dir) = build::programs(true)?;
    let mut bench = Command::new(cargo());
    bench
        .current_dir(root())
        .args(["run", "--release", "--quiet", "-p", "swarm-bench", "--"]);
    run(bench.args(options).env(BIN_DIR_VAR, bin_dir))
}
