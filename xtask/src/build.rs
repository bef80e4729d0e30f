//! Building the programs, and where they end up.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use harness::Programs;

/// Packages whose programs a cluster consists of.
const PROGRAM_PACKAGES: [&str; 6] = [
    "swarmd",
    "swarmctl",
    "swarm-shim",
    "swarm-datapath",
    "web-example",
    "swarm-harness",
];

/// Builds the programs and finds them.
pub(crate) fn programs(release: bool) -> Result<(Programs, PathBuf)> {
    let mut build = Command::new(cargo());
    build.current_dir(root()).args(["build", "--bins"]);
    for package in PROGRAM_PACKAGES {
        build.args(["-p", package]);
    }
    if release {
        build.arg("--release");
    }
    run(&mut build)?;
    let dir = target_dir()?
        .join(host()?)
        .join(if release { "release" } else { "debug" });
    Ok((Programs::in_dir(&dir)?, dir))
}

/// Runs a command, failing when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("running {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// The cargo that runs us.
pub(crate) fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Root of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}

fn target_dir() -> Result<PathBuf> {
    let output = Command::new(cargo())
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("asking cargo for the target directory")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(metadata["target_directory"]
        .as_str()
        .context("cargo names its target directory")?
        .into())
}

/// Target triple of this machine: builds name it, so it is part of the output path.
fn host() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("running rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names its host")?.to_owned())
}
