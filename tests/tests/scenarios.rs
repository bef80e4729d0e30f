//! Golden scenarios: each script in `scenarios/` shows what its `.golden` file says.
//!
//! `UPDATE_GOLDEN=1 cargo test -p swarm-tests --test scenarios` writes the files anew; read the
//! difference before committing it.

use std::path::{Path, PathBuf};

fn scripts() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = std::fs::read_dir(&directory).expect("the scenarios are checked in");
    let mut scripts: Vec<_> = entries
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    scripts.sort();
    scripts
}

#[test]
fn every_scenario_shows_what_it_did_before() {
    let updates = std::env::var_os("UPDATE_GOLDEN").is_some();
    let scripts = scripts();
    assert!(scripts.len() >= 15, "scenarios are missing: {scripts:?}");
    let mut differing = Vec::new();
    for script in scripts {
        let text = std::fs::read_to_string(&script).expect("a readable script");
        let shown = match std::panic::catch_unwind(|| swarm_tests::scenario::run(&text)) {
            Ok(Ok(shown)) => shown,
            Ok(Err(error)) => panic!("{}: {error:#}", script.display()),
            Err(_) => panic!("{}: broke a rule, see above", script.display()),
        };
        let golden = script.with_extension("golden");
        if updates {
            std::fs::write(&golden, &shown).expect("a writable golden file");
            continue;
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if shown != expected {
            differing.push(difference(&script, &expected, &shown));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// The first line that differs, with what came right before it.
fn difference(script: &Path, expected: &str, shown: &str) -> String {
    let pairs = expected.lines().zip(shown.lines());
    let same = pairs
        .take_while(|(expected, shown)| expected == shown)
        .count();
    let from = same.saturating_sub(3);
    let part = |text: &str| {
        text.lines()
            .skip(from)
            .take(8)
            .collect::<Vec<_>>()
            .join("\n")
    };
    format!(
        "{}: line {}\n--- expected\n{}\n--- shown\n{}",
        script.display(),
        same + 1,
        part(expected),
        part(shown)
    )
}
