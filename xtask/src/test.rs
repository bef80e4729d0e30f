//! `test`: installs what tests need, builds the programs, runs everything, counts honestly.
//!
//! Rust's own test harness knows no skipping at run time: a test that cannot run here prints
//! `skipped: <reason>` and returns. Those lines are looked for, so that such a test is counted
//! as skipped and never as passed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use harness::programs::BIN_DIR_VAR;

use crate::build::{self, cargo, root};
use crate::packages;

pub(crate) fn run(filter: &[&str]) -> Result<()> {
    packages::install();
    let (_, bin_dir) = build::programs(false)?;
    let mut child = Command::new(cargo())
        .current_dir(root())
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(filter)
        .args(["--", "--show-output"])
        .env(BIN_DIR_VAR, bin_dir)
        .stdout(Stdio::piped())
        .spawn()
        .context("running cargo test")?;
    let stdout = child.stdout.take().context("its stdout was asked for")?;
    let mut count = Count::default();
    for line in BufReader::new(stdout).lines() {
        if let Some(line) = count.read(&line.context("reading cargo test")?) {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    for (test, reason) in &count.skipped {
        println!("skipped {test}: {reason}");
    }
    let passed = count.passed.saturating_sub(count.skipped.len());
    println!(
        "{passed} passed, {} failed, {} skipped",
        count.failed,
        count.skipped.len()
    );
    if !status.success() {
        bail!("cargo test failed: {status}");
    }
    Ok(())
}

/// What the lines of `cargo test -- --show-output` add up to.
#[derive(Debug, Default)]
struct Count {
    passed: usize,
    failed: usize,
    /// Test and reason.
    skipped: Vec<(String, String)>,
    /// Inside the output of tests that succeeded: shown only where a test skipped.
    in_successes: bool,
    test: String,
}

impl Count {
    /// Takes a line in; returns it if it is to be shown.
    fn read(&mut self, line: &str) -> Option<String> {
        if line == "successes:" {
            self.in_successes = true;
        } else if line == "failures:" {
            self.in_successes = false;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.in_successes = false;
            let number = |what: &str| -> usize {
                let mut words = result.split([' ', ';']).filter(|word| !word.is_empty());
                let mut last = "";
                words
                    .find_map(|word| {
                        let found = (word == what).then(|| last.parse().ok()).flatten();
                        last = word;
                        found
                    })
                    .unwrap_or(0)
            };
            self.passed += number("passed");
            self.failed += number("failed");
        } else if let Some(name) = line.strip_prefix("---- ") {
            self.test = name.trim_end_matches(" stdout ----").to_owned();
        } else if let Some(reason) = line.strip_prefix("skipped: ") {
            if self.in_successes {
                self.skipped.push((self.test.clone(), reason.to_owned()));
            } else if let Some((reason, name)) = reason.rsplit_once(" (") {
                // Written past the capture of output: the test names itself.
                let test = name.trim_end_matches(')').to_owned();
                self.skipped.push((test, reason.to_owned()));
            }
        }
        // One line a passing test says nothing; what failed is shown whole.
        let noise = self.in_successes || line.is_empty() || line.ends_with(" ... ok");
        (!noise).then(|| line.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_tests_are_not_counted_as_passed() {
        let output = "\
running 3 tests
test a ... ok
test b ... ok
test c ... FAILED

successes:

---- a stdout ----
skipped: needs root

---- b stdout ----
all is well

successes:
    a
    b

failures:

---- c stdout ----
it broke

failures:
    c

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        let mut count = Count::default();
        let shown: Vec<String> = output.lines().filter_map(|line| count.read(line)).collect();
        assert_eq!(count.skipped, [("a".to_owned(), "needs root".to_owned())]);
        assert_eq!((count.passed, count.failed), (2, 1));
        assert!(shown.iter().any(|line| line == "it broke"));
        assert!(!shown.iter().any(|line| line == "all is well"));
    }
}
