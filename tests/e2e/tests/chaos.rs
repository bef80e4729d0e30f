//! Random kills of daemons, shims and containers: no acknowledged write is lost, all heals.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use harness::story::{MANAGERS, Silent, Story, WORKERS};
use harness::wait_for;
use swarm_e2e::Dice;

/// Rounds of one kill and one write each.
const ROUNDS: usize = 20;

/// How long a write may take while a daemon is down or a leader is being found.
const WRITE_MAX: Duration = Duration::from_secs(20);

#[test]
fn twenty_kills_lose_no_write_and_the_swarm_heals() {
    let seed = std::env::var("SWARM_CHAOS_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    let mut silent = Silent;
    let mut dice = Dice::new(seed);
    let mut story = Story::new(&mut lab, &mut silent, None);
    story.form().unwrap();
    story.load_images().unwrap();
    story.create_web().unwrap();
    story.create_second().unwrap();

    for round in 0..ROUNDS {
        kill_something_and_write(&story, &mut dice, round, seed);
    }

    story.wait_nodes_ready(MANAGERS + WORKERS).unwrap();
    story.wait_replicas("web", "5/5").unwrap();
    story.wait_replicas("second", "2/2").unwrap();
    every_write_is_everywhere(&story, seed);
    exactly_seven_containers(&story);
}

/// One kill at random, one write while the wound is fresh.
fn kill_something_and_write(story: &Story<'_>, dice: &mut Dice, round: usize, seed: u64) {
    let victim = story.lab.node(dice.below(MANAGERS + WORKERS));
    let what = ["swarmd", "swarm-shim", "web"][dice.below(3)];
    for node in story.lab.nodes() {
        node.remark(&format!("round {round}: {what} of {}", victim.name()))
            .unwrap();
    }
    let pids = victim.pids_of(what).unwrap();
    if what == "swarmd" {
        victim.stop_daemon(9).unwrap();
    } else if !pids.is_empty() {
        // It may have ended by itself since it was seen.
        drop(victim.signal(pids[dice.below(pids.len())], 9));
    }
    let label = format!("kill-{round}={what}");
    let start = Instant::now();
    let mut asked = round;
    wait_for(
        &format!("round {round}'s write (seed {seed})"),
        WRITE_MAX,
        || {
            asked += 1;
            let manager = story.lab.node(asked % MANAGERS);
            let update = ["service", "update", "-d", "--label-add", &label, "second"];
            Ok(manager
                .ctl(&update)
                .map(drop)
                .map_err(|e| format!("{:?}: {e:#}", start.elapsed())))
        },
    )
    .unwrap();
    if what == "swarmd" {
        victim.start_daemon().unwrap();
    }
}

/// What was acknowledged is on every manager, those that were killed included.
fn every_write_is_everywhere(story: &Story<'_>, seed: u64) {
    for manager in &story.lab.nodes()[..MANAGERS] {
        let labels = [
            "service",
            "inspect",
            "--format",
            "{{json .Spec.Labels}}",
            "second",
        ];
        // A manager just restarted may still be catching up.
        wait_for(
            &format!("every write on {} (seed {seed})", manager.name()),
            WRITE_MAX,
            || {
                let labels = manager.ctl(&labels)?;
                let lost: Vec<usize> = (0..ROUNDS)
                    .filter(|n| !labels.contains(&format!("\"kill-{n}\"")))
                    .collect();
                Ok(if lost.is_empty() {
                    Ok(())
                } else {
                    Err(format!("lost {lost:?} of {labels}"))
                })
            },
        )
        .unwrap();
    }
}

/// As many containers as declared, no more: nothing killed was forgotten and left running.
fn exactly_seven_containers(story: &Story<'_>) {
    wait_for("exactly seven containers", WRITE_MAX, || {
        let mut count = 0;
        for node in story.lab.nodes() {
            count += node.pids_of("web")?.len();
        }
        Ok(if count == 7 {
            Ok(())
        } else {
            Err(format!("{count} containers"))
        })
    })
    .unwrap();
}
