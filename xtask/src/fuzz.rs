//! `fuzz`: drives the fuzz targets with libFuzzer, where cargo-fuzz and a nightly compiler are.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::build::{root, run};

/// How long each target runs unless told otherwise.
const SECONDS_DEFAULT: u64 = 60;

/// Runs one target, or all of them one after the other.
pub(crate) fn fuzz(words: &[&str]) -> Result<()> {
    let (target, seconds) = match words {
        [] => (None, SECONDS_DEFAULT),
        ["--seconds", seconds] => (None, seconds.parse().context("--seconds")?),
        [target] => (Some(*target), SECONDS_DEFAULT),
        [target, "--seconds", seconds] => (Some(*target), seconds.parse().context("--seconds")?),
        _ => bail!("fuzz takes a target and --seconds NUMBER, not {words:?}"),
    };
    if !answers(Command::new("cargo").args(["+nightly", "fuzz", "--version"])) {
        println!(
            "skipped: cargo-fuzz or a nightly compiler is not installed (cargo install cargo-fuzz; \
             rustup toolchain install nightly). The same targets run under cargo test -p \
             swarm-fuzz-targets"
        );
        return Ok(());
    }
    let targets = match target {
        Some(target) => vec![target.to_owned()],
        None => targets()?,
    };
    for target in targets {
        println!("{target}: {seconds} s");
        // What is found new goes into `artifacts` and the build's directory, not into the corpus
        // that is committed.
        let corpus = root().join("fuzz/corpus").join(&target);
        let grown = root().join("target/fuzz-corpus").join(&target);
        std::fs::create_dir_all(&grown).with_context(|| grown.display().to_string())?;
        run(Command::new("cargo")
            .current_dir(root())
            .args(["+nightly", "fuzz", "run", &target])
            .args([&grown, &corpus])
            .args(["--", "-max_len=65536", "-timeout=10", "-rss_limit_mb=2048"])
            .arg(format!("-max_total_time={seconds}")))?;
    }
    Ok(())
}

fn answers(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Names of all targets: the files of `fuzz/fuzz_targets`.
fn targets() -> Result<Vec<String>> {
    let dir = root().join("fuzz/fuzz_targets");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .with_context(|| dir.display().to_string())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|file| file.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}
