//! Rules of the house that no other tool checks: opening sentences, sizes, layers, paths in docs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build::cargo;

/// Lines of a source file at most (style: 400 typical).
const FILE_LINES_MAX: usize = 800;

/// File names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 4] = ["utils.rs", "helpers.rs", "common.rs", "misc.rs"];

/// Documents whose `code` paths must exist.
const DOCS: [&str; 3] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"];

/// Crates of the manager's side; none may know the worker's, nor the other way round.
const MANAGER_SIDE: &[&str] = &[
    "swarm-manager",
    "swarm-store",
    "swarm-raft",
    "swarm-control-api",
    "swarm-orchestrator",
    "swarm-allocator",
    "swarm-scheduler",
    "swarm-dispatcher",
    "swarm-log-broker",
    "swarm-signer",
];
const WORKER_SIDE: &[&str] = &[
    "swarm-worker",
    "swarm-agent",
    "swarm-executor",
    "swarm-image",
    "swarm-container",
    "swarm-nft",
    "swarm-shim",
    "swarm-network",
    "swarm-tunnel",
    "swarm-datapath",
    "swarm-datapath-client",
];

/// What a crate may depend on of ours, where that is narrower than its side.
const ONLY: &[(&str, &[&str])] = &[
    ("swarm-types", &[]),
    ("swarm-seal", &[]),
    ("swarm-proto", &["swarm-types"]),
    ("swarm-ca", &["swarm-types"]),
    ("swarm-raft", &["swarm-proto"]),
    ("swarm-store", &["swarm-types", "swarm-proto"]),
    ("swarm-allocator", &["swarm-types", "swarm-store"]),
    ("swarm-scheduler", &["swarm-types", "swarm-store"]),
    (
        "swarm-orchestrator",
        &[
            "swarm-types",
            "swarm-store",
            "swarm-allocator",
            "swarm-scheduler",
        ],
    ),
    ("swarm-executor", &["swarm-types", "swarm-seal"]),
    ("swarm-image", &["swarm-types"]),
    ("swarm-container", &["swarm-types"]),
    ("swarm-tunnel", &["swarm-types"]),
    ("swarm-nft", &[]),
    ("swarm-datapath-client", &["swarm-types", "swarm-tunnel"]),
    (
        "swarm-datapath",
        &["swarm-types", "swarm-datapath-client", "swarm-tunnel"],
    ),
    (
        "swarmctl",
        &["swarm-types", "swarm-proto", "swarm-seal", "swarm-ca"],
    ),
];

/// Every rule at once.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut wrong = Vec::new();
    for file in sources(root)? {
        let text = std::fs::read_to_string(&file)?;
        let name = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .display()
            .to_string();
        check_source(&name, &text, &mut wrong);
    }
    check_layers(&dependencies(root)?, &mut wrong);
    for doc in DOCS {
        let text = std::fs::read_to_string(root.join(doc)).with_context(|| doc.to_owned())?;
        check_doc(root, doc, &text, &mut wrong);
    }
    if !wrong.is_empty() {
        bail!("tidy:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

fn check_source(name: &str, text: &str, wrong: &mut Vec<String>) {
    let first = text.lines().find(|line| !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//! ")) {
        wrong.push(format!(
            "{name}: opens without a `//!` sentence saying what it owns"
        ));
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        wrong.push(format!("{name}: {lines} lines, at most {FILE_LINES_MAX}"));
    }
    if EMPTY_NAMES
        .iter()
        .any(|empty| name.ends_with(&format!("/{empty}")))
    {
        wrong.push(format!("{name}: the name says nothing"));
    }
    if text.contains(concat!("allow(unsafe", "_code)")) {
        wrong.push(format!("{name}: allows unsafe code without a reason"));
    }
}

fn check_layers(dependencies: &BTreeMap<String, Vec<String>>, wrong: &mut Vec<String>) {
    for (package, uses) in dependencies {
        for (of, other) in [(MANAGER_SIDE, WORKER_SIDE), (WORKER_SIDE, MANAGER_SIDE)] {
            if of.contains(&package.as_str()) {
                for used in uses.iter().filter(|used| other.contains(&used.as_str())) {
                    wrong.push(format!(
                        "{package} uses {used}: managers and workers are strangers"
                    ));
                }
            }
        }
        if let Some((_, only)) = ONLY.iter().find(|(name, _)| name == package) {
            for used in uses.iter().filter(|used| !only.contains(&used.as_str())) {
                wrong.push(format!("{package} uses {used}: it may only use {only:?}"));
            }
        }
    }
}

/// Words in backticks that look like paths of the tree must exist.
fn check_doc(root: &Path, doc: &str, text: &str, wrong: &mut Vec<String>) {
    let mut in_block = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        for word in line.split('`').skip(1).step_by(2) {
            let path = word.split_once("::").map_or(word, |(path, _)| path);
            let first = path.split('/').next().unwrap_or("");
            let ours = path.contains('/') && !path.contains(' ') && root.join(first).exists();
            if ours
                && !first.is_empty()
                && !path.contains(['*', '{', '<'])
                && !root.join(path).exists()
            {
                wrong.push(format!("{doc}:{}: {path} does not exist", number + 1));
            }
        }
    }
}

fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .current_dir(root)
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.rs",
        ])
        .output()
        .context("asking git for the sources")?;
    let list = String::from_utf8(output.stdout)?;
    Ok(list
        .lines()
        .map(|line| root.join(line))
        .filter(|path| path.is_file())
        .collect())
}

/// Our packages and which of ours each uses, tests apart.
fn dependencies(root: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let output = Command::new(cargo())
        .current_dir(root)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .output()
        .context("asking cargo for the packages")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().context("packages")? {
        let name = package["name"].as_str().context("name")?.to_owned();
        let uses = package["dependencies"].as_array().context("dependencies")?;
        let ours = uses
            .iter()
            .filter(|used| used["path"].is_string() && used["kind"].is_null())
            .filter_map(|used| Some(used["name"].as_str()?.to_owned()))
            .collect();
        found.insert(name, ours);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        check(&crate::build::root()).unwrap();
    }

    #[test]
    fn rules_are_noticed_when_broken() {
        let mut wrong = Vec::new();
        check_source("a/utils.rs", "fn main() {}\n", &mut wrong);
        check_source(
            "a/long.rs",
            &format!("//! Long.\n{}", "\n".repeat(900)),
            &mut wrong,
        );
        let uses = |of: &str, used: &str| (of.to_owned(), vec![used.to_owned()]);
        let layers = BTreeMap::from([
            uses("swarm-dispatcher", "swarm-agent"),
            uses("swarm-scheduler", "swarm-raft"),
        ]);
        check_layers(&layers, &mut wrong);
        check_doc(
            &crate::build::root(),
            "X.md",
            "see `xtask/src/nowhere.rs`",
            &mut wrong,
        );
        assert_eq!(wrong.len(), 6, "{wrong:#?}");
    }
}
