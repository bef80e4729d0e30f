//! The story the demo tells, as a test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use harness::story::{Silent, Story};

#[test]
fn the_whole_story_comes_out_as_told() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    Story::new(&mut lab, &mut Silent, None).tell().unwrap();
}
