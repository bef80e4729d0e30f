//! `check`, which writes nothing, and `fix`, the only one that does.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::build::{cargo, root, run};
use crate::tidy;

pub(crate) fn check() -> Result<()> {
    run(Command::new(cargo())
        .current_dir(root())
        .args(["fmt", "--all", "--check"]))?;
    run(Command::new(cargo()).current_dir(root()).args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    tidy::check(&root())?;
    deny()
}

pub(crate) fn fix() -> Result<()> {
    run(Command::new(cargo()).current_dir(root()).args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
        "--allow-staged",
    ]))?;
    run(Command::new(cargo())
        .current_dir(root())
        .args(["fmt", "--all"]))
}

/// Licences and advisories, where the tool is installed.
fn deny() -> Result<()> {
    let mut version = Command::new("cargo-deny");
    version
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !version.status().is_ok_and(|status| status.success()) {
        println!("skipped: cargo-deny is not installed (cargo install cargo-deny)");
        return Ok(());
    }
    run(Command::new("cargo-deny")
        .current_dir(root())
        .args(["check", "bans", "licenses", "sources"]))
}
