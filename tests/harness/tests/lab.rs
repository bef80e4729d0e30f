//! A lab's machines run programs, can be cut off and switched off, and leave nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use swarm_harness::{Lab, LabOptions, Programs, eventually, wait_for};

#[test]
fn machines_come_go_and_leave_nothing() {
    if let Some(reason) = swarm_harness::unavailable() {
        println!("skipped: {reason}");
        return;
    }
    let Ok(programs) = Programs::find() else {
        println!("skipped: the programs are not built; run `cargo xtask test`");
        return;
    };
    // The example service stands in for a daemon: it listens and ends when told to.
    let programs = Programs {
        swarmd: programs.web.clone(),
        ..programs
    };
    let mut lab = Lab::new(LabOptions::new(programs)).unwrap();
    let dir = lab.dir().to_owned();
    for _ in 0..2 {
        let index = lab.add_node().unwrap();
        lab.node(index).launch_daemon().unwrap();
    }
    let limit = Duration::from_secs(10);
    let page = |lab: &Lab, index: usize| lab.fetch(lab.node(index).address(), 8080, "/");
    for index in 0..2 {
        let name = lab.node(index).name().to_owned();
        wait_for("a page", limit, || {
            let page = page(&lab, index).map_err(|error| format!("{error:#}"));
            Ok(page.and_then(|p| if p.contains(&name) { Ok(()) } else { Err(p) }))
        })
        .unwrap();
    }

    lab.node(0).plug(false).unwrap();
    assert!(
        page(&lab, 0).is_err(),
        "a machine without its cable does not answer"
    );
    lab.node(0).plug(true).unwrap();
    eventually("the cable to work", limit, || Ok(page(&lab, 0).is_ok())).unwrap();

    let pid = lab.node(0).pids_of("web").unwrap()[0];
    assert!(lab.node(0).memory_kib(pid).unwrap() > 0);
    lab.node(0).stop_daemon(15).unwrap();
    assert!(lab.node(0).pids_of("web").unwrap().is_empty());
    assert!(
        lab.node(0).stop_daemon(15).is_err(),
        "there is none any more"
    );

    lab.node_mut(1).power_off();
    assert!(page(&lab, 1).is_err());
    assert!(lab.node(1).pids_of("web").is_err(), "it is off");
    lab.node_mut(1).power_on().unwrap();
    lab.node(1).launch_daemon().unwrap();
    eventually("it to be back", limit, || Ok(page(&lab, 1).is_ok())).unwrap();

    let namespaces = lab.namespaces();
    drop(lab);
    assert!(!dir.exists());
    for namespace in namespaces {
        assert!(
            !Path::new("/run/netns").join(&namespace).exists(),
            "{namespace} is left"
        );
    }
}
