//! The targets on stable Rust: every file of the corpus, each of them damaged, and random bytes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use fuzz_targets::{TARGETS, run};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

mod seeds;

/// Random inputs for each target, beside the corpus.
const CASES: u32 = 256;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target)
}

fn files(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = std::fs::read_dir(corpus(target))
        .unwrap_or_else(|error| panic!("the corpus of {target}: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

#[test]
fn the_corpus_is_there_and_harmless() {
    if std::env::var_os("SWARM_WRITE_CORPUS").is_some() {
        for (target, name, data) in seeds::all() {
            std::fs::create_dir_all(corpus(target)).unwrap();
            std::fs::write(corpus(target).join(name), data).unwrap();
        }
    }
    for (target, _) in TARGETS {
        let files = files(target);
        assert!(!files.is_empty(), "{target} has no corpus");
        for file in files {
            run(target, &file);
        }
    }
}

#[test]
fn every_rpc_is_in_the_corpus() {
    let files = files("rpc_request");
    for path in proto::RPCS {
        let prefix = [path.as_bytes(), &[0]].concat();
        assert!(
            files.iter().any(|file| file.starts_with(&prefix)),
            "{path}: run `SWARM_WRITE_CORPUS=1 cargo test -p swarm-fuzz-targets`"
        );
    }
}

#[test]
fn damaged_and_random_bytes_are_refused_and_nothing_else() {
    for (target, _) in TARGETS {
        let corpus = files(target);
        let damaged = (
            proptest::sample::select(corpus),
            proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            any::<prop::sample::Index>(),
        )
            .prop_map(|(mut data, changes, cut)| {
                for (at, byte) in changes {
                    if !data.is_empty() {
                        let at = at.index(data.len());
                        data[at] = byte;
                    }
                }
                data.truncate(cut.index(data.len() + 1).max(data.len() / 2));
                data
            });
        let random = proptest::collection::vec(any::<u8>(), 0..512);
        let config = Config {
            failure_persistence: None,
            ..Config::with_cases(CASES)
        };
        TestRunner::new(config)
            .run(&prop_oneof![damaged, random], |data| {
                run(target, &data);
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{target}: {error}"));
    }
}
